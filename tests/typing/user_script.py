"""What a user's script looks like to a type checker; checked, never run (test_user_script.py)."""

from pathlib import Path
from typing import Any, assert_type

import jax
import numpy as np
from flax import nnx

import vit_jax_xfer as vjx
from vit_jax_xfer.models.filter.network import FilterViT
from vit_jax_xfer.models.lifting.lift import LiFT
from vit_jax_xfer.models.protocol import Network

assert_type(vjx.list_models("vit_*"), list[str])
student = vjx.create_model("vit_base_patch16", num_classes=10)
assert_type(student, vjx.VisionTransformer)
assert_type(vjx.create_model("mae_vit_base_patch16"), vjx.MaskedAutoencoder)
assert_type(vjx.create_model("filter_vit_xs"), FilterViT)
assert_type(vjx.create_model("vit_base_patch16_224.augreg_in21k"), Network)

teacher, teacher_variables = vjx.load_pretrained(Path("dinov2.pth"), family="dinov2")
assert_type(teacher, vjx.VisionTransformer)
assert_type(teacher_variables, dict[str, Any])
assert_type(vjx.load_pretrained("lift.pth", family="lift")[0], LiFT)
network, variables = vjx.load_pretrained("runs/mae")
assert_type(network, Network)

images = vjx.preprocess(teacher, "photo.jpg")
assert_type(images, np.ndarray)
out = vjx.extract(teacher, teacher_variables, images, attention=True)
assert_type(out.attention, jax.Array | None)
assert_type(out.tokens, jax.Array)

logits, loss = vjx.transfer_forward(
    student, variables, teacher, teacher_variables, images, mode="distill", layers=[0, -1]
)
assert_type(logits, jax.Array)
assert_type(loss, jax.Array)
vjx.transfer_forward(student, variables, teacher, teacher_variables, images, mode="distil")  # wrong

found = vjx.explain.attribute(student, variables, images, "legrad", target=np.array([3]))
assert_type(found.map, jax.Array)
features = vjx.dense.descriptors(teacher, teacher_variables, images, facet="key")
assert_type(features, jax.Array)
assert_type(vjx.detection.iou(np.zeros((2, 4)), np.zeros((3, 4))), jax.Array)

vjx.save("student.safetensors", student, variables, class_names=["ant", "bee"])
assert_type(vjx.to_nnx(student, variables, nnx.Rngs(dropout=0)), nnx.Module)
vjx.export_onnx("student.onnx", student, variables)
vjx.export_onnx("student.onnx", student, variables, batch_size="one")  # wrong
vjx.creat_model("vit_base_patch16")  # wrong

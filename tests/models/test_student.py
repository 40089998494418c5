"""A student like its teacher: which fields it has of it, part by part."""

import jax
import jax.numpy as jnp
import pytest

from vit_jax_xfer.models.mae import MaskedAutoencoder
from vit_jax_xfer.models.preprocessing import Preprocessing
from vit_jax_xfer.models.registry import build, create_model, field_types
from vit_jax_xfer.models.student import NATIVE_PARTS, student_like
from vit_jax_xfer.models.vit import VisionTransformer

SIZE = {
    "image_size": 24,
    "patch_size": 6,
    "drop_remainder": True,
    "width": 24,
    "depth": 3,
    "num_heads": 3,
    "mlp_dim": 40,
    "norm_eps": 1e-5,
    "position": "none",
    "position_resize": "bilinear_corners",
    "position_size": 12,
    "window_size": 0,  # which goes with patch tokens alone; test_vitdet.py
    "window_blocks": None,
    "conv_blocks": (),
    "final_norm": False,
    "in_channels": 4,
    "class_token": True,
    "preprocessing": Preprocessing((0.1, 0.2, 0.3), (1.0, 1.0, 1.0)),
}
# No field here is at its default.
NATIVE = {
    "layer_scale": 0.1,
    "registers": 2,
    "register_position": True,
    "class_position": False,
    "distillation_token": True,
    "distillation_head": False,
    "pre_norm": True,
    "activation": "quick_gelu",
    "mlp": "swiglu",
    "mlp_norm": True,
    "qkv_bias": "no_key",
    "qk_norm": True,
    "attention_norm": True,
    "relative_bias": "block",
    "relative_resize": "bilinear",
    "rotary": "eva02",
    "rotary_base": 10000.0,
    "rotary_grid": 7,
    "pool": "map",
    "patch_bias": False,
}
# How a network runs, its head and its start are not its teacher's to say.
OWN = {
    "num_classes": 7,
    "class_names": tuple("abcdefg"),
    "head_bias": False,
    "pre_logits": True,
    "mask_token": True,
    "drop_path": 0.3,
    "patch_stride": 3,
    "kernel_init": "xavier_uniform",
    "head_init_std": 1.0,
    "batch_norm": True,
    "dtype": jnp.bfloat16,
    "product_dtype": jnp.bfloat16,
    "attention": "blockwise",
    "blockwise_above": 3,
    "remat": "full",
    "scan": True,
}
TEACHER = VisionTransformer(**SIZE, **NATIVE, **OWN)
PLAIN = VisionTransformer(**{**SIZE, "mlp_dim": None, "position": "learned"})


def test_the_parts_are_these_fields():
    assert {field for fields in NATIVE_PARTS.values() for field in fields} == set(NATIVE)
    # A new field of the network is one of these three, or goes with `pool`.
    known = {*SIZE, *NATIVE, *OWN, "pool_norm", "parent", "name"}
    assert known == set(VisionTransformer.__dataclass_fields__)
    defaults = VisionTransformer()
    assert all(getattr(defaults, field) != value for field, value in {**NATIVE, **OWN}.items())


def test_all_parts_without_what_is_its_own():
    assert student_like(TEACHER) == VisionTransformer(**SIZE, **NATIVE)
    assert student_like(TEACHER, list(NATIVE_PARTS)) == student_like(TEACHER)


def test_no_parts_is_the_plain_student():
    assert student_like(TEACHER, ()) == PLAIN


@pytest.mark.parametrize("part", NATIVE_PARTS)
def test_one_part_alone(part):
    fields = {field: NATIVE[field] for field in NATIVE_PARTS[part]}
    extra = {"swiglu": {"mlp_dim": 40}, "relative_bias": {"position": "none"}}
    extra["rotary"] = extra["relative_bias"]
    assert student_like(TEACHER, (part,)) == PLAIN.clone(**fields, **extra.get(part, {}))
    assert student_like(TEACHER, part) == student_like(TEACHER, [part])


@pytest.mark.parametrize(
    ("fields", "parts", "position"),
    [
        ({"position": "none", "rotary": "dinov3"}, ("registers",), "learned"),
        ({"position": "none", "relative_bias": "shared"}, ("registers",), "learned"),
        # Something still tells it where its patches are, or something else did before.
        ({"position": "none", "relative_bias": "shared"}, None, "none"),
        ({"position": "none"}, (), "none"),
        ({"position": "sincos", "rotary": "dinov3"}, (), "sincos"),
    ],
)
def test_positions_of_a_student(fields, parts, position):
    assert student_like(VisionTransformer(**fields), parts).position == position


@pytest.mark.parametrize(
    ("teacher", "parts", "fields", "pool", "pool_norm"),
    [
        ({"pool": "map", "class_token": False}, (), {}, "avg", None),
        ({"pool": "none", "num_classes": 0}, None, {}, "cls", None),
        ({"pool": "none", "class_token": False}, None, {}, "avg", None),
        ({"pool": "avg", "pool_norm": False}, (), {}, "avg", False),
        ({"pool": "cls_avg"}, (), {}, "cls_avg", None),
        ({"pool": "map", "pool_norm": True}, None, {}, "map", True),
        ({"pool": "map", "pool_norm": True}, None, {"pool": "avg"}, "avg", None),
        ({"pool": "cls"}, None, {"pool": "avg", "pool_norm": False}, "avg", False),
    ],
)
def test_what_the_students_head_sees(teacher, parts, fields, pool, pool_norm):
    student = student_like(VisionTransformer(**teacher), parts, **fields)
    assert (student.pool, student.pool_norm) == (pool, pool_norm)


@pytest.mark.parametrize("mlp", ["swiglu", "geglu"])
def test_a_plain_mlp_has_no_gate_to_make_room_for(mlp):
    teacher = VisionTransformer(mlp=mlp, mlp_dim=512)
    assert (student_like(teacher).mlp, student_like(teacher).mlp_dim) == (mlp, 512)
    plain = student_like(teacher, ())
    assert (plain.mlp, plain.mlp_dim) == ("plain", None)
    assert student_like(VisionTransformer(mlp_dim=512), ()).mlp_dim == 512


def test_fields_win():
    fields = {"depth": 1, "registers": 1, "mlp": "plain", "position": "sincos", **OWN}
    student = student_like(TEACHER, None, **fields)
    assert student == VisionTransformer(**{**SIZE, **NATIVE, **fields})


def test_a_masked_autoencoder_is_its_encoder():
    fields = {"image_size": 24, "patch_size": 6, "width": 24, "num_heads": 3, "position": "sincos"}
    teacher = build(MaskedAutoencoder, {**fields, "kernel_init": "xavier_uniform"})
    assert student_like(teacher) == VisionTransformer(**fields)


@pytest.mark.parametrize("parts", [None, ()])
def test_it_runs(parts):
    student = student_like(TEACHER, parts, num_classes=5)
    images = jax.ShapeDtypeStruct((2, 24, 24, 4), jnp.float32)
    variables = jax.eval_shape(student.init, jax.random.key(0), images)
    assert jax.eval_shape(student.apply, variables, images).shape == (2, 5)


@pytest.mark.parametrize(
    ("parts", "fields", "message"),
    [
        (("register",), {}, "parts: 'register' is none of .*did you mean 'registers'?"),
        ("layerscale", {}, "parts: 'layerscale' is none of .*did you mean 'layer_scale'"),
        ("-layerscale", {}, "parts: 'layerscale' is none of .*did you mean 'layer_scale'"),
        (("-rotary", "swiglu"), {}, "names some and leaves out others; do either"),
        (None, {"dept": 3}, "has no field 'dept'; did you mean 'depth'"),
        (None, {"parent": None}, "has no field 'parent'"),
    ],
)
def test_unknown_names_come_with_the_nearest(parts, fields, message):
    with pytest.raises(ValueError, match=message):
        student_like(TEACHER, parts, **fields)


def test_its_name_in_a_config():
    types = field_types("student_like")
    assert types.items() > field_types("vit_micro_patch4").items()
    assert set(types) - set(field_types("vit_micro_patch4")) == {"parts", "like"}
    with pytest.raises(ValueError, match="'student_like' has its size from a teacher; choose a"):
        create_model("student_like")

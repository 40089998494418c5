"""Models as JSON, and this project's own model directories."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vit_jax_xfer as vjx
from vit_jax_xfer.models.mae import MaskedAutoencoder
from vit_jax_xfer.models.preprocessing import CLIP, Preprocessing
from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.pretrained import load_pretrained
from vit_jax_xfer.pretrained.description import describe, from_description

SMALL = VisionTransformer(
    image_size=(16, 8), patch_size=4, width=32, depth=2, num_heads=2, num_classes=3
)
ENCODER = SMALL.clone(num_classes=0, pool="none", dtype=jnp.bfloat16)


@pytest.mark.parametrize("model", [SMALL, ENCODER, MaskedAutoencoder(ENCODER, decoder_width=16)])
def test_json_and_back(model):
    description = json.loads(json.dumps(describe(model)))
    assert from_description(description) == model


@pytest.mark.parametrize("wrap", [lambda model: model, MaskedAutoencoder])
@pytest.mark.parametrize(
    "preprocessing",
    [
        None,
        Preprocessing(*CLIP, interpolation="lanczos", crop=0.1 + 0.2),
        Preprocessing((0.1, 0.2, 0.3), (1 / 3, 1.0, 2.0), crop_mode="squash", size=(16, 8)),
    ],
)
def test_preprocessing_travels_along(preprocessing, wrap):
    model = wrap(ENCODER.clone(preprocessing=preprocessing))
    description = json.loads(json.dumps(describe(model)))
    again = from_description(description)
    assert again == model
    assert hash(again) == hash(from_description(description))  # so jit compiles once


def test_what_a_field_may_hold_is_a_closed_list():
    with pytest.raises(ValueError, match="description: class 'Preprocessing' is none of Vision"):
        from_description({"class": "Preprocessing", "fields": {}})
    described = describe(SMALL)
    for value, message in (
        ({"class": "os.system", "fields": {}}, "class 'os.system' is none of .*Preprocessing"),
        ({"class": "Preprocessing", "fields": {"zoom": 2}}, "Preprocessing has no field zoom"),
        ({"class": "Preprocessing", "fields": {"std": 0}}, "missing|std"),
    ):
        fields = {**described["fields"], "preprocessing": value}
        with pytest.raises((TypeError, ValueError), match=message):
            from_description({**described, "fields": fields})


def test_what_cannot_be_written_or_built_is_named():
    import flax.linen as nn

    with pytest.raises(ValueError, match="model: a Dense can't be described"):
        describe(nn.Dense(3))
    with pytest.raises(ValueError, match="kernel_init: a function can't be written down"):
        describe(SMALL.clone(kernel_init=nn.initializers.zeros))
    with pytest.raises(ValueError, match="class 'os.system' is none of VisionTransformer"):
        from_description({"class": "os.system", "fields": {}})
    with pytest.raises(ValueError, match="VisionTransformer has no field sizes"):
        from_description({"class": "VisionTransformer", "fields": {"sizes": 3}})


def test_a_model_directory_of_this_project(tmp_path):
    checkpoints = pytest.importorskip(
        "vit_jax_xfer.storage.checkpoints", reason="needs the training part's checkpoints"
    )
    variables = SMALL.init(jax.random.key(0), np.zeros((1, 16, 8, 3), np.float32))
    checkpoints.save_model(tmp_path / "model", variables, describe(SMALL))
    model, loaded = load_pretrained(tmp_path / "model")
    assert model == SMALL
    assert jax.tree.all(jax.tree.map(np.array_equal, loaded, variables))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(loaded))
    with pytest.raises(ValueError, match="has its fields; drop num_heads"):
        load_pretrained(tmp_path / "model", num_heads=2)
    with pytest.raises(ValueError, match="dtype: got 'half a float', expected a floating type"):
        load_pretrained(tmp_path / "model", dtype="half a float")


def test_fields_of_a_masked_autoencoder_are_its_encoders_too(tmp_path):
    fields = {"depth": 1, "decoder_depth": 1, "image_size": 16}
    network = vjx.create_model("mae_vit_micro_patch8", **fields)
    variables = jax.jit(network.init_variables)(jax.random.key(0))
    vjx.save(tmp_path / "model.safetensors", network, variables)
    model, _ = load_pretrained(tmp_path / "model.safetensors", dtype="bfloat16", remat="full")
    assert (model.encoder.dtype, model.encoder.remat) == ("bfloat16", "full")

"""Models as JSON, and this project's own model directories."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.models.mae import MaskedAutoencoder
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

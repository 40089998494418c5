"""transformers' Flax weights are read as its PyTorch ones, from flax_model.msgpack."""

import re

import flax
import numpy as np
import pytest

from tests.outputs import assert_same_network
from vit_jax_xfer.pretrained.hugging_face_flax import in_pytorch_names


def to_flax(state):
    """PyTorch's names and layouts → Flax's, as transformers' own conversion has them."""
    flat = {}
    for name, array in state.items():
        *modules, leaf = name.split(".")
        is_norm = re.search(r"norm|LayerNorm", modules[-1] if modules else "")
        if leaf == "weight" and "embedding" in name and array.ndim == 2:
            leaf = "embedding"
        elif leaf == "weight":
            leaf = "scale" if is_norm else "kernel"
            array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
        flat[(*modules, leaf)] = array
    return flax.traverse_util.unflatten_dict(flat)


@pytest.mark.parametrize(
    ("case", "family"),
    [("hf/vit", "supervised"), ("hf/clip", "clip"), ("hf/beit", "beit"), ("hf/dinov2", "dinov2")],
)
def test_published_networks(golden, tmp_path, case, family):
    state = golden(case)
    file = tmp_path / "flax_model.msgpack"
    file.write_bytes(flax.serialization.to_bytes(to_flax(state)))
    assert_same_network(file, state, family)


def test_other_flax_names_stay():
    names = {"Transformer/encoderblock_0/LayerNorm_0/scale": np.ones(2), "head/kernel": np.eye(2)}
    assert in_pytorch_names(names, "source") == names

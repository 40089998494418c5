"""Whose images a bare file is for, where names, shapes or a fixed table tell it."""

import warnings

import numpy as np
import pytest

from tests.pretrained.timm_names import state_dict
from vit_jax_xfer.models.preprocessing import CLIP, IMAGENET, INCEPTION
from vit_jax_xfer.models.transformer.positions import sincos_2d
from vit_jax_xfer.pretrained.file_to_model import recognise
from vit_jax_xfer.pretrained.loading_notes import LoadingNote
from vit_jax_xfer.pretrained.read_files import read_checkpoint

BARE = {"head.weight": None, "head.bias": None}
REGISTER = {"register_tokens": (1, 1, 32)}
SCALES = {"blocks.0.ls1.gamma": (32,), "blocks.0.ls2.gamma": (32,), "mask_token": (1, 32)}


def without_key_bias(width, **more):
    halves = {f"blocks.0.attn.{name}_bias": (width,) for name in "qv"}
    return state_dict(width=width, **{**halves, "blocks.0.attn.qkv.bias": None, **more})


def of_patches(table):
    """A headless network of 3 × 3 patches alone with these positions."""
    state = state_dict(9, cls_token=None, **BARE)
    return {**state, "pos_embed": table}


def loaded(state, **fields):
    """The family and the network, and what loading said of its images."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LoadingNote)
        found = recognise(read_checkpoint(state), None, {"num_heads": 4, **fields})
    said = [str(one.message) for one in caught]
    return (
        found.family.name,
        found.model,
        [one for one in said if one.startswith("preprocessing: ")],
    )


@pytest.mark.parametrize("more", [{}, BARE])
def test_a_bias_without_its_key_part_is_evas(more):
    family, model, said = loaded(without_key_bias(32, **more))
    assert (family, model.qkv_bias, said) == ("eva", "no_key", [])
    assert (model.preprocessing.mean, model.preprocessing.std) == CLIP
    averaged = state_dict(norm="fc_norm", **{"blocks.0.attn.qkv.bias": (96,)})
    assert loaded(averaged)[0] == "mae"


def test_evas_giant_may_have_other_colours():
    shapes = {name: x.shape for name, x in without_key_bias(32).items()}
    wide = {
        name: np.broadcast_to(np.float32(0.1), [n * 44 if n % 32 == 0 else n for n in shape])
        for name, shape in shapes.items()
    }
    family, model, (said,) = loaded(wide, num_heads=None)
    assert (family, model.width, model.num_heads) == ("eva", 1408, 16)
    assert "ImageNet's, which no name tells" in said
    assert not loaded(wide, num_heads=None, preprocessing=model.preprocessing)[2]


def test_a_fixed_table_of_patches_alone_is_ijepas():
    family, model, said = loaded(of_patches(sincos_2d((3, 3), 32, 0)))
    assert (family, model.pool, model.norm_after_pool, said) == ("ijepa", "avg", False, [])
    assert (model.preprocessing.mean, model.preprocessing.std) == IMAGENET
    family, model, _ = loaded(of_patches(np.roll(sincos_2d((3, 3), 32, 0), 1)))
    assert (family, model.preprocessing.mean) == ("supervised", INCEPTION[0])


def test_one_register_may_be_that_of_tips():
    family, _, (said,) = loaded(state_dict(**BARE, **REGISTER, **SCALES))
    assert family == "dinov2" and "TIPS v2 take pixels from 0 to 1" in said
    four = {**REGISTER, "register_tokens": (1, 4, 32)}
    assert loaded(state_dict(**BARE, **four, **SCALES))[2] == []

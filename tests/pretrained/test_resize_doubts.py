"""Names of two publishers don't say whose code resizes positions: loading says what it chose."""

import warnings

import numpy as np
import pytest

import vit_jax_xfer as vjx
from tests.pretrained.test_warm_start import drawn
from vit_jax_xfer.pretrained.loading_notes import LoadingNote
from vit_jax_xfer.pretrained.publish import to_publisher_names

SIZES = {"image_size": 16, "patch_size": 8, "width": 32, "depth": 1, "num_heads": 2}
METAS = {"layer_scale": 1e-5, "num_classes": 0}


def of(family, names, **fields):
    model = vjx.create_model("vit_tiny_patch16", **{**SIZES, "num_classes": 3, **fields})
    return to_publisher_names(drawn(model), family, names)


def notes(state, family=None, **fields):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", LoadingNote)
        model, _ = vjx.load_pretrained(state, family, num_heads=2, **fields)
    said = [str(one.message) for one in found if issubclass(one.category, LoadingNote)]
    return model.position_resize, [one for one in said if one.startswith("position_resize: ")]


def test_dinov2_is_told_by_its_mask_token_or_registers():
    metas = of("dinov2", "publisher", **METAS, mask_token=True)
    assert notes(metas) == ("bicubic_offset", [])
    registers = of("dinov2", "publisher", **METAS, registers=2, mask_token=True)
    assert notes(registers) == ("bicubic_antialias", [])
    assert notes(of("dinov2", "huggingface", **METAS)) == ("bicubic", [])
    metas.pop("mask_token")
    how, (said,) = notes(metas)
    assert how == "bicubic_antialias" and "Meta's own code does it by 'bicubic_offset'" in said
    assert notes(metas, position_resize="bicubic_offset") == ("bicubic_offset", [])


@pytest.mark.parametrize(
    ("family", "fields", "how"),
    [
        ("mae", {"pool": "avg"}, "bicubic"),
        ("deit", {"distillation_token": True}, "bicubic"),
        ("dino", {"num_classes": 0}, "bicubic_offset"),
    ],
)
def test_another_size_is_resized_by_a_code_that_is_named(family, fields, how):
    state = of(family, "publisher", **fields)
    assert notes(state, family) == (how, [])
    found, (said,) = notes(state, family, image_size=32)
    assert found == how
    assert said.startswith(f"position_resize: positions go to 32 pixels as the code of {family} ")
    assert repr(how) in said and "'bicubic_antialias'" in said
    assert notes(state, family, image_size=32, position_resize=how) == (how, [])
    assert notes({name: np.asarray(x) for name, x in state.items()}, family, image_size=16)[1] == []


def test_no_doubt_where_one_code_alone_reads_the_names():
    state = of("mae", "huggingface", num_classes=0)
    assert notes(state, "mae", image_size=32) == ("bicubic", [])

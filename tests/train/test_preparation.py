"""A finished model says how its images are prepared, as its evaluation prepared them."""

import numpy as np
import pytest

import vit_jax_xfer as vjx
from tests.runs import tiny_config
from vit_jax_xfer.data import parse_pipeline
from vit_jax_xfer.models.preprocessing import INCEPTION, Preprocessing
from vit_jax_xfer.train.loop import run
from vit_jax_xfer.train.preparation import with_preparation

PIPELINES = [
    "normalize(0.5, 0.5)",
    "normalize",
    "resize(40)|center_crop(32)|normalize",
    'resize((32, 32), "bilinear")|normalize(0.5, 0.5)',
    "resize(32)|center_crop(32)|normalize(mean=(0.1, 0.2, 0.3), std=1.0)",
    "resize((20, 40))|center_crop((16, 32))|normalize",
]


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_photographs_come_out_as_the_pipeline_makes_them(pipeline):
    rng = np.random.default_rng(0)
    sides = (60, 44) if "resize" in pipeline else (32, 32)
    photo = rng.integers(0, 256, (*sides, 3), dtype=np.uint8)
    expected = parse_pipeline(pipeline)({"image": photo, "label": 0}, rng)["image"]
    model = vjx.create_model("vit_micro_patch8", image_size=32)
    told = with_preparation(model, pipeline, expected.shape)
    np.testing.assert_array_equal(vjx.preprocess(told, photo)[0], expected)


def test_what_is_known_already_stays():
    own = Preprocessing(*INCEPTION, size=32)
    model = vjx.create_model("vit_micro_patch8", image_size=32, preprocessing=own)
    assert with_preparation(model, "normalize", (32, 32, 3)) is model
    lift = vjx.create_model("lift_patch8")
    assert with_preparation(lift, "normalize", (32, 32, 3)) is lift
    plain = model.clone(preprocessing=None)
    assert with_preparation(plain, "normalize|normalize", (32, 32, 3)) is plain


def test_runs_of_every_kind_of_network(tmp_path):
    for name in ("masked_pretraining", "scratch"):
        run(tiny_config(name), tmp_path / name)
        model, _ = vjx.load_pretrained(tmp_path / name / "model")
        found = getattr(model, "encoder", model).preprocessing
        assert (found.mean, found.std, found.size) == (*INCEPTION, 8)
        assert vjx.preprocess(model, np.zeros((8, 8, 3), np.uint8)).shape == (1, 8, 8, 3)

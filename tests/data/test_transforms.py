"""The pipeline language: parsing, results, pickling, error texts."""

import pickle

import numpy as np
import pytest

from vit_jax_xfer.data import operations, parse_pipeline
from vit_jax_xfer.data.geometry import CenterCrop, Flip, RandomResizedCrop

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)


def run(pipeline, seed=0):
    return parse_pipeline(pipeline)({"image": IMAGE, "label": 3}, np.random.default_rng(seed))


def test_parse():
    pipeline = parse_pipeline(
        "random_resized_crop(16, area=(0.3, 1.0)) | flip | center_crop((8, 9))"
    )
    assert pipeline.ops == (RandomResizedCrop(16, area=(0.3, 1.0)), Flip(), CenterCrop((8, 9)))
    assert parse_pipeline("flip()").ops == parse_pipeline("flip").ops


@pytest.mark.parametrize("end", ["", "|to_float", "|normalize", "|flip|normalize(0.5, 0.5)|flip"])
@pytest.mark.parametrize("start", ["flip", "resize(20)|center_crop(16)", "random_resized_crop(8)"])
def test_result_is_float(start, end):
    example = run(start + end)
    assert example["image"].dtype == np.float32 and example["image"].ndim == 3
    assert example["label"] == 3
    if not end or end == "|to_float":
        assert example["image"].min() >= 0 and 0.5 < example["image"].max() <= 1


def test_source_images_are_not_changed():
    before = IMAGE.copy()
    run("flip|normalize")
    np.testing.assert_array_equal(IMAGE, before)


def test_randomness_comes_from_the_generator_alone():
    pipeline = "random_resized_crop(16)|flip|normalize"
    np.testing.assert_array_equal(run(pipeline)["image"], run(pipeline)["image"])
    assert not np.array_equal(run(pipeline)["image"], run(pipeline, seed=1)["image"])
    copy = pickle.loads(pickle.dumps(parse_pipeline(pipeline)))
    assert copy.ops == parse_pipeline(pipeline).ops
    again = copy({"image": IMAGE}, np.random.default_rng(0))["image"]
    np.testing.assert_array_equal(again, run(pipeline)["image"])


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        ("random_resize_crop(4)", "'random_resize_crop', did you mean 'random_resized_crop'"),
        ("xyzzy", "unknown op 'xyzzy', expected one of center_crop, color_jitter"),
        ("resize", r"resize: missing 1 required .*'size'; signature: resize\(size: int"),
        ("flip(3)", r"flip: takes 1 positional .*signature: flip\(\)"),
        ("resize(0)", "resize: size: got 0, expected a positive int"),
        ("resize('a')", "size: got 'a'"),
        ("resize((3, 4, 5))", "size: got"),
        ("resize(8, 'cubic')", "interpolation: got 'cubic', expected one of nearest"),
        ("resize(size=8, mode='x')", "unexpected keyword argument 'mode'"),
        ("random_resized_crop(8, area=(0.5, 2))", r"area: got \(0.5, 2\)"),
        ("random_resized_crop(8, ratio=2)", "ratio: got 2"),
        ("random_crop(8, padding=-1)", "padding: got -1"),
        ("normalize((1, 2))", r"mean: got \(1, 2\), expected a number or three"),
        ("normalize(0.5, 0)", "std: got 0"),
        ("resize(2 * n)", "arguments must be literals"),
        ("__import__('os').system('x')", "expected name or name"),
        ("resize(4) + flip", "expected name or name"),
        ("resize(4", "cannot read"),
        ("", "cannot read"),
        ("flip||flip", "cannot read"),
    ],
)  # fmt: skip
def test_errors(pipeline, message):
    with pytest.raises(ValueError, match=message):
        parse_pipeline(pipeline)


def test_resize_after_normalize():
    with pytest.raises(ValueError, match="put it before to_float and normalize"):
        run("normalize|resize(8)")


def test_names_are_unique():
    with pytest.raises(ValueError, match="'flip' is registered already"):
        operations.register("flip")(Flip)

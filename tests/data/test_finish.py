"""Bytes that are finished on a device: what the whole pipeline gives, boxes and their noise."""

import jax
import numpy as np
import pytest

from vit_jax_xfer.data import eval_batches, open_source, parse_pipeline, train_stream
from vit_jax_xfer.data.finish import Finish, erase_boxes, normal_noise
from vit_jax_xfer.data.operations import register

IMAGE = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
PIPELINE = "random_crop(8, padding=1)|flip|normalize"


def finished(pipeline, batch):
    return jax.jit(Finish.of(pipeline))(batch)


@pytest.mark.parametrize(
    "end", ["", "|to_float", "|normalize", "|to_float|normalize((0.1, 0.2, 0.3), 0.5)|normalize(1)"]
)
def test_what_the_pipeline_gives(end):
    whole, part = parse_pipeline("flip" + end), parse_pipeline("flip" + end).in_bytes()
    expected, found = (one({"image": IMAGE}, np.random.default_rng(1)) for one in (whole, part))
    assert found["image"].dtype == np.uint8 and expected["image"].dtype == np.float32
    np.testing.assert_allclose(
        finished(whole, found)["image"], expected["image"], rtol=1e-6, atol=1e-6
    )


@register("half_bright")
class HalfBright:
    """An op that makes floats of bytes."""

    def __call__(self, image, rng):
        return np.asarray(image, np.float32) / 510


@pytest.mark.parametrize("pipeline", ["normalize|flip|normalize(0.5)", "half_bright|normalize(1)"])
def test_floats_within_a_pipeline_stay_floats(pipeline):
    whole = parse_pipeline(pipeline)
    expected, found = (
        one({"image": IMAGE}, np.random.default_rng(1)) for one in (whole, whole.in_bytes())
    )
    np.testing.assert_array_equal(finished(pipeline, found)["image"], expected["image"])


def test_streams():
    source = open_source("digits")
    for make, more in ((train_stream, {"seed": 3}), (eval_batches, {})):
        found = []
        for in_bytes in (False, True):
            with make(source, PIPELINE, batch_size=12, in_bytes=in_bytes, **more) as stream:
                found.append(next(stream))
        assert found[1]["image"].dtype == np.uint8
        assert found[0]["image"].nbytes == 4 * found[1]["image"].nbytes
        found[1] = finished(PIPELINE, found[1])
        for name in found[0]:
            np.testing.assert_allclose(found[0][name], found[1][name], atol=1e-6)


def test_erasing_is_the_stream_s_boxes_with_the_image_s_own_noise():
    pipeline, source = f"{PIPELINE}|random_erasing(0.5)", open_source("digits")
    batches = {}
    for workers, in_bytes in ((0, True), (1, True), (0, False)):
        arguments = {"batch_size": 64, "seed": 3, "workers": workers, "in_bytes": in_bytes}
        with train_stream(source, pipeline, **arguments) as stream:
            batches[workers, in_bytes] = next(stream)
    jax.tree.map(np.testing.assert_array_equal, batches[0, True], batches[1, True])
    batch, whole = batches[0, True], batches[0, False]["image"]
    found = finished(pipeline, batch)
    assert found.keys() == {"image", "label"}
    plain = finished(PIPELINE, {"image": batch["image"]})["image"]
    changed = (np.asarray(found["image"]) != plain).any(-1)
    np.testing.assert_array_equal(changed, (np.abs(whole - plain) > 1e-6).any(-1))
    assert 0.3 < changed.any((1, 2)).mean() < 0.7
    values = np.asarray(found["image"])[changed]
    assert abs(values.mean()) < 0.1 and abs(values.std() - 1) < 0.1
    half = {name: rows[32:] for name, rows in batch.items()}
    np.testing.assert_array_equal(finished(pipeline, half)["image"], found["image"][32:])


def test_modes_of_erasing():
    images = np.full((2, 6, 5, 3), 9, np.float32)
    boxes = np.array([[[1, 2, 3, 2], [4, 0, 2, 2]], [[0, 0, 0, 0], [0, 0, 1, 4]]], np.int32)
    keys = np.array([[1, 2], [3, 4]], np.uint32)
    inside = np.zeros((2, 6, 5), bool)
    inside[0, 1:4, 2:4] = inside[0, 4:, :2] = inside[1, 0, :4] = True
    found = {m: np.asarray(erase_boxes(images, boxes, keys, m)) for m in ("pixel", "rand", "const")}
    for one in found.values():
        np.testing.assert_array_equal((one != 9).any(-1), inside)
    assert not found["const"][inside].any()
    assert len(np.unique(found["pixel"][inside])) == inside.sum() * 3
    for box in (found["rand"][0, 1:4, 2:4], found["rand"][0, 4:, :2], found["rand"][1, 0, :4]):
        assert (box == box.reshape(-1, 3)[0]).all()
    assert len(np.unique(found["rand"][inside], axis=0)) == 3


def test_noise_is_normal_and_of_its_key_alone():
    keys = np.array([[0, 0], [0, 1], [1, 0], [7, 9]], np.uint32)
    noise = np.asarray(
        jax.jit(lambda keys: jax.vmap(lambda k: normal_noise(k, (50, 40, 3)))(keys))(keys)
    )
    flat = noise.reshape(4, -1)
    assert np.isfinite(flat).all() and len(np.unique(flat[0])) > 0.99 * flat.shape[1]
    levels = np.array([-2, -1, 0, 1, 2])
    below = (flat[..., None] < levels).mean(1)
    np.testing.assert_allclose(
        below, np.tile([0.0228, 0.1587, 0.5, 0.8413, 0.9772], (4, 1)), atol=0.02
    )
    assert np.abs(np.corrcoef(flat) - np.eye(4)).max() < 0.05
    for shift in (1, 3, 120):  # neighbours of a pixel in a channel, a row and a column
        assert abs(np.corrcoef(flat[3, shift:], flat[3, :-shift])[0, 1]) < 0.05


@pytest.mark.parametrize("pipeline", ["flip", "flip|normalize", "normalize|flip", "to_float|flip"])
def test_the_kind_is_that_of_what_travels(pipeline):
    left = parse_pipeline(pipeline).in_bytes()
    image = left({"image": np.zeros((4, 4, 3), np.uint8)}, np.random.default_rng(0))["image"]
    assert image.dtype == left.kind

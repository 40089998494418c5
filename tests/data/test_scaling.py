"""lsj, resize_pad and random_resize: sizes, borders and draws."""

import numpy as np
import pytest
from PIL import Image

from vit_jax_xfer.data import parse_pipeline
from vit_jax_xfer.data.scaling import MEAN_COLOUR, LargeScaleJitter, RandomResize, ResizePad

IMAGE = np.random.default_rng(0).integers(0, 256, (45, 70, 3), dtype=np.uint8)


def draw(op, seed=0):
    image, move = op.move(IMAGE, np.random.default_rng(seed))
    return np.asarray(image), move


def test_the_whole_photograph_fits_with_a_border_of_the_mean_colour():
    image, move = draw(ResizePad(64))
    assert image.shape == (64, 64, 3) and (image[41:] == MEAN_COLOUR).all()
    small = Image.fromarray(IMAGE).resize((64, 41), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(image[:41], small)
    assert move == (41 / 45, 64 / 70, 0, 0, 64, 64)
    small, move = draw(ResizePad(64, short=30))
    assert (move.scale_y, move.scale_x) == (30 / 45, 47 / 70) and (small[30:] == MEAN_COLOUR).all()
    assert draw(ResizePad(64, short=60))[1][:2] == (41 / 45, 64 / 70)  # the long side's limit
    assert (
        abs(parse_pipeline("resize_pad(64)|normalize")({"image": IMAGE}, None)["image"][50]).max()
        < 0.01
    )


def test_jitter_is_the_same_as_resizing_and_cutting():
    op, seen = LargeScaleJitter(48, 0.2, 2.0), set()
    for seed in range(12):
        image, move = draw(op, seed)
        rng = np.random.default_rng(seed)
        scale, place = rng.uniform(0.2, 2.0), rng.random()
        factor = min(48 * scale / 45, 48 * scale / 70)
        height, width = round(45 * factor), round(70 * factor)
        top, left = (round(max(side - 48, 0) * place) for side in (height, width))
        large = np.asarray(
            Image.fromarray(IMAGE).resize((width, height), Image.Resampling.BILINEAR)
        )
        expected = np.full((48, 48, 3), MEAN_COLOUR, np.uint8)
        part = large[top : top + 48, left : left + 48]
        expected[: part.shape[0], : part.shape[1]] = part
        # Cut while it is resized, so that nothing larger than the result is made: to rounding.
        assert abs(image.astype(int) - expected).max() <= 1
        assert move == (height / 45, width / 70, -top, -left, 48, 48)
        seen |= {height > 48, left > 0}
    assert seen == {False, True}


def test_factors_of_a_random_resize():
    sizes = [draw(RandomResize(0.5, 2.0), seed)[0].shape[:2] for seed in range(20)]
    assert min(sizes) < (30, 45) and max(sizes) > (70, 110)
    assert draw(RandomResize(1.0, 1.0, short=90))[0].shape == (90, 140, 3)
    assert draw(RandomResize(1.0, 1.0, short=90, long=100))[0].shape == (64, 100, 3)


def test_a_small_image_is_padded_before_a_crop_where_that_is_asked_for():
    pipeline = parse_pipeline("random_crop(80, pad_smaller=True, fill=(1, 2, 3))|flip")
    image = pipeline({"image": IMAGE}, np.random.default_rng(0))["image"]
    assert image.shape == (80, 80, 3)
    with pytest.raises(ValueError, match="does not fit into a padded image"):
        parse_pipeline("random_crop(80)")({"image": IMAGE}, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        ("lsj(0)", "lsj: size: got 0"),
        ("lsj(8, 2.0, 1.0)", "least, most: got 2.0 and 1.0"),
        ("lsj(8, fill=3)", "fill: got 3"),
        ("resize_pad(8, short='a')", "short: got 'a', expected pixels or None"),
        ("resize_pad(8, interpolation='cubic')", "interpolation: got 'cubic'"),
        ("random_resize(0.5, 2.0, short=0)", "short: got 0, expected pixels or None"),
        ("random_resize(0, 2.0)", "expected 0.01 <= least"),
        ("random_crop(8, pad_smaller=1)", "pad_smaller: got 1"),
        ("random_crop(8, most_of_one=0)", "most_of_one: got 0, expected a share"),
    ],
)
def test_arguments_that_cannot_be(pipeline, message):
    with pytest.raises(ValueError, match=message):
        parse_pipeline(pipeline)

"""Numbers as colours: lightness that grows evenly, a middle that is 0, no colours of rounding."""

import numpy as np
import pytest
from PIL import Image

from vit_jax_xfer.explain.colour_scales import Scale, heat
from vit_jax_xfer.explain.pictures import sheet

RAMP = np.linspace(-1, 1, 257)


def lightness(colours):
    """CIE L* of sRGB bytes (…, 3), which the tables were not made with."""
    share = np.asarray(colours, np.float64) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    y = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(y > 216 / 24389, 116 * np.cbrt(y) - 16, y * 24389 / 27)


def test_more_is_lighter_and_evenly_so():
    found = lightness(Scale(0.0, 1.0).colours(np.linspace(0, 1, 65)))
    steps = np.diff(found)
    assert steps.min() > 0.4 * steps.mean() and steps.max() < 1.8 * steps.mean()
    assert found[0] < 10 and found[-1] > 90


def test_signed_colours_are_alike_on_both_sides_of_a_white_zero():
    colours = Scale(-2.0, 2.0, signed=True).colours(2 * RAMP)
    found = lightness(colours)
    np.testing.assert_allclose(found, found[::-1], atol=4)
    assert found.argmax() in (127, 128, 129) and found.max() > 95
    assert (colours[:100, 2] > colours[:100, 0]).all()  # blue below 0
    assert (colours[-100:, 0] > colours[-100:, 2]).all()  # red above


def test_a_scale_is_the_maps_own():
    maps = [np.array([[0.0, 1.0]]), np.array([[0.5, 4.0]])]
    assert Scale.of(maps) == Scale(0.0, 4.0)
    assert Scale.of([*maps, -maps[0]]) == Scale(-4.0, 4.0, signed=True)
    assert Scale.of(maps, signed=True) == Scale(-4.0, 4.0, signed=True)
    most = Scale.of([np.arange(101.0)], top=90)
    assert (most.high, most.open) == (90, True)
    for wrong in (np.nan, np.inf):
        with pytest.raises(ValueError, match="NaN or infinite"):
            Scale.of([np.array([wrong])])
    with pytest.raises(ValueError, match="same on both sides"):
        Scale(-1.0, 2.0, signed=True)


def test_what_is_even_but_for_rounding_has_one_colour():
    noise = np.random.default_rng(0).uniform(-1, 1, (9, 9))
    for value in (1 / 196, 1.0, 3e4):
        even = (value * (1 + 1e-7 * noise)).astype(np.float32)
        for found in (heat(even), Scale.of([even]).colours(even)):
            assert np.ptp(found.reshape(-1, 3).astype(int), axis=0).max() <= 4, value
    nothing = np.zeros((3, 3))
    assert (Scale.of([nothing]).colours(nothing) == Scale(0, 1).colours(nothing)).all()
    white = Scale.of([nothing], signed=True).colours(nothing)
    assert lightness(white).min() > 95


def test_bars_have_room_and_numbers(tmp_path):
    tile = np.full((4, 4, 3), 90, np.uint8)
    bars = [[Scale(0.0, 0.0132, open=True), Scale(-1.0, 1.0, signed=True)], []]
    sheet([[tile], [tile]], ["x"], tmp_path / "bars.png", cell=60, bars=bars)
    sheet([[tile], [tile]], ["x"], tmp_path / "plain.png", cell=60)
    drawn, plain = (np.asarray(Image.open(tmp_path / f"{x}.png")) for x in ("bars", "plain"))
    assert drawn.shape[0] == plain.shape[0] and drawn.shape[1] > plain.shape[1] + 60
    np.testing.assert_array_equal(drawn[:, : plain.shape[1]], plain)
    added = drawn[:, plain.shape[1] :]
    first = added[24:84, 0]
    np.testing.assert_array_equal(first, bars[0][0].bar(60, 1)[:, 0])
    assert (added[:, -2:] == 255).all()  # nothing is cut off
    assert (added[92:] == 255).all()  # the second row has none

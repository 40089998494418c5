"""Charts: round numbers at the axes, means of what all runs have, lines in their colours."""

import numpy as np
import pytest
from PIL import Image

from vit_jax_xfer.compare.learning_curves import Panel, draw_curves, mean_curve, ticks


def test_ticks_are_round_and_within():
    np.testing.assert_allclose(ticks(0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1])
    np.testing.assert_allclose(ticks(0, 2.3), [0, 0.5, 1, 1.5, 2])
    np.testing.assert_allclose(ticks(37, 1200), [200, 400, 600, 800, 1000, 1200])
    assert ticks(3, 3) == [3]


def test_a_mean_is_of_the_steps_that_all_have():
    runs = [[(0, 1.0), (5, 3.0), (9, 9.0)], [(0, 3.0), (5, 4.0)], []]
    assert mean_curve(runs) == [(0, 2.0), (5, 3.5)]
    assert mean_curve([]) == []


def test_lines_are_drawn_where_their_numbers_are(tmp_path):
    high = Panel("high", {"one": [[(0, 1.0), (10, 1.0)]], "two": [[(0, 0.25), (10, 0.25)]]})
    draw_curves([high, Panel("empty", {"one": [[]]})], tmp_path / "curves.png")
    picture = np.asarray(Image.open(tmp_path / "curves.png")).astype(int)
    height = picture.shape[0]
    left = picture[: height - 60, 70 : picture.shape[1] // 2 - 30]  # the panel, not the legend
    spread = left.max(-1) - left.min(-1)
    rows = [np.flatnonzero((spread > 60).mean(1) > 0.9)]
    lines = np.split(rows[0], np.flatnonzero(np.diff(rows[0]) > 5) + 1)
    assert len(lines) == 2
    upper, lower = (line.mean() for line in lines)
    bottom = upper + (lower - upper) / 0.75  # where 0 is
    assert abs(bottom - (34 + 260)) < 3 and abs(upper - (34 + 260 - 260 / 1.04)) < 3
    with pytest.raises(ValueError, match="no curve"):
        draw_curves([Panel("empty", {"one": []})], tmp_path / "none.png")


def test_lines_that_coincide_are_both_seen(tmp_path):
    same = [[(0, 1.0), (10, 1.0)]]
    draw_curves([Panel("same", {"one": same, "two": same})], tmp_path / "curves.png")
    picture = np.asarray(Image.open(tmp_path / "curves.png")).astype(int)
    column = picture[36:280, 200]  # across both lines
    hues = {tuple(colour) for colour in column if colour.max() - colour.min() > 60}
    assert any(r > g for r, g, _ in hues) and any(g > r for r, g, _ in hues)

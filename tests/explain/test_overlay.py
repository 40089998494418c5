"""Pictures of masks: which pixel shows which cell, where a crop lies, titles that fit."""

import numpy as np
import pytest
from PIL import Image, ImageFont

from vit_jax_xfer.data.prepare import preprocess
from vit_jax_xfer.explain.cells import Cells, convolve, pixels
from vit_jax_xfer.explain.network_view import seen_box
from vit_jax_xfer.explain.overlay import MARK, paint_importance, paint_kept, spread
from vit_jax_xfer.explain.pictures import sheet, shortened, to_pixels
from vit_jax_xfer.explain.progress import progress_text, with_bar
from vit_jax_xfer.models.preprocessing import INCEPTION, Preprocessing

# 4 rows and 6 columns at 2·i + 1.5 to 2·i + 3.5, on an image of 12 × 16: the last column ends at
# 13.5, and the strips around have no cell.
CELLS = Cells(0, (12, 16), *(convolve(convolve(pixels(n), 5, 2, 0), 3, 1, 1) for n in (12, 16)))


def test_each_pixel_shows_the_cell_it_lies_in():
    values = np.arange(1, 25).reshape(4, 6)
    shown = spread(values, CELLS, (24, 32))
    assert shown.shape == (24, 32)
    np.testing.assert_array_equal(shown[3:19, 3:27], values.repeat(4, axis=0).repeat(4, axis=1))
    shown[3:19, 3:27] = 0
    assert not shown.any()


def test_a_box_moves_and_stretches():
    values = np.arange(1, 25).reshape(4, 6)
    shown = spread(values, CELLS, (50, 60), box=(10, 20, 34, 36))
    expected = spread(values, CELLS, (24, 16))
    np.testing.assert_array_equal(shown[10:34, 20:36], expected)
    assert (shown > 0).sum() == (expected > 0).sum()


def test_edges_outside_the_image_are_cut_off():
    # Three halvings: cells of 16 pixels, the first from -5.5 to 10.5, the last to 26.5 of 20.
    axis = convolve(pixels(20), 5, 2, 0)
    for _ in range(3):
        axis = convolve(axis, 3, 2, 1)
    cells = Cells(0, (20, 20), axis, axis)
    np.testing.assert_array_equal(axis.edges, [-5.5, 10.5])
    shown = spread(np.ones((1, 1)), cells, (60, 60), box=(20, 20, 40, 40))
    rows, columns = np.nonzero(shown)
    assert (rows.min(), columns.min()) == (20, 20)
    assert (rows.max(), columns.max()) == (29, 29)


def test_kept_cells_keep_their_colours():
    picture = np.random.default_rng(0).integers(60, 255, (96, 128, 3)).astype(np.uint8)
    mask = np.zeros((4, 6), bool)
    mask[1, 4] = True
    painted = paint_kept(picture, mask, CELLS)
    place = np.zeros((96, 128), bool)
    place[28:44, 76:92] = True  # 8 × (3.5 … 5.5, 9.5 … 11.5)
    same, framed = ((painted == x).all(axis=-1) for x in (picture, MARK))
    np.testing.assert_array_equal(same | framed, place)
    assert same[30:42, 78:90].all()
    assert framed[28, 76:92].all()
    grey = painted[~place]
    assert (grey == grey[:, :1]).all()
    assert grey.max() < 120
    assert painted[:8].max() < painted[12:28].max()  # no cell's strip is darker


def test_importance_is_lighter_where_it_is_higher():
    picture = np.full((24, 32, 3), 128, np.uint8)
    importance = np.linspace(0.46, 1, 24).reshape(4, 6)
    painted = paint_importance(picture, importance, CELLS).astype(int).sum(axis=-1)
    cells = painted[3:19:4, 3:27:4].reshape(-1)
    assert (np.diff(cells) > 0).all()
    fixed = paint_importance(picture, importance, CELLS, low=0.0, high=1.0).astype(int)
    assert fixed[3, 3].sum() > cells[0]


@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize("size", [64, (60, 90), (90, 60)])
@pytest.mark.parametrize("photo", [(200, 333), (333, 200), (50, 50)])
def test_the_box_is_what_was_cut_out(mode, size, photo):
    preprocessing = Preprocessing(*INCEPTION, crop=0.8, crop_mode=mode, size=size)
    down, across = (np.linspace(0, 255, n) for n in photo)
    ramps = np.zeros((*photo, 3), np.uint8)
    ramps[..., 0], ramps[..., 1] = np.round(down)[:, None], np.round(across)
    seen = (preprocess(preprocessing, ramps)[0] + 1) / 2
    top, left, bottom, right = seen_box(preprocessing, photo)
    height, width = seen.shape[:2]
    rows = top + (np.arange(height) + 0.5) * (bottom - top) / height
    columns = left + (np.arange(width) + 0.5) * (right - left) / width
    inner = slice(3, -3)
    for found, places, number in (
        (seen[:, width // 2, 0], rows, photo[0]),
        (seen[height // 2, :, 1], columns, photo[1]),
    ):
        where = found * (number - 1) + 0.5
        np.testing.assert_allclose(where[inner], places[inner], atol=0.02 * number / 2)
    assert top >= 0
    assert bottom <= photo[0] + 1e-9


def test_titles_are_never_cut_off(tmp_path):
    tile = np.full((4, 3, 3), (7, 9, 200), np.uint8)
    title = "a title that is much wider than the picture below it"
    sheet(
        [[tile, None], [None, tile]],
        [title, "b"],
        tmp_path / "x.png",
        cell=(40, 30),
        captions=[["one", "two"], ["three", "four"]],
        heading="n" * 500,
    )
    found = np.asarray(Image.open(tmp_path / "x.png"))
    font = ImageFont.load_default(size=12)
    assert found.shape[1] > font.getlength(title) + 30
    assert (found[:, [0, -1]] == 255).all()
    assert (found[[0, -1]] == 255).all()
    assert (found == tile[0, 0]).all(axis=-1).sum() == 2 * 40 * 30
    assert [file.name for file in tmp_path.iterdir()] == ["x.png"]


def test_long_names_keep_both_ends():
    font = ImageFont.load_default(size=12)
    assert shortened("short.jpg", font, 200) == "short.jpg"
    cut = shortened("a" * 99 + ".jpg", font, 100)
    assert font.getlength(cut) <= 100
    assert cut.startswith("aaa")
    assert cut.endswith(".jpg")


def test_pixels_come_back_from_each_channels_mean():
    image = np.array([[[0.0, 1.0, -1.0]]])
    np.testing.assert_array_equal(to_pixels(image), [[[128, 255, 0]]])
    found = to_pixels(image, (0.2, 0.4, 0.6), (0.1, 0.2, 0.3))
    np.testing.assert_array_equal(found, [[[51, 153, 76]]])


def test_progress_speaks_only_of_what_takes_long():
    assert progress_text(8, 1.0, 16, 40) is None  # three seconds are left
    assert progress_text(8, 2.0, 16, 400) == "16 of 400 images, 4.0 a second, 1:36 left"
    assert progress_text(0, 0.0, 16, 400) is None


@pytest.mark.parametrize("columns", [200, 40, 30, 12, 1])
def test_the_bar_fits_the_terminal(columns):
    line = with_bar("16 of 64 images", 0.25, columns)
    assert len(line) < columns
    assert "16 of 64 images".startswith(line[: min(len(line), 15)])
    if columns == 200:
        assert line == f"16 of 64 images [{'#' * 10}{'.' * 30}]"

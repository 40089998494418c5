"""Which grid a table's rows are of: what the caller says, what the folder says, the square."""

import warnings

import numpy as np
import pytest

from vit_jax_xfer.models.transformer.relative_positions import _index, table_rows
from vit_jax_xfer.pretrained import load_pretrained
from vit_jax_xfer.pretrained.loading_notes import LoadingNote
from vit_jax_xfer.pretrained.stored_grids import Sizes, size_of_offsets, size_of_positions

# Rectangles whose patches are as many as a square's, or one off a square's.
ALIKE = [(2, 8), (4, 16), (7, 28), (16, 4), (10, 5), (5, 10), (3, 5), (13, 15), (1, 1)]
PATCH = 8


def pixels(grid):
    size = tuple(n * PATCH for n in grid)
    return size[0] if size[0] == size[1] else size


def positions(tokens, given=None, stated=None, counts=(1, 0)):
    return size_of_positions("pos_embed", tokens, counts, Sizes(given, stated, PATCH))


@pytest.mark.parametrize("said", ["given", "stated"])
@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("grid", ALIKE, ids=str)
def test_a_size_that_fits_is_the_stored_one(grid, rows, said):
    h, w = grid
    wanted = (rows, {"image_size": pixels(grid)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert positions(rows + h * w, **{said: pixels(grid)}) == wanted


@pytest.mark.parametrize("said", ["given", "stated"])
@pytest.mark.parametrize("grid", [(2, 14), (14, 2), (1, 41), (5, 41), (7, 7), (3, 6)], ids=str)
def test_offsets_of_a_size_that_fits(grid, said):
    sizes = Sizes(**{"given": None, "stated": None, said: pixels(grid)}, patch_size=PATCH)
    assert size_of_offsets(table_rows(grid), sizes) == {"image_size": pixels(grid)}


def test_the_caller_is_heard_first_and_told_what_the_folder_says():
    with pytest.warns(LoadingNote, match=r"read as 4×16 .* config.json says image_size 64$"):
        assert positions(65, given=(32, 128), stated=64)[1] == {"image_size": (32, 128)}
    # A size that fits no reading is one to resize to.
    assert positions(65, given=(80, 80), stated=(32, 128))[1] == {"image_size": (32, 128)}
    assert positions(65, given=(80, 80))[1] == {"image_size": 64}


def test_a_folder_that_contradicts_its_weights():
    message = "^config.json: image_size is 40, 5×5 patches of 8, but pos_embed has 65 positions$"
    with pytest.raises(ValueError, match=message):
        positions(65, given=80, stated=40)
    with pytest.raises(ValueError, match="image_size is 40, 5×5 .* has 52 rows, not 84$"):
        size_of_offsets(52, Sizes(None, 40, PATCH))


@pytest.mark.parametrize(
    ("tokens", "read", "other"),
    [
        (50, (1, 56), r"7×7 patches and 1 of .* 5×10 and 0, pass image_size=\(40, 80\), or \(80,"),
        (64, (0, 64), r"8×8 patches and 0 of .* 7×9 and 1, pass image_size=\(56, 72\), or"),
    ],
)
def test_a_guess_between_two_readings_is_said(tokens, read, other):
    with pytest.warns(LoadingNote, match=other):
        rows, fields = positions(tokens)
    assert (rows, fields["image_size"]) == read
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        positions(50, counts=(1,))  # whose class token always has a row
        positions(197)  # 197 patches are no likely rectangle
        positions(200 - 2, counts=(2, 0))


@pytest.mark.parametrize("grid", [(2, 14), (14, 2), (5, 5), (1, 4), (4, 2)], ids=str)
def test_a_file_that_holds_the_index_tells_the_grid(grid):
    first = _index(grid, 1)[1, 1:]
    found = size_of_offsets(table_rows(grid), Sizes(None, None, PATCH), first)
    assert found == {"image_size": pixels(grid)}


@pytest.mark.parametrize(
    ("case", "name", "shape"),
    [
        ("timm/supervised_cls", "pos_embed", (1, 65, 48)),
        ("timm/supervised_cls", "pos_embed", (1, 64, 48)),
        ("timm/beit", "blocks.{i}.attn.relative_position_bias_table", (3 * 27 + 3, 3)),
    ],
)
def test_networks_of_rectangles(golden, case, name, shape):
    grid = (2, 14) if "beit" in case else (4, 16)
    size = pixels(grid)
    names = {name.replace("{i}", str(i)) for i in range(3)}
    state = golden(case) | {one: np.zeros(shape, np.float32) for one in names}
    model, variables = load_pretrained(state, num_heads=3, image_size=size)
    assert (model.grid, model.patch_size) == (grid, PATCH)
    if "beit" not in case:
        assert variables["params"]["pos_embed"].shape == shape
        assert model.class_position == (shape[1] == 65)
    side = 5 if "beit" in case else 8
    assert load_pretrained(state, num_heads=3)[0].grid == (side, side)


def test_a_remainder_of_pixels_is_the_networks_to_leave_out():
    wanted = (0, {"image_size": 30, "drop_remainder": True})
    assert positions(9, given=30) == positions(9, stated=30) == wanted
    assert positions(9, given=(24, 30))[1] == {"image_size": (24, 30), "drop_remainder": True}
    assert size_of_offsets(table_rows((3, 3)), Sizes(30, None, PATCH)) == wanted[1]


def test_a_remainder_is_refused_where_the_publisher_would(golden):
    state = golden("timm/supervised_cls")  # 4×4 patches of 8
    for size in (38, 46):
        with pytest.raises(ValueError, match=f"image_size: {size}×{size} pixels are not a whole"):
            load_pretrained(state, num_heads=3, image_size=size)
    model, _ = load_pretrained(state, num_heads=3, image_size=38, drop_remainder=True)
    assert (model.image_size, model.grid) == (38, (4, 4))
    model, _ = load_pretrained(state, num_heads=3, image_size=46, drop_remainder=True)
    assert model.grid == (5, 5)

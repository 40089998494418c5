"""Photographs are read upright, and masks of any mode that holds a number a pixel."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from vit_jax_xfer.data.sources.upright_photo import orientation, photograph_size, read_photograph

PIXELS = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)


@pytest.mark.parametrize("number", range(10))
def test_every_orientation_is_pillows(tmp_path, number):
    exif = Image.Exif()
    exif[0x0112] = number
    file = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(file, exif=exif)
    with Image.open(file) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    found = read_photograph(file)
    np.testing.assert_array_equal(found, expected)
    assert found.flags["C_CONTIGUOUS"]
    assert photograph_size(file) == (expected.shape[1], expected.shape[0])
    assert orientation(file) == (number if 1 <= number <= 8 else 1)


def test_without_exif_and_what_is_no_image(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_photograph(tmp_path / "a.png"), PIXELS)
    (tmp_path / "b.jpg").write_bytes(b"no")
    for call in (read_photograph, photograph_size):
        with pytest.raises(ValueError, match=r"cannot read image .*b\.jpg"):
            call(tmp_path / "b.jpg")

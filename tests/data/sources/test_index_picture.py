"""Masks: a number a pixel, whichever of Pillow's modes it is saved in."""

import numpy as np
import pytest
from PIL import Image

from vit_jax_xfer.data.sources.index_picture import read_class_mask, read_index_picture

IDS = np.array([[0, 3, 9], [9, 0, 200]], np.uint8)
OPAQUE = np.full_like(IDS, 255)


@pytest.mark.parametrize(
    "channels",
    [
        [IDS, OPAQUE],
        [IDS, np.where(IDS > 0, 255, 0)],
        [IDS] * 2,
        [IDS] * 3,
        [IDS] * 3 + [OPAQUE],
        [0 * IDS] * 3,
    ],
    ids=["LA", "LA cut out", "LA twice", "RGB", "RGBA", "black"],
)
def test_equal_channels_are_one(tmp_path, channels):
    Image.fromarray(np.stack(channels, -1).astype(np.uint8)).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_class_mask(tmp_path / "m.png"), channels[0])


@pytest.mark.parametrize(
    "channels",
    [
        [IDS, IDS, IDS + 1],
        [0 * IDS, IDS],
        [0 * IDS] * 3 + [IDS],
        [IDS, np.where(IDS > 3, 255, 0)],
    ],
    ids=["colours", "drawn in LA", "drawn in RGBA", "hidden"],
)
def test_what_could_mean_two_things_is_refused(tmp_path, channels):
    Image.fromarray(np.stack(channels, -1).astype(np.uint8)).save(tmp_path / "m.png")
    assert read_index_picture(tmp_path / "m.png")[0].ndim == 3
    with pytest.raises(ValueError, match=r"m\.png: a mask is a picture of class ids, one a pixel"):
        read_class_mask(tmp_path / "m.png")

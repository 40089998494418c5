"""Photographs as people see them: turned as their EXIF orientation says.

What a command takes to look at, or to compare with masks, boxes and points that were drawn on it,
is read here. Sources to train on are not: they take pixels as stored, as torchvision and timm do
(`decode.py`).
"""

from pathlib import Path

import numpy as np

from vit_jax_xfer.data.sources.decode import decode_image, image_size, open_picture

_TAG = 0x0112
# orientation → (rows from the bottom, columns from the right, rows for columns), in this order.
_TURNS = {
    2: (False, True, False), 3: (True, True, False), 4: (True, False, False),
    5: (False, False, True), 6: (True, False, True), 7: (True, True, True), 8: (False, True, True),
}  # fmt: skip


def read_photograph(path: Path) -> np.ndarray:
    """A photograph as uint8 (h, w, 3), upright. Errors as of `decode_image`, naming the file."""
    return upright(decode_image(path, str(path)), orientation(path))


def photograph_size(path: Path) -> tuple[int, int]:
    """(width, height) of the upright photograph. ValueError naming it where it can't be read."""
    width, height = image_size(path)
    return (height, width) if _TURNS.get(orientation(path), (0, 0, 0))[2] else (width, height)


def stored_size(path: Path) -> tuple[int, int]:
    """(width, height) of a photograph as stored, where boxes don't say for what size they are.

    ValueError naming it where it can't be read, and where its EXIF turns it: whether its boxes were
    drawn on it upright is not to be known.
    """
    if orientation(path) > 1:
        raise ValueError(
            f"{path}: its EXIF orientation turns it, and nothing says whether its boxes are for it "
            "upright or as stored; save it without the orientation"
        )
    return image_size(path)


def orientation(path: Path) -> int:
    """A file's EXIF orientation, from 1 to 8; 1, as stored, where it says none that can be read."""
    try:
        with open_picture(path) as image:
            found = image.getexif().get(_TAG, 1)
    # Pillow's readers of EXIF raise nearly anything on broken data, which decoding doesn't need.
    except Exception:
        return 1
    return found if found in _TURNS else 1


def upright(pixels: np.ndarray, number: int) -> np.ndarray:
    """Pixels (h, w, …) of an EXIF orientation, turned as viewers show them."""
    from_bottom, from_right, swapped = _TURNS.get(number, (False, False, False))
    turned = pixels[:: -1 if from_bottom else 1, :: -1 if from_right else 1]
    return np.ascontiguousarray(turned.swapaxes(0, 1) if swapped else turned)

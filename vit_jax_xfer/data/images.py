"""The forms an image has inside a pipeline, array, PIL and Picture, and what all can do.

A Picture is a file that isn't decoded yet (`sources/decode.py`).
"""

import math
from typing import Any

import numpy as np

from vit_jax_xfer.arguments.given_arrays import host_array
from vit_jax_xfer.arguments.listed_values import plain
from vit_jax_xfer.data.sources.decode import Picture

# Of what an op makes: more is a slip of the pipeline, or a picture of one row of pixels that a
# resize of its short side would blow up. As floats they are 0.8 GB.
MAX_PIXELS = 2**26
INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")


def as_array(image: Any) -> np.ndarray:
    """The image as an array (h, w, 3), not copied where it is one."""
    return np.asarray(image.rgb() if isinstance(image, Picture) else image)


def as_pil(image: Any) -> Any:
    """The image as a PIL image. Raises ValueError for floats, which PIL would round to bytes."""
    from PIL import Image

    if isinstance(image, Picture):
        return image.rgb()
    if isinstance(image, Image.Image):
        return image
    image = host_array("image", image)
    if image.dtype != np.uint8:
        raise ValueError(
            f"pipeline: an op that works on bytes got {image.dtype}, expected uint8: put it "
            "before to_float and normalize"
        )
    if image.ndim != 3 or image.shape[-1] != 3 or not image.size:
        raise ValueError(f"image: got shape {image.shape}, expected (height, width, 3)")
    return Image.fromarray(np.ascontiguousarray(image))


def height_width(image: Any) -> tuple[int, int]:
    """(height, width) in pixels of any form."""
    if isinstance(image, np.ndarray | Picture):
        return image.shape[0], image.shape[1]
    return image.height, image.width


def crop(image: Any, top: int, left: int, height: int, width: int) -> Any:
    """The box of the image, an array of an array; the box must lie inside."""
    if isinstance(image, np.ndarray):
        return image[top : top + height, left : left + width]
    return as_pil(image).crop((left, top, left + width, top + height))


def crop_resized(
    image: Any,
    top: int,
    left: int,
    height: int,
    width: int,
    target: tuple[int, int],
    interpolation: str,
) -> Any:
    """The box of the image, resized to the target's (height, width); gives a PIL image.

    It is cut before it is resized, so that the filter never looks outside.
    """
    if not isinstance(image, Picture) or not image.draft:
        return resize(crop(image, top, left, height, width), *target, interpolation)
    whole, box = image.region(top, left, height, width, target)
    edges = (math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3]))
    part = whole.crop(edges)
    inside = (box[0] - edges[0], box[1] - edges[1], box[2] - edges[0], box[3] - edges[1])
    return resize(part, *target, interpolation, inside)


def flipped(image: Any) -> Any:
    """The image mirrored, left and right."""
    if isinstance(image, np.ndarray):
        return image[:, ::-1]
    from PIL import Image

    return as_pil(image).transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def pad(
    image: Any,
    top: int,
    bottom: int,
    left: int,
    right: int,
    fill: tuple[int, int, int] = (0, 0, 0),
) -> np.ndarray:
    """The image as an array with so many rows and columns of one colour around it."""
    array = as_array(image)
    height, width, channels = array.shape
    check_pixels(top + height + bottom, left + width + right)
    # Not np.pad: ten times the cost on an 8x8 image.
    padded = np.zeros((height + top + bottom, width + left + right, channels), array.dtype)
    if any(fill):
        padded[:] = fill
    padded[top : top + height, left : left + width] = array
    return padded


def resize(
    image: Any,
    height: int,
    width: int,
    interpolation: str,
    box: tuple[float, float, float, float] | None = None,
) -> Any:
    """Resizes with PIL's antialiased filters to exactly (height, width); gives a PIL image.

    box: of the image, left, top, right and bottom; None = all of it.
    """
    from PIL import Image

    check_pixels(height, width)
    return as_pil(image).resize((width, height), Image.Resampling[interpolation.upper()], box)


def check_size(size: Any) -> tuple[int, int]:
    """(height, width) from a positive int or a pair of them. Raises ValueError."""
    size = plain(size)
    pair = (size, size) if isinstance(size, int) else size
    is_pair = isinstance(pair, tuple | list) and len(pair) == 2
    if not is_pair or not all(isinstance(side, int) and side > 0 for side in pair):
        raise ValueError(f"size: got {size!r}, expected a positive int or (height, width)")
    check_pixels(*pair)
    return pair[0], pair[1]


def check_colour(field: str, colour: Any) -> None:
    """Raises ValueError unless it is red, green, blue in bytes."""
    three = isinstance(colour, tuple | list) and len(colour) == 3
    if not three or not all(type(value) is int and 0 <= value <= 255 for value in colour):
        raise ValueError(f"{field}: got {colour!r}, expected three bytes: red, green, blue")


def check_pixels(height: int, width: int) -> None:
    """Raises ValueError for an image of more than MAX_PIXELS."""
    if height * width > MAX_PIXELS:
        raise ValueError(
            f"pipeline: an image of {height}×{width} pixels, expected {MAX_PIXELS:,} at most"
        )


def check_interpolation(interpolation: Any) -> None:
    """Raises ValueError unless PIL has a filter of that name."""
    if interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"interpolation: got {interpolation!r}, expected one of {', '.join(INTERPOLATIONS)}"
        )

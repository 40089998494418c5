"""Pictures whose pixels are numbers, not colours: masks of objects and of classes."""

from pathlib import Path

import numpy as np

from vit_jax_xfer.data.sources.decode import open_picture

_LARGEST_ID = 65535


def read_index_picture(file: Path) -> tuple[np.ndarray, str]:
    """A picture's stored numbers, (H, W) of a palette or grey one, and Pillow's name of its mode.

    ValueError naming the file where it can't be read.
    """
    try:
        with open_picture(file) as image:
            return np.asarray(image), image.mode
    # Pillow's plugins raise nearly anything on broken data.
    except Exception as error:
        raise ValueError(f"cannot read mask {file}: {type(error).__name__}: {error}") from error


def read_class_mask(file: Path) -> np.ndarray:
    """A mask's ids (H, W), of a palette, grey or 16-bit picture. ValueError naming the file."""
    ids, mode = read_index_picture(file)
    if ids.ndim != 2 or ids.dtype.kind not in "uib":
        raise ValueError(f"{file}: a mask is a picture of class ids, one a pixel; got mode {mode}")
    if ids.dtype.kind == "b":
        ids = ids.astype(np.uint8)
    if ids.min() < 0 or ids.max() > _LARGEST_ID:
        raise ValueError(f"{file}: ids go from {ids.min()} to {ids.max()}; expected 0 to 65535")
    return ids

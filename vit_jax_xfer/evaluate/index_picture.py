"""Pictures whose pixels are numbers, not colours: masks of objects and of classes."""

from pathlib import Path

import numpy as np

from vit_jax_xfer.data.sources.decode import open_picture


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

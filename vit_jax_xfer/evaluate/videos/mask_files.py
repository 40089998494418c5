"""Predicted masks as indexed PNGs, as DAVIS's own tools read them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def save_masks(folder: Path, names: Sequence[str], masks: np.ndarray) -> None:
    """Writes masks (T, H, W) uint8 as folder/NAME.png with the data set's colours."""
    from PIL import Image

    from vit_jax_xfer.explain.pictures import write_png

    folder.mkdir(parents=True, exist_ok=True)
    for name, mask in zip(names, masks, strict=True):
        image = Image.fromarray(mask)
        image.putpalette(palette().tobytes())
        write_png(image, folder / f"{name}.png")


def palette() -> np.ndarray:
    """(256, 3) uint8: the colours of Pascal VOC's and DAVIS's masks.

    Bits 0, 3, 6 … of a label are the highest bits of red and so on down, 1, 4, 7 … those of green.
    """
    labels = np.arange(256)
    colours = np.zeros((256, 3), int)
    for bit in range(8):
        for channel in range(3):
            # There are no bits beyond the seventh.
            colours[:, channel] |= (labels >> (3 * bit + channel) & 1) << (7 - bit)
    return colours.astype(np.uint8)

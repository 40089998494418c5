"""Pictures whose pixels are numbers, not colours: masks of objects and of classes."""

from pathlib import Path

import numpy as np

from vit_jax_xfer.data.sources.decode import open_picture

_LARGEST_ID = 65535


def read_index_picture(file: Path) -> tuple[np.ndarray, str]:
    """A picture's stored numbers, (H, W) of a palette or grey one, and Pillow's name of its mode.

    Colours whose three channels are equal are grey; of transparency, what it shows counts. Other
    colours, and a picture that is drawn in its transparency, stay (H, W, channels).
    ValueError naming the file where it can't be read.
    """
    try:
        with open_picture(file) as image:
            return _one_channel(np.asarray(image), image.mode), image.mode
    # Pillow's plugins raise nearly anything on broken data.
    except Exception as error:
        raise ValueError(f"cannot read mask {file}: {type(error).__name__}: {error}") from error


def _one_channel(values: np.ndarray, mode: str) -> np.ndarray:
    """(H, W) of (H, W, channels) where they say one number a pixel; else as they are."""
    if values.ndim == 2 or mode not in ("LA", "PA", "RGB", "RGBA"):
        return values
    opaque = values[..., -1] if mode.endswith("A") else np.full(values.shape[:2], 255)
    numbers = values[..., :-1] if mode.endswith("A") else values
    first = numbers[..., 0]
    drawn_in_alpha = np.ptp(first) == 0 and np.ptp(opaque) > 0
    hidden = (first[opaque == 0] > 0).any() and np.ptp(opaque) > 0
    equal = (numbers == first[..., None]).all()
    return first if equal and not drawn_in_alpha and not hidden else values


def read_class_mask(file: Path) -> np.ndarray:
    """A mask's ids (H, W), of a palette, grey or 16-bit picture. ValueError naming the file."""
    ids, mode = read_index_picture(file)
    if ids.ndim != 2 or ids.dtype.kind not in "uib":
        raise ValueError(
            f"{file}: a mask is a picture of class ids, one a pixel; got mode {mode} with channels "
            "that differ: save it as grey or with a palette"
        )
    if ids.dtype.kind == "b":
        ids = ids.astype(np.uint8)
    if ids.min() < 0 or ids.max() > _LARGEST_ID:
        raise ValueError(f"{file}: ids go from {ids.min()} to {ids.max()}; expected 0 to 65535")
    return ids

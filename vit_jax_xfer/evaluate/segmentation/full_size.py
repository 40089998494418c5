"""Classes of each pixel of a photograph, from logits of the image that it was resized to."""

import numpy as np

_BLOCK = 2**24  # numbers at once: all of a large photograph's logits are gigabytes


def classes_at(logits: np.ndarray, height: int, width: int) -> np.ndarray:
    """The likeliest class of each pixel of (height, width), int32, of logits (h, w, K).

    Logits are interpolated bilinearly between the middles of cells (PyTorch's align_corners=False)
    before the choice, as published figures are made.
    """
    logits = np.asarray(logits, np.float32)
    rows, columns = _weights(logits.shape[0], height), _weights(logits.shape[1], width)
    step = max(1, _BLOCK // (max(width, logits.shape[1]) * logits.shape[2]))
    found = np.empty((height, width), np.int32)
    for top in range(0, height, step):
        some = np.tensordot(rows[top : top + step], logits, 1)
        found[top : top + step] = np.einsum("rwk,cw->rck", some, columns, optimize=True).argmax(-1)
    return found


def _weights(cells: int, pixels: int) -> np.ndarray:
    """(pixels, cells), of each cell for each pixel."""
    place = np.clip((np.arange(pixels) + 0.5) * cells / pixels - 0.5, 0, cells - 1)
    near = 1 - np.abs(place[:, None] - np.arange(cells))
    return np.maximum(near, 0).astype(np.float32)

"""A video with the mask of every frame, as files."""

import dataclasses
from pathlib import Path

import numpy as np

from vit_jax_xfer.data.sources.index_picture import read_index_picture
from vit_jax_xfer.evaluate.videos.davis import VOID


@dataclasses.dataclass(frozen=True)
class Video:
    """frames: photographs. masks: one for each of them. size: (width, height) of all of them.

    one_object: masks hold 0 and 255, or 0 and 1, as in DAVIS 2016; otherwise objects' numbers.
    later: how many objects the first mask doesn't show and another one does.
    """

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]
    size: tuple[int, int]
    one_object: bool = False
    later: int = 0

    def mask(self, frame: int) -> np.ndarray:
        """(H, W) uint8: 0 = background, k = object k, 255 = void, where an object may be numbered.

        ValueError naming the file that isn't such a mask.
        """
        return read_object_mask(self.masks[frame], self.one_object)

    def truth(self) -> np.ndarray:
        """The masks of all frames, (T, H, W) uint8."""
        return np.stack([self.mask(frame) for frame in range(len(self.masks))])


def read_object_mask(file: Path, one_object: bool = False) -> np.ndarray:
    """The mask of a PNG as in Video.mask: a palette's indices, or a grey picture's values."""
    values, mode = read_index_picture(file)
    if values.ndim != 2 or values.dtype.kind not in "uib":
        raise ValueError(f"{file}: mode {mode}, expected a palette's indices or grey values")
    if values.min() < 0 or values.max() > VOID:
        raise ValueError(f"{file}: a value of {values.max()}, expected objects' numbers up to 254")
    mask = values.astype(np.uint8)
    if not one_object:
        return mask
    labels = np.unique(mask)
    if not set(labels.tolist()) <= {0, 1} and not set(labels.tolist()) <= {0, VOID}:
        raise ValueError(
            f"{file}: values {labels[:9].tolist()}, expected 0 and 255 alone; open masks of "
            "numbered objects as davis2017:PATH"
        )
    return (mask > 0).astype(np.uint8)

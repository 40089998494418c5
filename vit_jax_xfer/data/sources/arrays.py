"""A source over arrays in memory."""

from dataclasses import dataclass

import numpy as np


@dataclass
class ArraySource:
    """Images (N, h, w) grey, (N, h, w, 1) or (N, h, w, 3), uint8, with labels int64 (N,)."""

    images: np.ndarray
    all_labels: np.ndarray
    class_names: tuple[str, ...]
    name: str
    left_out: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        image = self.images[index]
        # Grey images become three channels here and not at opening: a third of the memory, and of
        # what is sent to each worker process.
        if image.ndim == 2:
            image = image[..., None]
        if image.shape[-1] == 1:
            image = image.repeat(3, axis=-1)
        return {"image": image, "label": int(self.all_labels[index])}

    def labels(self) -> np.ndarray:
        """All labels, int64 (N,)."""
        return self.all_labels

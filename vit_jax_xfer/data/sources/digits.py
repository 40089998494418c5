"""The 1,797 handwritten digits that scikit-learn carries: real images without a download."""

import numpy as np

from vit_jax_xfer.data.sources.arrays import ArraySource

SPLITS = ("train", "test")
_TRAIN_SIZE = 1297  # leaves 500 for the test split


def open_digits(path: str, split: str) -> ArraySource:
    """Opens a split of the digits: "train" (1,297) or "test" (500), 8x8 pixels, ten classes.

    The scans' 17 grey levels are spread over 0..255. scikit-learn's order has runs by writer, so
    one fixed shuffle comes before the cut. `path` must be empty. Raises ValueError.
    Source: UCI "Optical Recognition of Handwritten Digits", test part (sklearn.datasets).
    """
    if path:
        raise ValueError(f"spec: got 'digits:{path}', but digits takes no path: write 'digits'")
    if split not in SPLITS:
        raise ValueError(f"split: got {split!r}, but digits has {', '.join(SPLITS)}")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    # RandomState: its permutations are frozen across numpy versions, unlike Generator's.
    order = np.random.RandomState(0).permutation(len(images))
    order = order[:_TRAIN_SIZE] if split == "train" else order[_TRAIN_SIZE:]
    labels = bunch.target[order].astype(np.int64)
    return ArraySource(images[order], labels, tuple("0123456789"), f"digits/{split}")

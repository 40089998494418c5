"""1,797 scans of handwritten digits that come with the package: real images without a download.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, test part, UCI
Machine Learning Repository, 1998 (doi 10.24432/C50P49), CC BY 4.0; in the order in which
scikit-learn's `load_digits` has them, grey levels 0 to 16.
"""

import pathlib

import numpy as np

from vit_jax_xfer.data.sources.arrays import ArraySource

SPLITS = ("train", "test")
_FILE = pathlib.Path(__file__).parent.parent / "digits.npz"
_TRAIN_SIZE = 1297  # leaves 500 for the test split


def open_digits(path: str, split: str) -> ArraySource:
    """Opens a split of the digits: "train" (1,297) or "test" (500), 8x8 pixels, ten classes.

    The scans' 17 grey levels are spread over 0..255. The file's order has runs by writer, so
    one fixed shuffle comes before the cut. `path` must be empty. Raises ValueError.
    """
    if path:
        raise ValueError(f"spec: got 'digits:{path}', but digits takes no path: write 'digits'")
    if split not in SPLITS:
        raise ValueError(f"split: got {split!r}, but digits has {', '.join(SPLITS)}")
    with np.load(_FILE) as file:
        levels, classes = file["images"], file["labels"]
    images = np.round(levels * (255 / 16)).astype(np.uint8)
    # RandomState: its permutations are frozen across numpy versions, unlike Generator's.
    order = np.random.RandomState(0).permutation(len(images))
    order = order[:_TRAIN_SIZE] if split == "train" else order[_TRAIN_SIZE:]
    labels = classes[order].astype(np.int64)
    return ArraySource(images[order], labels, tuple("0123456789"), f"digits/{split}")

"""A made-up set of photographs with maps of classes, as folders."""

import pathlib

import numpy as np
from PIL import Image

COLOURS = {1: (200, 30, 30), 2: (30, 200, 30), 3: (30, 30, 200)}
SIDE = 16


def write_mask_folders(root: pathlib.Path, train: int = 8, val: int = 5) -> str:
    """masks:IMAGES:MASKS of noisy quarters in three colours; a corner of each has no class."""
    rng = np.random.default_rng(0)
    for split, number in (("train", train), ("val", val)):
        for i in range(number):
            ids = rng.choice(list(COLOURS), (2, 2)).repeat(SIDE // 2, 0).repeat(SIDE // 2, 1)
            pixels = np.array([COLOURS[one] for one in ids.ravel()]).reshape(SIDE, SIDE, 3)
            pixels = (pixels + rng.integers(-20, 20, pixels.shape)).clip(0, 255)
            ids[:2, :3] = 255
            for folder, array in (("images", pixels), ("masks", ids)):
                file = root / folder / split / f"{i}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array.astype(np.uint8)).save(file)
    return f"masks:{root / 'images'}:{root / 'masks'}"

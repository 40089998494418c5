"""What the small job can read: a folder of images, a file of arrays, a model to start from."""

import pathlib
import shutil
from typing import Any

import numpy as np
from PIL import Image

from vit_jax_xfer.data import open_source


class Inputs:
    """Made once in a folder; a trial that damages one puts it back as it was."""

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        digits = open_source("digits")
        labels = digits.labels()
        pixels = np.stack([digits[i]["image"] for i in range(len(digits))])
        self._write_images(pixels, labels)
        self.folder("arrays").mkdir(parents=True)
        train, test = slice(0, 60), slice(60, 92)
        np.savez_compressed(
            self.folder("arrays") / "digits.npz",
            train_images=pixels[train],
            train_labels=labels[train],
            test_images=pixels[test],
            test_labels=labels[test],
        )

    def folder(self, name: str) -> pathlib.Path:
        """Where an input is."""
        return self._folder / name

    def fields(self, name: str) -> dict[str, Any]:
        """The fields of the config that make the job read it."""
        folder = self.folder(name)
        return {
            "images": {"data__source": f"folder:{folder}", "eval__split": "val"},
            "arrays": {"data__source": f"npz:{folder / 'digits.npz'}", "eval__split": "test"},
            "model": {"init_from": folder},
        }[name]

    def add_model(self, model: pathlib.Path) -> None:
        """Takes a copy of a finished model."""
        if not self.folder("model").exists():
            shutil.copytree(model, self.folder("model"))

    def _write_images(self, pixels: np.ndarray, labels: np.ndarray) -> None:
        for split, numbers in {"train": range(60), "val": range(60, 92)}.items():
            for number in numbers:
                folder = self.folder("images") / split / str(labels[number])
                folder.mkdir(parents=True, exist_ok=True)
                ending = ("png", "jpg")[number % 2]
                Image.fromarray(pixels[number]).save(folder / f"{number:03d}.{ending}")

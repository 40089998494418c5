"""Feature extractors of known features, for tests of evaluations; and a tiny network."""

import pathlib

import jax
import numpy as np

import vit_jax_xfer as vjx
from vit_jax_xfer.pretrained.saved_models import save_file


class KnownExtractor:
    """`features(photos uint8 (B, H, W, 3))` on a grid of H // patch, and the rest of one."""

    def __init__(self, features, patch=8, enlarge=1, name="known"):
        self.features, self.patch, self.enlarge, self.name = features, patch, enlarge, name
        self.calls = []
        self.seconds_per_image = 0.001

    def __call__(self, photos):
        assert photos.dtype == np.uint8 and photos.ndim == 4
        self.calls.append(photos.shape)
        return self.features(patch_means(photos, self.patch))

    def side(self, size):
        return self.enlarge * size

    def grid(self, size):
        return (self.side(size) // self.patch,) * 2

    def multiply_adds(self, size):
        return 0


def patch_means(photos, patch):
    """Mean colours (B, h, w, 3) float32 from 0 to 1 of square patches."""
    b, height, width, _ = photos.shape
    blocks = photos.reshape(b, height // patch, patch, width // patch, patch, 3)
    return blocks.mean((2, 4), dtype=np.float64).astype(np.float32) / 255


def bright_or_not(means):
    """Two channels, of which one is 1 in bright patches and the other in dark ones."""
    bright = means.mean(-1) > 0.5
    return np.stack([bright, ~bright], axis=-1).astype(np.float32)


def tiny_backbone_file(folder: pathlib.Path) -> str:
    """A random network of 8-pixel patches and 32-pixel images, as a file that commands take."""
    model = vjx.create_model("vit_micro_patch8", image_size=32, num_classes=0)
    variables = model.init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    file = folder / "tiny.safetensors"
    save_file(file, model, variables)
    return str(file)

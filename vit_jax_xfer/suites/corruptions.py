"""Five ways to spoil an image, each at three severities, for sets like CIFAR-10-C of one's own.

The definitions are this project's (docs/suites.md), after the kinds of 1903.12261: figures on them
stand beside each other, not beside published ones.
"""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_FOG_CELLS = 4  # of the grid whose random heights make the fog, along each side


class Corruption(NamedTuple):
    """A way to spoil an image.

    run: (H, W, 3) float64 in [0, 1], a strength and random numbers → the same shape, which is then
    cut off at 0 and 1. strengths: at severities 1, 2 and 3.
    """

    run: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
    strengths: tuple[float, float, float]


def corrupt_image(image: np.ndarray, corruption: str, severity: int, seed: int = 0) -> np.ndarray:
    """An image spoilt by one of OWN_CORRUPTIONS, uint8 (H, W, 3) as it came.

    What is drawn hangs on the seed, the corruption and the image's pixels: not on its name, on what
    is beside it, or on the severity, so that a severity spoils more of the same. ValueError for an
    unknown corruption, a severity that isn't 1 to 3, and an image of another shape or type.
    """
    if corruption not in OWN_CORRUPTIONS:
        raise ValueError(f"corruptions: {corruption!r} is none of {', '.join(OWN_CORRUPTIONS)}")
    found = OWN_CORRUPTIONS[corruption]
    if severity not in range(1, len(found.strengths) + 1):
        raise ValueError(f"severity: got {severity}, expected 1 to {len(found.strengths)}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(f"image: got {image.dtype} {image.shape}, expected uint8 (H, W, 3)")
    key = hashlib.sha256(f"{seed} {corruption} {image.shape} ".encode() + image.tobytes()).digest()
    rng = np.random.default_rng(np.frombuffer(key, np.uint32))
    spoilt = found.run(image / 255, found.strengths[severity - 1], rng)
    return np.round(255 * spoilt.clip(0, 1)).astype(np.uint8)


def _gaussian_noise(image: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    return image + deviation * rng.standard_normal(image.shape)


def _gaussian_blur(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    deviation = share * min(image.shape[:2])
    return gaussian_filter(image, (deviation, deviation, 0), mode="nearest")


def _fog(image: np.ndarray, density: float, rng: np.random.Generator) -> np.ndarray:
    """Mixed with a smooth grey field of [0.5, 1]: the same for all three channels."""
    from PIL import Image

    heights = rng.uniform(0.5, 1, (_FOG_CELLS, _FOG_CELLS)).astype(np.float32)
    size = image.shape[1], image.shape[0]
    field = np.asarray(Image.fromarray(heights).resize(size, Image.Resampling.BICUBIC))
    return (1 - density) * image + density * field.clip(0.5, 1)[..., None]


def _contrast(image: np.ndarray, kept: float, rng: np.random.Generator) -> np.ndarray:
    mean = image.mean()
    return mean + kept * (image - mean)


def _pixelate(image: np.ndarray, kept: float, rng: np.random.Generator) -> np.ndarray:
    """Shrunk to a share of its sides by averaging, and enlarged by repeating pixels."""
    from PIL import Image

    size = image.shape[1], image.shape[0]
    small = tuple(max(1, round(kept * side)) for side in size)
    picture = Image.fromarray(np.round(255 * image).astype(np.uint8))
    shrunk = picture.resize(small, Image.Resampling.BOX)
    return np.asarray(shrunk.resize(size, Image.Resampling.NEAREST)) / 255


OWN_CORRUPTIONS: dict[str, Corruption] = {
    # standard deviation, of pixels in [0, 1]
    "gaussian_noise": Corruption(_gaussian_noise, (0.05, 0.10, 0.20)),
    # standard deviation, as a share of the shorter side
    "gaussian_blur": Corruption(_gaussian_blur, (0.02, 0.035, 0.05)),
    # share of the fog
    "fog": Corruption(_fog, (0.3, 0.5, 0.7)),
    # factor of the differences to the image's mean
    "contrast": Corruption(_contrast, (0.5, 0.3, 0.15)),
    # sides of the shrunk image, as shares
    "pixelate": Corruption(_pixelate, (0.6, 0.45, 0.3)),
}

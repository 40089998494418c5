"""Pipeline ops that end in float32: to_float and normalize."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from vit_jax_xfer.data import images
from vit_jax_xfer.data.operations import register

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def to_float(image: Any) -> np.ndarray:
    """The image as float32 (h, w, 3): bytes divided by 255, floats as they are."""
    array = images.as_array(image)
    if array.dtype == np.float32:
        return array
    return np.divide(array, 255, dtype=np.float32)


@register("to_float")
@dataclass(frozen=True)
class ToFloat:
    """Bytes to float32 in [0, 1]."""

    in_place: ClassVar = True

    def __call__(self, image: Any, rng: np.random.Generator) -> np.ndarray:
        return to_float(image)


@register("normalize")
@dataclass
class Normalize:
    """(pixel - mean) / std in float32, of pixels in [0, 1]: bytes are divided by 255 first.

    mean, std: one number, or three for red, green, blue (default: ImageNet's).
    """

    mean: float | tuple[float, float, float] = IMAGENET_MEAN
    std: float | tuple[float, float, float] = IMAGENET_STD
    in_place: ClassVar = True

    def __post_init__(self):
        self._mean = _channels(self.mean, "mean")
        self._std = _channels(self.std, "std")
        if not (self._std > 0).all():
            raise ValueError(f"std: got {self.std!r}, expected numbers greater than 0")

    @property
    def levels(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """mean and std, one number or three each."""
        return tuple(self._mean.tolist()), tuple(self._std.tolist())

    def __call__(self, image: Any, rng: np.random.Generator) -> np.ndarray:
        # Three plain float32 steps, because that is bit for bit what the references compute.
        pixels = to_float(image) - self._mean
        pixels /= self._std
        return pixels


def _channels(value: Any, name: str) -> np.ndarray:
    values = value if isinstance(value, tuple | list) else (value,)
    if len(values) not in (1, 3) or not all(isinstance(v, int | float) for v in values):
        raise ValueError(f"{name}: got {value!r}, expected a number or three")
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: got {value!r}, expected finite numbers")
    return np.array(values, np.float32)

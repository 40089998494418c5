"""Pipeline ops of colour and sharpness: gray_scale, solarize, gaussian_blur, three_augment.

Sources: DeiT III (2204.07118) for the last, which takes one of the other three; self-supervised
recipes for each alone, at a chance. On PIL images, as torchvision and Pillow do them.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from vit_jax_xfer.data import images
from vit_jax_xfer.data.operations import register

if TYPE_CHECKING:
    from PIL.Image import Image


@register("gray_scale")
@dataclass(frozen=True)
class GrayScale:
    """The luminance in all three channels, with a chance. Takes bytes, gives a PIL image."""

    probability: float = 1.0
    in_place: ClassVar = True

    def __post_init__(self):
        check_share("probability", self.probability)

    def __call__(self, image: Any, rng: np.random.Generator) -> "Image":
        image = images.as_pil(image)
        return image.convert("L").convert("RGB") if rng.random() < self.probability else image


@register("solarize")
@dataclass(frozen=True)
class Solarize:
    """Levels of `threshold` and above are inverted, with a chance. Takes bytes, gives PIL's."""

    threshold: int = 128
    probability: float = 1.0
    in_place: ClassVar = True

    def __post_init__(self):
        if type(self.threshold) is not int or not 0 <= self.threshold <= 256:
            raise ValueError(f"threshold: got {self.threshold!r}, expected an int from 0 to 256")
        check_share("probability", self.probability)

    def __call__(self, image: Any, rng: np.random.Generator) -> "Image":
        from PIL import ImageOps

        image = images.as_pil(image)
        chosen = rng.random() < self.probability
        return ImageOps.solarize(image, self.threshold) if chosen else image


@register("gaussian_blur")
@dataclass(frozen=True)
class GaussianBlur:
    """Blurred by a uniform radius in pixels, with a chance. Takes bytes, gives a PIL image."""

    radius: tuple[float, float] = (0.1, 2.0)
    probability: float = 1.0
    in_place: ClassVar = True

    def __post_init__(self):
        pair = isinstance(self.radius, tuple | list) and len(self.radius) == 2
        if not pair or not all(isinstance(r, int | float) and 0 <= r <= 1000 for r in self.radius):
            raise ValueError(f"radius: got {self.radius!r}, expected (least, most) in pixels")
        if self.radius[0] > self.radius[1]:
            raise ValueError(f"radius: got {self.radius!r}, expected the least before the most")
        check_share("probability", self.probability)

    def __call__(self, image: Any, rng: np.random.Generator) -> "Image":
        from PIL import ImageFilter

        image = images.as_pil(image)
        chosen, radius = rng.random() < self.probability, rng.uniform(*self.radius)
        return image.filter(ImageFilter.GaussianBlur(radius)) if chosen else image


@register("three_augment")
@dataclass(frozen=True)
class ThreeAugment:
    """One of gray scale, solarize at 128 and a blur of 0.1 to 2 pixels, equally likely (DeiT III).

    Its recipe has color_jitter(0.3, 0.3, 0.3) behind it. Takes bytes, gives a PIL image.
    """

    in_place: ClassVar = True

    def __call__(self, image: Any, rng: np.random.Generator) -> "Image":
        chosen = (GrayScale(), Solarize(), GaussianBlur())[rng.integers(3)]
        return chosen(image, np.random.default_rng(rng.integers(2**63)))


def check_share(field: str, value: Any) -> None:
    """Raises ValueError unless it is a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"{field}: got {value!r}, expected a number from 0 to 1")

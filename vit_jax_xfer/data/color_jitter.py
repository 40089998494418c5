"""Pipeline op color_jitter: brightness, contrast, saturation and hue, by chance, in any order."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from vit_jax_xfer.data import images
from vit_jax_xfer.data.operations import register

if TYPE_CHECKING:
    from PIL.Image import Image

_ENHANCERS = {"brightness": "Brightness", "contrast": "Contrast", "saturation": "Color"}


@register("color_jitter")
@dataclass(frozen=True)
class ColorJitter:
    """Factors from max(0, 1 - s) to 1 + s for brightness, contrast and saturation, a shift of hue.

    hue: up to that share of the colour circle either way, 0 to 0.5. The four come in an order drawn
    for each image; 0 leaves one out. Takes bytes (PIL or uint8 arrays), gives a PIL image. Each is
    what torchvision's `ColorJitter` does to PIL images. Raises ValueError.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    in_place: ClassVar = True

    def __post_init__(self):
        for name in ("brightness", "contrast", "saturation", "hue"):
            value = getattr(self, name)
            most = 0.5 if name == "hue" else sys.float_info.max / 2
            if not isinstance(value, int | float) or not 0 <= value <= most:
                limit = "from 0 to 0.5" if name == "hue" else "of 0 or more"
                raise ValueError(f"{name}: got {value!r}, expected a number {limit}")

    def __call__(self, image: Any, rng: np.random.Generator) -> "Image":
        result = images.as_pil(image)
        # The same draws whatever is left out, so that what is drawn after does not hang on it.
        order, draws = rng.permutation(4), rng.uniform(-1, 1, 4)
        for index in order:
            name = ("brightness", "contrast", "saturation", "hue")[index]
            strength = getattr(self, name)
            if strength:
                result = adjust(result, name, _amount(name, strength, draws[index]))
        return result


def adjust(image: "Image", name: str, amount: float) -> "Image":
    """An RGB image with one property changed: by a factor (1 = none), hue by a shift (0 = none)."""
    from PIL import Image, ImageEnhance

    if name != "hue":
        return getattr(ImageEnhance, _ENHANCERS[name])(image).enhance(amount)
    hue, saturation, value = image.convert("HSV").split()
    # Whole levels, wrapping around: the circle has 256.
    shifted = (np.asarray(hue).astype(np.int32) + int(amount * 255)) % 256
    hue = Image.fromarray(shifted.astype(np.uint8), "L")
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def _amount(name: str, strength: float, draw: float) -> float:
    """A draw in [-1, 1] → the hue's shift, or a factor between the bounds."""
    if name == "hue":
        return strength * draw
    low, high = max(0.0, 1 - strength), 1 + strength
    return low + (draw + 1) / 2 * (high - low)

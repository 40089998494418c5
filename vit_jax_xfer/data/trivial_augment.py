"""Pipeline op trivial_augment: one image operation, drawn at random, at a random strength."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vit_jax_xfer.arguments.listed_values import plain
from vit_jax_xfer.arguments.whole_numbers import check_number, is_whole
from vit_jax_xfer.data import images
from vit_jax_xfer.data.operations import register

if TYPE_CHECKING:
    from PIL.Image import Image

INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
_NO_STRENGTH = (0.0, 0.0, False)
# Name: strength of the first bin, strength of the last, whether half the draws negate it.
OPS: dict[str, tuple[float, float, bool]] = {
    "Identity": _NO_STRENGTH,
    "ShearX": (0.0, 0.99, True),
    "ShearY": (0.0, 0.99, True),
    "TranslateX": (0.0, 32.0, True),
    "TranslateY": (0.0, 32.0, True),
    "Rotate": (0.0, 135.0, True),
    "Brightness": (0.0, 0.99, True),
    "Color": (0.0, 0.99, True),
    "Contrast": (0.0, 0.99, True),
    "Sharpness": (0.0, 0.99, True),
    "Posterize": (8.0, 2.0, False),
    "Solarize": (255.0, 0.0, False),
    "AutoContrast": _NO_STRENGTH,
    "Equalize": _NO_STRENGTH,
}


@register("trivial_augment")
@dataclass(frozen=True)
class TrivialAugment:
    """TrivialAugmentWide: one of 14 operations at one of `num_bins` strengths, all equally likely.

    Takes bytes (PIL or uint8 arrays), gives a PIL image of the same size. Shears and translations
    (up to 32 pixels, whatever the image's size) and rotations take pixels by `interpolation`
    ("nearest", "bilinear", "bicubic") and fill what they lay bare with `fill`, one level or red,
    green and blue, 0 to 255. Pixels equal torchvision's `TrivialAugmentWide` on PIL images.
    Raises ValueError for floats. Source: TrivialAugment, arXiv 2103.10158.
    """

    num_bins: int = 31
    interpolation: str = "nearest"
    fill: int | tuple[int, int, int] = 0

    def __post_init__(self):
        if not isinstance(self.num_bins, int) or self.num_bins < 2:
            raise ValueError(f"num_bins: got {self.num_bins!r}, expected an int of 2 or more")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"interpolation: got {self.interpolation!r}, expected one of "
                f"{', '.join(INTERPOLATIONS)}"
            )
        three_levels(self.fill)

    def __call__(self, image: Any, rng: np.random.Generator) -> "Image":
        # Three draws for every operation, so that what is drawn after does not hang on which.
        op = list(OPS)[rng.integers(len(OPS))]
        bin_index = int(rng.integers(self.num_bins))
        strength = strength_of(op, bin_index, self.num_bins)
        if rng.integers(2) and OPS[op][2]:
            strength = -strength
        return apply(images.as_pil(image), op, strength, self.interpolation, self.fill)


def strength_of(op: str, bin_index: int, num_bins: int) -> float:
    """The strength of bin 0 … num_bins - 1, without a sign; 0 for operations that have none."""
    first, last, _ = OPS[op]
    if op == "Posterize":
        return first - round(bin_index * (first - last) / (num_bins - 1))
    # torch.linspace to the last bit, as processors with fused multiply-add compute it: from both
    # ends, the step in float32, the rest rounded once. It shows: bin 15 of 31 moves an image by
    # 15.999999 pixels, of which 15 remain.
    step = float((np.float32(last) - np.float32(first)) / np.float32(num_bins - 1))
    if bin_index < num_bins // 2:
        return float(np.float32(np.float32(first) + step * bin_index))
    return float(np.float32(float(np.float32(last)) - step * (num_bins - 1 - bin_index)))


def apply(
    image: "Image",
    op: str,
    strength: float,
    interpolation: str = "nearest",
    fill: int | tuple[int, int, int] = 0,
) -> "Image":
    """The RGB image after one operation of `OPS`, of the same size.

    strength: a slope (shears), pixels to the right or down (translations), degrees
    counter-clockwise (Rotate), how far from 1 the factor is (Brightness to Sharpness), bits kept
    (Posterize), the level from which on pixels are inverted (Solarize); ignored by the others.
    """
    from PIL import Image

    resample = Image.Resampling[interpolation.upper()]
    if op == "Rotate":
        return image.rotate(strength, resample, fillcolor=three_levels(fill))
    matrix = _matrix(op, strength)
    if matrix is not None:
        return image.transform(
            image.size, Image.Transform.AFFINE, matrix, resample, fillcolor=three_levels(fill)
        )
    return _recolour(image, op, strength)


def _matrix(op: str, strength: float) -> tuple[float, ...] | None:
    """PIL's (a, b, c, d, e, f), pixel (x, y) from (ax + by + c, dx + ey + f); None for no such op.

    Shears hold the top left corner still, not the middle.
    """
    pixels = int(strength)
    return {
        "ShearX": (1.0, strength, 0.0, 0.0, 1.0, 0.0),
        "ShearY": (1.0, 0.0, 0.0, strength, 1.0, 0.0),
        "TranslateX": (1.0, 0.0, -pixels, 0.0, 1.0, 0.0),
        "TranslateY": (1.0, 0.0, 0.0, 0.0, 1.0, -pixels),
    }.get(op)


def _recolour(image: "Image", op: str, strength: float) -> "Image":
    from PIL import ImageEnhance, ImageOps

    match op:
        case "Brightness" | "Color" | "Contrast" | "Sharpness":
            return getattr(ImageEnhance, op)(image).enhance(1.0 + strength)
        case "Posterize":
            return ImageOps.posterize(image, int(strength))
        case "Solarize":
            return ImageOps.solarize(image, strength)
        case "AutoContrast":
            return ImageOps.autocontrast(image)
        case "Equalize":
            return ImageOps.equalize(image)
        case "Identity":
            return image
    raise ValueError(f"op: got {op!r}, expected one of {', '.join(OPS)}")


def three_levels(fill: Any) -> tuple[int, ...]:
    """Red, green and blue of one level or three, 0 to 255. ValueError for anything else."""
    given = plain(fill)
    levels = tuple(given) if isinstance(given, tuple | list) else (given,) * 3
    if len(levels) != 3 or not all(is_whole(v) and 0 <= v <= 255 for v in levels):
        raise ValueError(f"fill: got {fill!r}, expected an int from 0 to 255 or three")
    return levels


def trivial_augment_op(
    image: Any,
    op: str,
    value: float,
    interpolation: str = "nearest",
    fill: int | tuple[int, int, int] = 0,
) -> np.ndarray:
    """One operation of TrivialAugmentWide: uint8 (H, W, 3) → uint8 (H, W, 3).

    value: its strength as `apply` takes it, signed. ValueError for an unknown operation, and for
    floats. Source: TrivialAugment (2103.10158), torchvision's operations on PIL images.
    """
    if interpolation not in INTERPOLATIONS:
        expected = ", ".join(INTERPOLATIONS)
        raise ValueError(f"interpolation: got {interpolation!r}, expected one of {expected}")
    check_number("value", value)
    if op not in tuple(OPS):  # a list, which has no hash, is none of them
        raise ValueError(f"op: got {op!r}, expected one of {', '.join(OPS)}")
    return np.asarray(apply(images.as_pil(image), op, value, interpolation, fill))

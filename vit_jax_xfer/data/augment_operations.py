"""Operations on an image's bytes by timm's names, each as strong as its magnitude.

Source: RandAugment (1909.13719), as timm 1.0 runs it on PIL images.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vit_jax_xfer.arguments.whole_numbers import check_number
from vit_jax_xfer.data import images
from vit_jax_xfer.data.trivial_augment import INTERPOLATIONS, three_levels

if TYPE_CHECKING:
    from PIL.Image import Image

MEAN_COLOUR = (124, 116, 104)  # ImageNet's, in bytes: the usual fill, nearly 0 once normalised
STEPS = 10.0  # the usual greatest magnitude


class Operation(NamedTuple):
    """One operation of timm's, by the names of its table.

    argument: what it does at a magnitude; None = the same at any. signed: half the draws negate it.
    run: its result on a PIL image, at that argument.
    """

    run: Callable[["Image", float], "Image"] | str
    argument: Callable[[float], float] | None = None
    signed: bool = False


def _enhanced(name: str) -> Callable[["Image", float], "Image"]:
    def run(image: "Image", factor: float) -> "Image":
        from PIL import ImageEnhance

        return getattr(ImageEnhance, name)(image).enhance(factor)

    return run


def _of_image_ops(name: str) -> Callable[["Image", float], "Image"]:
    def run(image: "Image", _: float) -> "Image":
        from PIL import ImageOps

        return getattr(ImageOps, name)(image)

    return run


def _posterize(image: "Image", bits: float) -> "Image":
    # Pillow 13 refuses 0 bits, which older ones and the published runs turn into black.
    mask = 255 ^ (255 >> int(bits))
    return image.point([level & mask for level in range(256)] * 3)


def _solarize(image: "Image", threshold: float) -> "Image":
    from PIL import ImageOps

    return ImageOps.solarize(image, int(threshold))


def _solarize_add(image: "Image", added: float) -> "Image":
    return image.point([min(255, i + int(added)) if i < 128 else i for i in range(256)] * 3)


def _blurred(image: "Image", radius: float) -> "Image":
    from PIL import ImageFilter

    return image.filter(ImageFilter.GaussianBlur(radius))


def _kept_bits(magnitude: float) -> int:
    return int(magnitude / STEPS * 4)


def _threshold(magnitude: float) -> int:
    return min(256, int(magnitude / STEPS * 256))


def _away_from_one(magnitude: float) -> float:
    """A signed change of a factor, which is 1 + it and 0.1 at least."""
    return magnitude / STEPS * 0.9


def _enhance(name: str) -> dict[str, Operation]:
    """An enhancement whose factor grows from 0.1 to 1.9, and one that goes either way from 1."""
    run = _enhanced(name)
    return {
        name: Operation(run, lambda magnitude: magnitude / STEPS * 1.8 + 0.1),
        f"{name}Increasing": Operation(
            lambda image, change: run(image, max(0.1, 1.0 + change)), _away_from_one, signed=True
        ),
    }


# Those that move pixels are named by what `_affine` makes of their argument.
OPERATIONS: dict[str, Operation] = {
    "AutoContrast": Operation(_of_image_ops("autocontrast")),
    "Equalize": Operation(_of_image_ops("equalize")),
    "Invert": Operation(_of_image_ops("invert")),
    "Rotate": Operation("rotate", lambda magnitude: magnitude / STEPS * 30.0, signed=True),
    "Posterize": Operation(_posterize, _kept_bits),
    "PosterizeIncreasing": Operation(_posterize, lambda magnitude: 4 - _kept_bits(magnitude)),
    "PosterizeOriginal": Operation(_posterize, lambda magnitude: 4 + _kept_bits(magnitude)),
    "Solarize": Operation(_solarize, _threshold),
    "SolarizeIncreasing": Operation(_solarize, lambda magnitude: 256 - _threshold(magnitude)),
    "SolarizeAdd": Operation(_solarize_add, lambda m: min(128, int(m / STEPS * 110))),
    **_enhance("Color"),
    **_enhance("Contrast"),
    **_enhance("Brightness"),
    **_enhance("Sharpness"),
    "ShearX": Operation("shear_x", lambda magnitude: magnitude / STEPS * 0.3, signed=True),
    "ShearY": Operation("shear_y", lambda magnitude: magnitude / STEPS * 0.3, signed=True),
    "TranslateXRel": Operation("shift_x", lambda m: m / STEPS * 0.45, signed=True),
    "TranslateYRel": Operation("shift_y", lambda m: m / STEPS * 0.45, signed=True),
    "Desaturate": Operation(
        lambda image, share: _enhanced("Color")(image, min(1.0, max(0.0, 1.0 - share))),
        lambda magnitude: min(1.0, max(0.5, 0.5 + magnitude / STEPS * 0.5)),
    ),
    "GaussianBlur": Operation(
        _blurred, lambda m: min(2.0, max(0.1, 0.1 + (2.0 - 0.1) * (m / STEPS)))
    ),
}


def apply(
    image: "Image",
    op: str,
    magnitude: float,
    negate: bool = False,
    interpolation: str = "bicubic",
    fill: int | tuple[int, int, int] = MEAN_COLOUR,
) -> "Image":
    """The RGB image after one of `OPERATIONS` at a magnitude, of the same size.

    negate: the other way, where the operation has two. ValueError for an unknown operation.
    """
    if not isinstance(op, str) or op not in OPERATIONS:
        raise ValueError(f"op: got {op!r}, expected one of {', '.join(OPERATIONS)}")
    run, argument, signed = OPERATIONS[op]
    value = argument(magnitude) if argument else 0.0
    if signed and negate:
        value = -value
    if isinstance(run, str):
        return _affine(image, run, value, interpolation, fill)
    return run(image, value)


def _affine(
    image: "Image", kind: str, value: float, interpolation: str, fill: int | tuple[int, int, int]
) -> "Image":
    """Rotated by degrees counter-clockwise, sheared, or moved by a share of a side, left or up."""
    from PIL import Image

    resample = Image.Resampling[interpolation.upper()]
    if kind == "rotate":
        return image.rotate(value, resample, fillcolor=three_levels(fill))
    matrix = {
        "shear_x": (1, value, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, value, 1, 0),
        "shift_x": (1, 0, value * image.width, 0, 1, 0),
        "shift_y": (1, 0, 0, 0, 1, value * image.height),
    }[kind]
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, resample, fillcolor=three_levels(fill)
    )


def rand_augment_op(
    image: Any,
    op: str,
    magnitude: float,
    negate: bool = False,
    interpolation: str = "bicubic",
    fill: int | tuple[int, int, int] = MEAN_COLOUR,
) -> np.ndarray:
    """One operation of RandAugment by timm's name: uint8 (H, W, 3) → uint8 (H, W, 3).

    magnitude: 0 to 10. negate: the other way, where the operation has two. fill: what shears,
    translations and rotations lay bare, one level or red, green, blue. ValueError for an unknown
    operation, and for floats. Source: RandAugment (1909.13719), timm 1.0.
    """
    if interpolation not in INTERPOLATIONS:
        expected = ", ".join(INTERPOLATIONS)
        raise ValueError(f"interpolation: got {interpolation!r}, expected one of {expected}")
    check_number("magnitude", magnitude)
    changed = apply(images.as_pil(image), op, magnitude, negate, interpolation, fill)
    return np.asarray(changed)

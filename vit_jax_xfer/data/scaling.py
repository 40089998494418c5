"""Pipeline ops for detection and segmentation: lsj, resize_pad, random_resize.

Borders are at the bottom and right, in ImageNet's mean colour, which `normalize` makes nearly 0.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from vit_jax_xfer.data import images
from vit_jax_xfer.data.augment_operations import MEAN_COLOUR
from vit_jax_xfer.data.frame import Move, both, cropped, resized
from vit_jax_xfer.data.operations import Geometric, register


@register("lsj")
@dataclass(frozen=True)
class LargeScaleJitter(Geometric):
    """Resized to fit into size · s, s uniform in [least, most], then cut to size (LSJ).

    One draw places the box along both axes, as in the released code of ViTDet (2203.16527); a small
    image gets a border. Source: Ghiasi et al., Simple Copy-Paste (2012.07177).
    """

    size: int | tuple[int, int]
    least: float = 0.1
    most: float = 2.0
    interpolation: str = "bilinear"
    fill: tuple[int, int, int] = MEAN_COLOUR
    takes_pictures: ClassVar = True

    def __post_init__(self):
        images.check_size(self.size)
        images.check_interpolation(self.interpolation)
        images.check_colour("fill", self.fill)
        check_scales(self.least, self.most)

    def move(self, image: Any, rng: np.random.Generator) -> tuple[Any, Move]:
        target = images.check_size(self.size)
        scale, place = rng.uniform(self.least, self.most), rng.random()
        old = images.height_width(image)
        inside = _size_inside(old, (target[0] * scale, target[1] * scale))
        starts = [
            round(max(side - most, 0) * place) for side, most in zip(inside, target, strict=True)
        ]
        kept = [min(side, most) for side, most in zip(inside, target, strict=True)]
        image = _resized_part(image, inside, (*starts, *kept), self.interpolation)
        image = images.pad(image, 0, target[0] - kept[0], 0, target[1] - kept[1], self.fill)
        return image, both(resized(old, inside), cropped(*starts, *target))


@register("resize_pad")
@dataclass(frozen=True)
class ResizePad(Geometric):
    """Resized, height and width alike, to fit into size; the rest is border.

    short: of the short side at most so many pixels; None = as large as fits. resize_pad(1024,
    short=512) is mmsegmentation's test at 512.
    """

    size: int | tuple[int, int]
    short: int | None = None
    interpolation: str = "bilinear"
    fill: tuple[int, int, int] = MEAN_COLOUR
    takes_pictures: ClassVar = True

    def __post_init__(self):
        images.check_size(self.size)
        images.check_interpolation(self.interpolation)
        images.check_colour("fill", self.fill)
        check_side("short", self.short)

    def move(self, image: Any, rng: np.random.Generator) -> tuple[Any, Move]:
        target, old = images.check_size(self.size), images.height_width(image)
        most = target if self.short is None else [self.short / min(old) * side for side in old]
        inside = _size_inside(old, (min(target[0], most[0]), min(target[1], most[1])))
        image = images.resize(image, *inside, self.interpolation)
        image = images.pad(image, 0, target[0] - inside[0], 0, target[1] - inside[1], self.fill)
        return image, both(resized(old, inside), cropped(0, 0, *target))


@register("random_resize")
@dataclass(frozen=True)
class RandomResize(Geometric):
    """Resized by a factor uniform in [least, most], height and width alike.

    short: the short side that factor 1 gives, pixels; None = the image's own. long: what the long
    side is at most at factor 1; None = no limit. With both it is mmsegmentation's rule.
    """

    least: float
    most: float
    short: int | None = None
    long: int | None = None
    interpolation: str = "bilinear"
    takes_pictures: ClassVar = True

    def __post_init__(self):
        check_scales(self.least, self.most)
        images.check_interpolation(self.interpolation)
        check_side("short", self.short)
        check_side("long", self.long)

    def move(self, image: Any, rng: np.random.Generator) -> tuple[Any, Move]:
        height, width = images.height_width(image)
        factor = 1.0
        if self.short is not None:
            factor = self.short / min(height, width)
        if self.long is not None:
            factor = min(factor, self.long / max(height, width))
        factor *= rng.uniform(self.least, self.most)
        target = max(round(height * factor), 1), max(round(width * factor), 1)
        moved = resized((height, width), target)
        return images.resize(image, *target, self.interpolation), moved


def check_side(name: str, value: Any) -> None:
    """ValueError unless it is a number of pixels, or None."""
    if value is not None and (type(value) is not int or value < 1):
        raise ValueError(f"{name}: got {value!r}, expected pixels or None")


def check_scales(least: Any, most: Any) -> None:
    """ValueError unless both are numbers, 0.01 <= least <= most <= 100."""
    numbers = all(isinstance(value, int | float) for value in (least, most))
    if not numbers or not 0.01 <= least <= most <= 100:
        raise ValueError(
            f"least, most: got {least!r} and {most!r}, expected 0.01 <= least <= most <= 100"
        )


def _size_inside(old: tuple[int, int], within: tuple[float, float]) -> tuple[int, int]:
    """The largest (height, width) of the old one's shape inside another, each rounded."""
    scale = min(within[0] / old[0], within[1] / old[1])
    return max(round(old[0] * scale), 1), max(round(old[1] * scale), 1)


def _resized_part(
    image: Any, size: tuple[int, int], part: tuple[int, int, int, int], interpolation: str
) -> Any:
    """A part (top, left, height, width) of the image resized to `size`, and no pixel more.

    It is computed from the part of the image that it shows, so that an image twice as large is
    never made; the filter sees what lies beyond the part, as if it had been cut out afterwards.
    """
    top, left, height, width = part
    old = images.height_width(image)
    across, down = old[1] / size[1], old[0] / size[0]
    box = left * across, top * down, (left + width) * across, (top + height) * down
    box = box[0], box[1], min(box[2], old[1]), min(box[3], old[0])
    return images.resize(image, height, width, interpolation, box)

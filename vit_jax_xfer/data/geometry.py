"""Pipeline ops that move pixels: resize, crops, flip. Rules as in torchvision's PIL path.

Each says what it did to places too (`Geometric`), so that boxes and masks go where the image goes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from vit_jax_xfer.arguments.whole_numbers import check_each_whole
from vit_jax_xfer.data import images
from vit_jax_xfer.data.frame import Move, both, cropped, kept, mirrored, resized
from vit_jax_xfer.data.operations import Geometric, register
from vit_jax_xfer.data.target_arrays import VOID

_TRIES = 10
Classes = Callable[[Move], np.ndarray]  # the map of classes, uint8 (h, w), after an op


FITS = ("stretch", "cover", "inside")


@register("resize")
@dataclass(frozen=True)
class Resize(Geometric):
    """Resizes; int `size`: the short side (the long one is truncated), (h, w): as `fit` says.

    stretch: to exactly (h, w). cover, inside: height and width alike, to the smallest image that
    covers (h, w), or the largest that lies inside (timm's ResizeKeepRatio).
    """

    size: int | tuple[int, int]
    interpolation: str = "bicubic"
    fit: str = "stretch"
    takes_pictures: ClassVar = True

    def __post_init__(self):
        images.check_size(self.size)
        images.check_interpolation(self.interpolation)
        if self.fit not in FITS:
            raise ValueError(f"fit: {self.fit!r} is none of {', '.join(FITS)}")
        if self.fit != "stretch" and isinstance(self.size, int):
            raise ValueError(f"fit: {self.fit!r} goes with a size (height, width), got {self.size}")

    def target(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) that an image of this height and width gets."""
        if isinstance(self.size, int):
            return short_side_size(height, width, self.size)
        if self.fit == "stretch":
            return tuple(self.size)
        ratios = height / self.size[0], width / self.size[1]
        ratio = min(ratios) if self.fit == "cover" else max(ratios)
        return max(round(height / ratio), 1), max(round(width / ratio), 1)

    def move(self, image: Any, rng: np.random.Generator) -> tuple[Any, Move]:
        height, width = images.height_width(image)
        target = self.target(height, width)
        if (height, width) == target:
            return image, kept(height, width)
        moved = resized((height, width), target)
        return images.resize(image, *target, self.interpolation), moved


def short_side_size(height: int, width: int, size: int) -> tuple[int, int]:
    """The (height, width) with short side `size`; the long side is int(size·long/short)."""
    if height <= width:
        return size, int(size * width / height)
    return int(size * height / width), size


@register("center_crop")
@dataclass(frozen=True)
class CenterCrop(Geometric):
    """Cuts the middle out; smaller images get a border.

    fill: the border's colour, red, green, blue in bytes. round_down: where half of an odd margin
    begins: below it (transformers), or at the even number (torchvision).
    """

    size: int | tuple[int, int]
    fill: tuple[int, int, int] = (0, 0, 0)
    round_down: bool = False

    def __post_init__(self):
        images.check_size(self.size)
        images.check_colour("fill", self.fill)

    def start(self, margin: int) -> int:
        """The first pixel that is kept of a side with so many pixels too many."""
        # Python's round is half to even, and so is the reference's: 81.5 → 82, 80.5 → 80.
        return margin // 2 if self.round_down else round(margin / 2)

    def move(self, image: Any, rng: np.random.Generator) -> tuple[Any, Move]:
        crop_h, crop_w = images.check_size(self.size)
        height, width = images.height_width(image)
        lack_h, lack_w = max(crop_h - height, 0), max(crop_w - width, 0)
        if lack_h or lack_w:
            image = images.pad(
                image, lack_h // 2, (lack_h + 1) // 2, lack_w // 2, (lack_w + 1) // 2, self.fill
            )
            height, width = height + lack_h, width + lack_w
        top, left = self.start(height - crop_h), self.start(width - crop_w)
        moved = cropped(top - lack_h // 2, left - lack_w // 2, crop_h, crop_w)
        return images.crop(image, top, left, crop_h, crop_w), moved


@register("random_crop")
@dataclass(frozen=True)
class RandomCrop(Geometric):
    """Cuts out a box at a uniform place, after `padding` pixels of `fill` on each side.

    reflect: mirrors the image's edge there instead (DeiT III's simple random crop); not for images
    with boxes or masks, which a mirror has no copies of. pad_smaller: an image that is too small
    gets a border at the bottom and right; otherwise it is an error. fill: red, green, blue in
    bytes. most_of_one: of an image with a map of classes the box is drawn again, ten times in all,
    while one class has that share or more of its known pixels (mmsegmentation's cat_max_ratio).
    """

    size: int | tuple[int, int]
    padding: int = 0
    reflect: bool = False
    pad_smaller: bool = False
    fill: tuple[int, int, int] = (0, 0, 0)
    most_of_one: float = 1.0
    looks_at_classes: ClassVar = True
    _target: tuple[int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        object.__setattr__(self, "_target", images.check_size(self.size))
        if not isinstance(self.padding, int) or self.padding < 0:
            raise ValueError(f"padding: got {self.padding!r}, expected an int of 0 or more")
        if not isinstance(self.reflect, bool):
            raise ValueError(f"reflect: got {self.reflect!r}, expected True or False")
        if not isinstance(self.pad_smaller, bool):
            raise ValueError(f"pad_smaller: got {self.pad_smaller!r}, expected True or False")
        images.check_colour("fill", self.fill)
        images.check_pixels(2 * self.padding, 2 * self.padding)
        if not isinstance(self.most_of_one, int | float) or not 0 < self.most_of_one <= 1:
            raise ValueError(f"most_of_one: got {self.most_of_one!r}, expected a share up to 1")

    @property
    def refused(self) -> str:
        """Why images with boxes or masks can't go through, "" where they can."""
        return "reflect=True shows parts of the image twice" if self.reflect else ""

    def move(
        self, image: Any, rng: np.random.Generator, classes: Classes | None = None
    ) -> tuple[Any, Move]:
        crop_h, crop_w = self._target
        if self.padding:
            image = self._padded(image)
        height, width = images.height_width(image)
        if self.pad_smaller and (height < crop_h or width < crop_w):
            lack_h, lack_w = max(crop_h - height, 0), max(crop_w - width, 0)
            image = images.pad(image, 0, lack_h, 0, lack_w, self.fill)
            height, width = height + lack_h, width + lack_w
        if height < crop_h or width < crop_w:
            raise ValueError(
                f"pipeline: random_crop: size {crop_h}x{crop_w} does not fit into a padded image "
                f"of {height}x{width}: put a resize before it"
            )
        tries = _TRIES if classes is not None and self.most_of_one < 1 else 1
        for _ in range(tries):
            top = int(rng.integers(height - crop_h + 1))
            left = int(rng.integers(width - crop_w + 1))
            moved = cropped(top - self.padding, left - self.padding, crop_h, crop_w)
            if tries > 1 and self._is_mixed(classes(moved)):
                break
        return images.crop(image, top, left, crop_h, crop_w), moved

    def _is_mixed(self, classes: np.ndarray) -> bool:
        """Whether several classes are there and none has too much."""
        counts = np.bincount(classes.ravel(), minlength=VOID + 1)[:VOID]
        return np.count_nonzero(counts) > 1 and counts.max() < self.most_of_one * counts.sum()

    def _padded(self, image: Any) -> Any:
        if not self.reflect:
            return images.pad(image, *(self.padding,) * 4, self.fill)
        height, width = images.height_width(image)
        if self.padding >= min(height, width):
            raise ValueError(
                f"pipeline: random_crop: an image of {height}x{width} has no {self.padding} pixels "
                "to mirror: put a resize before it"
            )
        around = ((self.padding, self.padding), (self.padding, self.padding), (0, 0))
        return np.pad(images.as_array(image), around, mode="reflect")


@register("random_resized_crop")
@dataclass(frozen=True)
class RandomResizedCrop(Geometric):
    """Cuts out a box of random area and aspect ratio and resizes it to `size` (timm's rule).

    area: range of the box's share of the image; ratio: range of width / height. The box is cut
    before it is resized, so that the filter never looks outside. once: one draw, cut off where the
    image is too small for it, instead of ten tries (BYOL's rule; MAE's linear probe).
    """

    size: int | tuple[int, int]
    area: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "bicubic"
    once: bool = False
    takes_pictures: ClassVar = True

    def __post_init__(self):
        images.check_size(self.size)
        images.check_interpolation(self.interpolation)
        if not isinstance(self.once, bool):
            raise ValueError(f"once: got {self.once!r}, expected True or False")
        for name, bounds in (("area", self.area), ("ratio", self.ratio)):
            if not _is_range(bounds) or (name == "area" and bounds[1] > 1):
                most = "1" if name == "area" else "1e6"
                raise ValueError(
                    f"{name}: got {bounds!r}, expected (a, b) with 1e-6 <= a <= b <= {most}"
                )

    def move(self, image: Any, rng: np.random.Generator) -> tuple[Any, Move]:
        sample = sample_box_once if self.once else sample_box
        box = sample(*images.height_width(image), rng, self.area, self.ratio)
        target = images.check_size(self.size)
        moved = both(cropped(*box), resized(box[2:], target))
        return images.crop_resized(image, *box, target, self.interpolation), moved


def sample_box(
    height: int,
    width: int,
    rng: np.random.Generator,
    area: tuple[float, float],
    ratio: tuple[float, float],
) -> tuple[int, int, int, int]:
    """Draws (top, left, height, width) of a random resized crop.

    Area uniform, ratio log-uniform, up to ten tries, then the greatest box in the middle whose
    ratio is in range. Source: timm 1.0 `RandomResizedCropAndInterpolation.get_params`.
    """
    log_ratio = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(_TRIES):
        share = rng.uniform(*area)
        box_h, box_w = box_size(height, width, share, rng.uniform(*log_ratio))
        if box_h <= height and box_w <= width and box_h > 0 and box_w > 0:
            top = int(rng.integers(height - box_h + 1))
            left = int(rng.integers(width - box_w + 1))
            return top, left, box_h, box_w
    return fallback_box(height, width, ratio)


def sample_box_once(
    height: int,
    width: int,
    rng: np.random.Generator,
    area: tuple[float, float],
    ratio: tuple[float, float],
) -> tuple[int, int, int, int]:
    """Draws (top, left, height, width) without a second try; a side is the image's at most."""
    share, log_ratio = rng.uniform(*area), rng.uniform(math.log(ratio[0]), math.log(ratio[1]))
    box_h, box_w = box_size(height, width, share, log_ratio)
    box_h, box_w = max(min(box_h, height), 1), max(min(box_w, width), 1)
    top, left = int(rng.integers(height - box_h + 1)), int(rng.integers(width - box_w + 1))
    return top, left, box_h, box_w


def box_size(height: int, width: int, share: float, log_ratio: float) -> tuple[int, int]:
    """(height, width) of a box with `share` of the image's area; may be greater than the image."""
    pixels, ratio = share * height * width, math.exp(log_ratio)
    return round(math.sqrt(pixels / ratio)), round(math.sqrt(pixels * ratio))


def fallback_box(height: int, width: int, ratio: tuple[float, float]) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the greatest centred box whose width / height is in `ratio`.

    Of a pixel at least, each way.
    """
    box_h, box_w = height, width
    if width / height < ratio[0]:
        box_h = max(round(width / ratio[0]), 1)
    elif width / height > ratio[1]:
        box_w = max(round(height * ratio[1]), 1)
    return (height - box_h) // 2, (width - box_w) // 2, box_h, box_w


@register("flip")
@dataclass(frozen=True)
class Flip(Geometric):
    """Mirrors left and right with probability 1/2."""

    def move(self, image: Any, rng: np.random.Generator) -> tuple[Any, Move]:
        height, width = images.height_width(image)
        if rng.random() < 0.5:
            return images.flipped(image), mirrored(height, width)
        return image, kept(height, width)


def _is_range(bounds: Any) -> bool:
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        return False
    numbers = all(isinstance(b, int | float) for b in bounds)
    return numbers and 1e-6 <= bounds[0] <= bounds[1] <= 1e6


def crop_resize(
    image: Any,
    top: int,
    left: int,
    height: int,
    width: int,
    size: int | tuple[int, int],
    interpolation: str = "bicubic",
) -> np.ndarray:
    """A box of the image, cut out and then resized: uint8 (H, W, 3) → uint8 (h, w, 3).

    size: (h, w), or one for both. ValueError for a box that leaves the image or is empty.
    """
    images.check_interpolation(interpolation)
    check_each_whole(0, top=top, left=left, height=height, width=width)
    image = image if isinstance(image, np.ndarray) else images.as_pil(image)
    full_h, full_w = images.height_width(image)
    if not (0 <= top < top + height <= full_h and 0 <= left < left + width <= full_w):
        raise ValueError(
            f"top, left, height, width: got {(top, left, height, width)}, expected a box inside of "
            f"{full_h}x{full_w}"
        )
    target, box = images.check_size(size), (top, left, height, width)
    return images.as_array(images.crop_resized(image, *box, target, interpolation))

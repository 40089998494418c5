"""Pipeline op random_erasing: boxes of a normalised image give way to noise or to the mean.

In a run the boxes are drawn here and erased in the step (`finish.py`), with noise drawn there.

Source: Random Erasing (1708.04896), as timm 1.0 does it.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from vit_jax_xfer.arguments.given_arrays import host_array
from vit_jax_xfer.arguments.whole_numbers import check_each_whole
from vit_jax_xfer.data import pixels
from vit_jax_xfer.data.colour_operations import check_share
from vit_jax_xfer.data.operations import register

MODES = ("pixel", "rand", "const")
_TRIES = 10


@register("random_erasing")
@dataclass(frozen=True)
class RandomErasing:
    """With a chance, boxes of the image are erased; put it behind `normalize`.

    mode: "pixel" normal noise in each number, "rand" one normal colour a box, "const" zeros. count:
    boxes an image, or (least, most) of them. area: range of their share of the image in all.
    ratio: least height / width of a box, and one over it the greatest. ValueError.
    """

    probability: float = 0.25
    mode: str = "pixel"
    count: int | tuple[int, int] = 1
    area: tuple[float, float] = (0.02, 1 / 3)
    ratio: float = 0.3
    in_place: ClassVar = True

    def __post_init__(self):
        check_share("probability", self.probability)
        if self.mode not in MODES:
            raise ValueError(f"mode: got {self.mode!r}, expected one of {', '.join(MODES)}")
        least, most = _least_and_most(self.count)
        if type(least) is not int or type(most) is not int or not 1 <= least <= most <= 100:
            raise ValueError(f"count: got {self.count!r}, expected 1 to 100, or (least, most)")
        if not isinstance(self.area, tuple | list) or len(self.area) != 2:
            raise ValueError(f"area: got {self.area!r}, expected (least, most)")
        for share in self.area:
            check_share("area", share)
        if self.area[0] > self.area[1]:
            raise ValueError(f"area: got {self.area!r}, expected the least before the most")
        check_share("ratio", self.ratio)
        if not self.ratio > 1e-6:
            raise ValueError(f"ratio: got {self.ratio!r}, expected a number above 1e-6")

    def __call__(self, image: Any, rng: np.random.Generator) -> np.ndarray:
        image = pixels.to_float(image)
        height, width, channels = image.shape
        boxes = self.boxes(height, width, rng)
        if not boxes.any():
            return image
        image = image.copy()
        for top, left, box_h, box_w in boxes:
            shape = {"pixel": (box_h, box_w, channels), "rand": (channels,), "const": ()}
            noise = rng.standard_normal(shape[self.mode]) if self.mode != "const" else 0
            image[top : top + box_h, left : left + box_w] = noise
        return image

    def boxes(self, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
        """What is erased of an image: int32 (most boxes, 4), top, left, height and width.

        Zeros in the place of boxes that there are not.
        """
        least, most = _least_and_most(self.count)
        found = np.zeros((most, 4), np.int32)
        if rng.random() < self.probability:
            count = int(rng.integers(least, most + 1))
            for number in range(count):
                box = self._box(height, width, count, rng)
                if box is not None:
                    found[number] = box
        return found

    def _box(
        self, height: int, width: int, count: int, rng: np.random.Generator
    ) -> tuple[int, int, int, int] | None:
        """(top, left, height, width) of a box, None where ten draws of its size don't fit."""
        bound = abs(math.log(self.ratio))
        for _ in range(_TRIES):
            share, log_ratio = rng.uniform(*self.area) / count, rng.uniform(-bound, bound)
            box_h, box_w = erased_size(height, width, share, log_ratio)
            if fits(height, width, box_h, box_w):
                top = int(rng.integers(height - box_h + 1))
                return top, int(rng.integers(width - box_w + 1)), box_h, box_w
        return None


def erased_size(height: int, width: int, share: float, log_ratio: float) -> tuple[int, int]:
    """(height, width) of a box with so much of the image's area, and log of height / width."""
    number, ratio = share * height * width, math.exp(log_ratio)
    return round(math.sqrt(number * ratio)), round(math.sqrt(number / ratio))


def fits(height: int, width: int, box_height: int, box_width: int) -> bool:
    """Whether a box is erased: one as high or as wide as the image is not."""
    return box_height < height and box_width < width


def erase(image: Any, top: int, left: int, height: int, width: int, noise: Any) -> np.ndarray:
    """The image with a box of it replaced: float32 (H, W, 3) → float32 (H, W, 3).

    noise: (height, width, 3), or what broadcasts to it. ValueError for a box that leaves the image.
    """
    check_each_whole(0, top=top, left=left, height=height, width=width)
    image = np.array(host_array("image", image), np.float32)
    inside = 0 <= top <= top + height <= len(image) and 0 <= left <= left + width <= image.shape[1]
    if not inside:
        raise ValueError(
            f"top, left, height, width: got {(top, left, height, width)}, expected a box inside of "
            f"{image.shape[0]}x{image.shape[1]}"
        )
    image[top : top + height, left : left + width] = noise
    return image


def _least_and_most(count: Any) -> tuple[Any, Any]:
    return tuple(count) if isinstance(count, tuple | list) and len(count) == 2 else (count, count)

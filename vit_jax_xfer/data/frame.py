"""Where a photograph lies in the image that ops made of it: one geometry for image and targets."""

import dataclasses
from typing import NamedTuple

import numpy as np


class Move(NamedTuple):
    """What an op does to places: new = old · scale + shift on each axis, in pixels.

    A scale below zero mirrors. height, width: of the image that the op gives.
    """

    scale_y: float
    scale_x: float
    shift_y: float
    shift_x: float
    height: int
    width: int


def kept(height: int, width: int) -> Move:
    """Nothing moves."""
    return Move(1.0, 1.0, 0.0, 0.0, height, width)


def resized(old: tuple[int, int], new: tuple[int, int]) -> Move:
    """An image of `old` (height, width) stretched to `new`."""
    return Move(new[0] / old[0], new[1] / old[1], 0.0, 0.0, *new)


def cropped(top: int, left: int, height: int, width: int) -> Move:
    """A box of the image, which may leave it: the border is then around the image."""
    return Move(1.0, 1.0, -float(top), -float(left), height, width)


def mirrored(height: int, width: int) -> Move:
    """Left and right are swapped."""
    return Move(1.0, -1.0, 0.0, float(width), height, width)


def both(first: Move, second: Move) -> Move:
    """One after the other."""
    return Move(
        first.scale_y * second.scale_y,
        first.scale_x * second.scale_x,
        first.shift_y * second.scale_y + second.shift_y,
        first.shift_x * second.scale_x + second.shift_x,
        second.height,
        second.width,
    )


@dataclasses.dataclass(frozen=True)
class Frame:
    """A photograph's place in an image.

    move: from the photograph's pixels to the image's. original: the photograph's (height, width).
    seen: (top, left, bottom, right) in the image, what is of the photograph and no border.
    """

    move: Move
    original: tuple[int, int]
    seen: tuple[float, float, float, float]

    @classmethod
    def of(cls, height: int, width: int) -> "Frame":
        """The photograph itself."""
        return cls(kept(height, width), (height, width), (0.0, 0.0, float(height), float(width)))

    def then(self, move: Move) -> "Frame":
        """After one more op; what it cuts off is not seen again."""
        top, bottom = _placed((self.seen[0], self.seen[2]), move.scale_y, move.shift_y, move.height)
        left, right = _placed((self.seen[1], self.seen[3]), move.scale_x, move.shift_x, move.width)
        return Frame(both(self.move, move), self.original, (top, left, bottom, right))

    @property
    def is_whole(self) -> bool:
        """Whether the image shows all of the photograph, unmirrored, from its top left on."""
        m = self.move
        end = m.scale_y * self.original[0], m.scale_x * self.original[1]
        return (
            (m.shift_y, m.shift_x) == (0, 0)
            and min(end) > 0
            and abs(self.seen[2] - end[0]) < 1e-6
            and abs(self.seen[3] - end[1]) < 1e-6
        )

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (M, 4) xyxy of the photograph → in the image's pixels, not yet cut at its edges."""
        m = self.move
        moved = np.asarray(boxes, np.float64).reshape(-1, 4)
        moved = moved * (m.scale_x, m.scale_y, m.scale_x, m.scale_y)
        moved += m.shift_x, m.shift_y, m.shift_x, m.shift_y
        # A mirrored box begins where it ended.
        low, high = np.minimum(moved[:, :2], moved[:, 2:]), np.maximum(moved[:, :2], moved[:, 2:])
        return np.concatenate([low, high], 1)

    def inverse_boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (M, 4) xyxy of the image → in the photograph's pixels."""
        m = self.move
        back = Move(1 / m.scale_y, 1 / m.scale_x, -m.shift_y / m.scale_y, -m.shift_x / m.scale_x,
                    *self.original)  # fmt: skip
        return dataclasses.replace(self, move=back).boxes(boxes)

    def label_map(self, ids: np.ndarray, void: int) -> np.ndarray:
        """A map (H, W) of the photograph's pixels → the image's, by the nearest; `void` around it.

        Of the pixel in which the middle of each of the image's lies.
        """
        m = self.move
        ys, xs = np.arange(m.height) + 0.5, np.arange(m.width) + 0.5
        rows = np.floor((ys - m.shift_y) / m.scale_y).astype(int)
        columns = np.floor((xs - m.shift_x) / m.scale_x).astype(int)
        height, width = ids.shape
        found = ids[np.clip(rows, 0, height - 1)[:, None], np.clip(columns, 0, width - 1)]
        top, left, bottom, right = self.seen
        there = ((ys > top) & (ys < bottom))[:, None] & ((xs > left) & (xs < right))
        return np.where(there, found, ids.dtype.type(void))


def _placed(
    ends: tuple[float, float], scale: float, shift: float, size: int
) -> tuple[float, float]:
    """An interval after a move, cut at an image's edges; empty at one where nothing is left."""
    first, last = sorted(end * scale + shift for end in ends)
    return min(max(first, 0.0), float(size)), min(max(last, 0.0), float(size))

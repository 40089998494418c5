"""Numbers as colours: the one place that says which. No plotting library.

Both tables are paths through OKLab, whose lightness changes evenly: dark violet to light yellow for
numbers of one sign, blue over white to red, alike on both sides, for numbers around 0.
Source of the colour space: Ottosson 2020, "A perceptual color space for image processing".
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Self

import numpy as np

_STEPS = 256
_NOISE = 1e-4  # of the larger end: a smaller range is rounding, and has no colours


@dataclasses.dataclass(frozen=True)
class Scale:
    """What the ends of a colour table stand for. signed: 0 is its middle, and low is -high.

    open: there are numbers beyond the ends, which a bar says by a "+" at the upper one. ValueError
    for an end that is no number, and for low above high.
    """

    low: float
    high: float
    signed: bool = False
    open: bool = False

    def __post_init__(self) -> None:
        if not (np.isfinite(self.low) and np.isfinite(self.high)) or self.low > self.high:
            raise ValueError(f"scale: {self.low:g} to {self.high:g} is no range of numbers")
        if self.signed and self.low != -self.high:
            raise ValueError(f"scale: {self.low:g} to {self.high:g} is not the same on both sides")

    @classmethod
    def of(cls, maps: Sequence[np.ndarray], signed: bool | None = None, top: float = 100.0) -> Self:
        """One scale for maps of one kind: from 0 to the greatest, or as far below 0 as above.

        signed: None = whether there are values below 0. top: the percentile of the values' sizes
        that has the last colour, for maps in which a few patches outshine all. ValueError for
        values that aren't finite.
        """
        values = np.concatenate([np.asarray(one, np.float64).reshape(-1) for one in maps])
        if not np.isfinite(values).all():
            raise ValueError("map: some values are NaN or infinite; expected none")
        signed = bool(values.min() < 0) if signed is None else signed
        sizes = np.abs(values) if signed else np.maximum(values, 0)
        end = float(np.percentile(sizes, top)) or float(sizes.max())
        return cls(-end if signed else 0.0, end, signed, open=bool(end < sizes.max()))

    def colours(self, values: np.ndarray) -> np.ndarray:
        """Numbers (…) → colours (…, 3) uint8; what is beyond an end has the end's colour.

        Where the ends are equal but for rounding, numbers of one sign get the lightest colour, or
        the darkest if they are 0, and signed ones the middle's.
        """
        values = np.asarray(values, np.float64)
        width = max(self.high - self.low, _NOISE * max(abs(self.low), abs(self.high)), 1e-300)
        share = np.clip((values - self.low) / width, 0, 1)
        if self.signed and self.high == 0:
            share = np.full(values.shape, 0.5)
        table = _diverging() if self.signed else _sequential()
        return table[np.round(share * (_STEPS - 1)).astype(int)]

    def bar(self, height: int, width: int) -> np.ndarray:
        """All of its colours from the bottom to the top: (height, width, 3) uint8."""
        unit = Scale(-1.0, 1.0, signed=True) if self.signed else Scale(0.0, 1.0)
        steps = np.linspace(unit.high, unit.low, height)
        return unit.colours(steps[:, None].repeat(width, axis=1))


def heat(values: np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    """Numbers (h, w) → colours (h, w, 3) uint8, dark for `low`, light for `high`.

    None = the least and the greatest of them; a map that is even but for rounding is dark.
    """
    values = np.asarray(values, np.float32)
    low = float(values.min()) if low is None else low
    high = float(values.max()) if high is None else high
    return Scale(low, max(high, low)).colours(values)


def end_texts(scale: Scale) -> tuple[str, str]:
    """What stands at the lower and the upper end of a bar: "0" and "0.0132+"."""
    return number_text(scale.low), number_text(scale.high) + "+" * scale.open


def number_text(value: float) -> str:
    """A number at the end of a bar, in as few signs as show three digits: "0.0132", "1.2e-05"."""
    text = f"{value:.3g}"
    return "0" if float(text) == 0 else text


@functools.cache
def _sequential() -> np.ndarray:
    """(256, 3) uint8."""
    share = np.linspace(0, 1, _STEPS)
    hue = np.radians(285 + 180 * share)  # violet, red, orange, yellow
    chroma = 0.19 * np.sin(np.pi * np.clip(0.12 + 0.76 * share, 0, 1)) ** 0.8
    return _bytes(0.16 + 0.8 * share, chroma, hue)


@functools.cache
def _diverging() -> np.ndarray:
    """(256, 3) uint8; both sides are as light and as colourful at the same distance from 0."""
    signed = np.linspace(-1, 1, _STEPS)
    far = np.abs(signed)
    hue = np.radians(np.where(signed < 0, 258, 28))
    return _bytes(0.97 - 0.52 * far, 0.17 * np.sin(np.pi / 2 * far), hue)


def _bytes(lightness: np.ndarray, chroma: np.ndarray, hue: np.ndarray) -> np.ndarray:
    """OKLab's lightness, and chroma and hue, as sRGB (n, 3) uint8; chroma shrinks where it must."""
    low, high = np.zeros_like(chroma), np.ones_like(chroma)
    for _ in range(24):  # halving: the largest share of the chroma that a screen can show
        middle = (low + high) / 2
        linear = _linear_rgb(lightness, middle * chroma, hue)
        fits = ((linear >= -1e-9) & (linear <= 1 + 1e-9)).all(axis=1)
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    linear = np.clip(_linear_rgb(lightness, low * chroma, hue), 0, 1)
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255 * curved).astype(np.uint8)


def _linear_rgb(lightness: np.ndarray, chroma: np.ndarray, hue: np.ndarray) -> np.ndarray:
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)
    to_cones = np.array([(1, 0.3963377774, 0.2158037573), (1, -0.1055613458, -0.0638541728),
                         (1, -0.0894841775, -1.2914855480)])  # fmt: skip
    to_rgb = np.array([(4.0767416621, -3.3077115913, 0.2309699292),
                       (-1.2684380046, 2.6097574011, -0.3413193965),
                       (-0.0041960863, -0.7034186147, 1.7076147010)])  # fmt: skip
    return (lab @ to_cones.T) ** 3 @ to_rgb.T


@functools.cache
def class_colours(number: int) -> np.ndarray:
    """A colour for each of so many classes, (number, 3) uint8; neighbours are far apart.

    Hues go around by the golden angle, lightness by turns, so that adding classes at the end
    changes none.
    """
    places = np.arange(number)
    hue = np.radians((25 + 137.508 * places) % 360)
    lightness = np.array((0.72, 0.55, 0.85))[places % 3]
    return _bytes(lightness, np.full(number, 0.19), hue)

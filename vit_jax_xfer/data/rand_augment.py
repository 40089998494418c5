"""Pipeline op rand_augment: operations drawn at random, by timm's policy strings.

Source: RandAugment (1909.13719), as timm 1.0 runs it.
"""

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vit_jax_xfer.data import images
from vit_jax_xfer.data.augment_operations import MEAN_COLOUR, STEPS, apply
from vit_jax_xfer.data.operations import register
from vit_jax_xfer.data.trivial_augment import INTERPOLATIONS, three_levels

if TYPE_CHECKING:
    from PIL.Image import Image

_ALWAYS_UNIFORM = 100.0  # a deviation above it stands for a uniform magnitude

_BOTH = ("AutoContrast", "Equalize", "Invert", "Rotate")
_MOVED = ("ShearX", "ShearY", "TranslateXRel", "TranslateYRel")
_COLOURED = ("Color", "Contrast", "Brightness", "Sharpness")
# Sets of operations by the names that policies have for them: equally likely, or with weights.
SETS: dict[str, tuple[str, ...] | dict[str, float]] = {
    "": (*_BOTH, "Posterize", "Solarize", "SolarizeAdd", *_COLOURED, *_MOVED),
    "inc": (
        *_BOTH,
        *("PosterizeIncreasing", "SolarizeIncreasing", "SolarizeAdd"),
        *(f"{name}Increasing" for name in _COLOURED),
        *_MOVED,
    ),
    "3a": ("SolarizeIncreasing", "Desaturate", "GaussianBlur"),
    "3aw": {
        **dict.fromkeys(("SolarizeIncreasing", "Desaturate", "GaussianBlur"), 6),
        **{"Rotate": 3, "ShearX": 2, "ShearY": 2, "PosterizeIncreasing": 1, "AutoContrast": 1},
        **dict.fromkeys((f"{name}Increasing" for name in _COLOURED), 1),
        **{"Equalize": 1, "Invert": 1},
    },
    "weights": {
        **{"Rotate": 3, "ShearX": 2, "ShearY": 2, "TranslateXRel": 1, "TranslateYRel": 1},
        **dict.fromkeys(("ColorIncreasing", "SharpnessIncreasing", "AutoContrast"), 0.25),
        **dict.fromkeys(("SolarizeIncreasing", "SolarizeAdd", "ContrastIncreasing"), 0.05),
        **dict.fromkeys(("BrightnessIncreasing", "Equalize", "PosterizeIncreasing"), 0.05),
        "Invert": 0.05,
    },
}
_NAMED_SETS = tuple(name for name in SETS if name not in ("", "inc"))


class Policy(NamedTuple):
    """What a policy string says.

    operations, weights: what is drawn from, `layers` of them an image; weights None = all equally
    likely, and one may be drawn twice. Each is done with `probability`. Magnitudes are normal with
    `deviation` about `magnitude` (infinite: uniform from 0), within 0 and `most`.
    """

    operations: tuple[str, ...]
    weights: tuple[float, ...] | None
    layers: int = 2
    probability: float = 0.5
    magnitude: float = STEPS
    deviation: float = 0.0
    most: float = STEPS


_FIELDS = {
    "m": "magnitude",
    "n": "layers",
    "p": "probability",
    "mstd": "deviation",
    "mmax": "most",
    "inc": "inc",
}
_WHOLE = ("m", "n", "mmax", "inc")


def parse_policy(text: str) -> Policy:
    """A policy string of timm's grammar, such as "rand-m9-mstd0.5-inc1".

    Sections in any order behind "rand": m magnitude, n operations an image, p the chance of each,
    mstd deviation of the magnitude (above 100: uniform), mmax its bound, inc1 for operations that
    grow with it, t the set ("3a", "3aw", "weights"). ValueError naming the section.
    """
    first, *sections = text.split("-")
    if first != "rand":
        raise ValueError(f"policy: got {text!r}, expected one that begins with 'rand-'")
    said: dict[str, float] = {}
    chosen = None
    for section in sections:
        found = re.fullmatch(r"(mstd|mmax|inc|[mnp])(\d+(?:\.\d*)?|inf)", section)
        if section[:1] == "t" and section[1:] in _NAMED_SETS:
            chosen = section[1:]
        elif not found or (found[1] in _WHOLE and not found[2].isdigit()):
            known = ", ".join(f"t{name}" for name in _NAMED_SETS)
            raise ValueError(
                f"policy: section {section!r} of {text!r}; expected m, n, mmax, inc and a whole "
                f"number, p or mstd and a number, or one of {known}"
            )
        else:
            said[_FIELDS[found[1]]] = float(found[2])
    return _policy(text, said, chosen)


def _policy(text: str, said: dict[str, float], chosen: str | None) -> Policy:
    increasing = bool(said.pop("inc", 0))
    drawn = SETS[chosen if chosen else "inc" if increasing else ""]
    weights = None
    if isinstance(drawn, dict):
        total = sum(drawn.values())
        weights = tuple(weight / total for weight in drawn.values())
    layers = int(said.pop("layers", 2))
    if not 1 <= layers <= (len(drawn) if weights else 100):
        raise ValueError(
            f"policy: n{layers} of {text!r}, expected 1 to 100, and no more than a set"
        )
    if not 0 <= said.get("probability", 0.5) <= 1:
        raise ValueError(f"policy: p of {text!r}, expected a number from 0 to 1")
    if said.get("deviation", 0.0) > _ALWAYS_UNIFORM:
        said["deviation"] = float("inf")
    return Policy(tuple(drawn), weights, layers, **said)


@register("rand_augment")
@dataclass(frozen=True)
class RandAugment:
    """RandAugment by a policy of timm's: its operations, their strengths and chances.

    Takes bytes (PIL or uint8 arrays), gives a PIL image of the same size. Shears, translations and
    rotations take pixels by `interpolation` ("nearest", "bilinear", "bicubic", "random" = one of
    the latter two each time) and fill what they lay bare with `fill`, one level or red, green and
    blue, 0 to 255. Given the same draws, pixels equal timm's. ValueError for a bad argument.
    """

    policy: str = "rand-m9-mstd0.5-inc1"
    interpolation: str = "bicubic"
    fill: int | tuple[int, int, int] = MEAN_COLOUR
    _parsed: Policy = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        if self.interpolation not in (*INTERPOLATIONS, "random"):
            expected = ", ".join((*INTERPOLATIONS, "random"))
            raise ValueError(
                f"interpolation: got {self.interpolation!r}, expected one of {expected}"
            )
        three_levels(self.fill)
        object.__setattr__(self, "_parsed", parse_policy(self.policy))

    def __call__(self, image: Any, rng: np.random.Generator) -> "Image":
        policy, result = self._parsed, images.as_pil(image)
        drawn = rng.choice(
            len(policy.operations),
            policy.layers,
            replace=policy.weights is None,
            p=policy.weights,
        )
        for index in drawn:
            # As many draws for every operation, so that what is drawn after does not hang on which.
            left_out, uniform, negated, other = rng.random(4)
            normal = rng.standard_normal()
            if left_out >= policy.probability:
                continue
            interpolation = self.interpolation
            if interpolation == "random":
                interpolation = "bilinear" if other < 0.5 else "bicubic"
            magnitude = _magnitude(policy, uniform, normal)
            name = policy.operations[index]
            result = apply(result, name, magnitude, negated < 0.5, interpolation, self.fill)
        return result


def _magnitude(policy: Policy, uniform: float, normal: float) -> float:
    if policy.deviation == float("inf"):
        drawn = policy.magnitude * uniform
    else:
        drawn = policy.magnitude + policy.deviation * normal
    return max(0.0, min(drawn, policy.most))

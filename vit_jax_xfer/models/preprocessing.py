"""How images must be prepared for a model: the part of a checkpoint that is not in its weights.

Sources: timm's `pretrained_cfg`; Hugging Face's preprocessor_config.json.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any, Self

Channels = tuple[float, float, float]

# (mean, std) of red, green, blue in [0, 1], which most published models were trained with.
IMAGENET: tuple[Channels, Channels] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
INCEPTION: tuple[Channels, Channels] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLIP: tuple[Channels, Channels] = (
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)

# In the order of PIL's numbers for them, beginning with 0.
INTERPOLATIONS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
CROP_MODES = ("center", "short_side", "squash", "border")

# Hugging Face's classes that resize, crop, rescale and normalise: those that read a bare `size` as
# the short side, and those that make a square of it.
_SHORT_SIDE = ("Bit", "ChineseCLIP", "CLIP", "Siglip")
_SQUARE = ("Beit", "Blip", "DINOv3ViT", "DeiT", "OwlViT", "Pvt", "ViT")


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Resize, centre crop and normalisation that a model's images (H, W, 3) need; hashable.

    mean, std: of pixels in [0, 1], which become (pixel - mean) / std.
    crop: share of the resized image's side that the centre crop takes; 1.0 takes all of it.
    crop_mode: how an image gets the crop's size. "center" (timm's) and "short_side" (transformers',
        torchvision's) keep the aspect ratio and cut off what is too much: the first resizes to what
        just covers the size, the second resizes the short side for the longer side of the size,
        which is the same where the size is square. "squash" resizes height and width apart
        (SigLIP). "border" shows all of an image, and fills up (timm's; open_clip's "longest").
    size: what the model sees natively, pixels; a pair is (height, width).
    fill: the border's colour, red, green, blue in bytes; None = the mean's, as in timm.
    crop_rounds_down: where a crop with an odd margin begins, see data.geometry.CenterCrop.
    ValueError naming the field that is wrong.
    """

    mean: Channels
    std: Channels
    interpolation: str = "bicubic"
    crop: float = 0.875
    crop_mode: str = "center"
    size: int | tuple[int, int] = 224
    fill: tuple[int, int, int] | None = None
    crop_rounds_down: bool = False

    def __post_init__(self) -> None:
        # A list is as good as a tuple but would not hash, and this is a field of Flax modules.
        for field in ("mean", "std"):
            object.__setattr__(self, field, _channels(field, getattr(self, field)))
        if min(self.std) <= 0:
            raise ValueError(f"std: got {self.std}, expected numbers greater than 0")
        for field, allowed in (("interpolation", INTERPOLATIONS), ("crop_mode", CROP_MODES)):
            if getattr(self, field) not in allowed:
                expected = ", ".join(allowed)
                raise ValueError(f"{field}: {getattr(self, field)!r} is none of {expected}")
        if not _is_number(self.crop) or not 0 < self.crop <= 1:
            raise ValueError(f"crop: got {self.crop!r}, expected a share above 0 and at most 1")
        size = tuple(self.size) if isinstance(self.size, list) else self.size
        sides = size if isinstance(size, tuple) else (size,)
        is_pair = not isinstance(size, tuple) or len(size) == 2
        if not is_pair or not all(type(side) is int and side > 0 for side in sides):
            raise ValueError(f"size: got {size!r}, expected a positive int or (height, width)")
        object.__setattr__(self, "size", size)
        if self.fill is not None:
            object.__setattr__(self, "fill", tuple(self.fill))

    @property
    def preprocessing(self) -> Self:
        """Itself, so that it may stand where a network is asked how to prepare its images."""
        return self

    @property
    def height_width(self) -> tuple[int, int]:
        """The native (height, width) in pixels."""
        return self.size if isinstance(self.size, tuple) else (self.size, self.size)

    def pipeline(self) -> str:
        """The evaluation pipeline as `data.parse_pipeline` reads it: images uint8 → float32.

        Sides are resized to floor(size / crop), as timm does.
        """
        height, width = self.height_width
        size: int | tuple[int, int] = height if height == width else (height, width)
        outer = (math.floor(height / self.crop), math.floor(width / self.crop))
        resized, fit = self._resized(outer)
        ops = [f"resize({resized}, interpolation={self.interpolation!r}{fit})"]
        if resized != (height, width) or fit:
            ops.append(f"center_crop({size}{self._border()})")
        ops.append(f"normalize(mean={self.mean}, std={self.std})")
        return "|".join(ops)

    def _resized(self, outer: tuple[int, int]) -> tuple[int | tuple[int, int], str]:
        """What `resize` is told, its size and its fit, for a crop out of (height, width)."""
        if self.crop_mode == "squash":
            return outer, ""
        if self.crop_mode == "border":
            return outer, ", fit='inside'"
        if self.crop_mode == "short_side" or outer[0] == outer[1]:
            return max(outer), ""
        return outer, ", fit='cover'"

    def _border(self) -> str:
        """What `center_crop` is told besides its size."""
        told = ", round_down=True" if self.crop_rounds_down else ""
        if self.crop_mode != "border":
            return told
        fill = tuple(round(255 * mean) for mean in self.mean) if self.fill is None else self.fill
        return f", fill={fill}{told}"


def stated_preprocessing(model: Any) -> Preprocessing:
    """How a network says that its images are prepared. ValueError where it doesn't say."""
    if model.preprocessing is None:
        raise ValueError(
            "the network doesn't say how its images are prepared; save it with a Preprocessing"
        )
    return model.preprocessing


def from_hugging_face(
    preprocessor: Mapping[str, Any], size: int | tuple[int, int] | None = None
) -> Preprocessing:
    """The Preprocessing that a preprocessor_config.json describes, in its old and its new forms.

    size: the model's image size, where the file gives none. A short side without a crop gets a
    centre crop, because a batch needs one size. ValueError naming the key of the file that is
    missing or asks for more than resize, crop, rescale and normalise, and a class that isn't known
    to do these alone.
    """
    kind = _class_of(preprocessor)
    if not preprocessor.get("do_resize", True):
        raise ValueError("do_resize: got false, but images of all sizes must come out alike")
    for key in ("do_pad", "crop_pct"):
        if preprocessor.get(key):
            raise ValueError(f"{key}: got {preprocessor[key]!r}, which no preprocessing here does")
    crop = preprocessor.get("crop_size") if preprocessor.get("do_center_crop") else None
    resized, squash = _resized(preprocessor, kind, size)
    native = resized if crop is None else _pair("crop_size", crop)
    mean, std = _normalisation(preprocessor)
    return Preprocessing(
        mean,
        std,
        interpolation=_interpolation(preprocessor.get("resample")),
        crop=_share(native, resized, squash),
        crop_mode="squash" if squash else "short_side",
        size=native[0] if native[0] == native[1] else native,
        crop_rounds_down=crop is not None or not squash,
    )


def _class_of(preprocessor: Mapping[str, Any]) -> str | None:
    """The name of the file's class without what all have; None where it says none.

    ValueError for one that isn't known to resize, crop, rescale and normalise, and nothing else.
    """
    said = preprocessor.get("image_processor_type") or preprocessor.get("feature_extractor_type")
    if said is None:
        return None
    kind = re.sub(r"(ImageProcessor|FeatureExtractor)(Fast|Pil)?$", "", str(said))
    if kind not in _SHORT_SIDE + _SQUARE:
        raise ValueError(
            f"image_processor_type: {said!r} may prepare images otherwise than is done here "
            f"(known: {', '.join(sorted(_SHORT_SIDE + _SQUARE))}); pass preprocessing="
        )
    return kind


def _resized(
    preprocessor: Mapping[str, Any], kind: str | None, fallback: int | tuple[int, int] | None
) -> tuple[tuple[int, int], bool]:
    """(height, width) of the resized image, and whether it is squashed; else the short side."""
    size = preprocessor.get("size", fallback)
    if isinstance(size, Mapping):
        size = {key: value for key, value in size.items() if value is not None}
        if set(size) == {"shortest_edge"}:
            return _pair("size", size["shortest_edge"]), False
    short_side = kind in _SHORT_SIDE if kind else preprocessor.get("do_center_crop")
    return _pair("size", size), not (isinstance(size, int) and short_side)


def _share(native: tuple[int, int], resized: tuple[int, int], squash: bool) -> float:
    """The `crop` with which floor(side / crop) is the resized side."""
    inner, outer = max(native), max(resized)
    if inner > outer:
        raise ValueError(f"crop_size: {inner} is greater than size {outer}; crop at most that much")
    share = inner / outer
    if math.floor(inner / share) < outer:  # the quotient was rounded down by one digit
        share = math.nextafter(share, 0.0)
    if squash and tuple(math.floor(side / share) for side in native) != resized:
        raise ValueError(f"crop_size: {native} is not the same share of both sides of {resized}")
    return share


def _normalisation(preprocessor: Mapping[str, Any]) -> tuple[Channels, Channels]:
    """Mean and std of pixels in [0, 1]; the file's are of bytes times its rescale_factor."""
    mean: Channels = (0.0, 0.0, 0.0)
    std: Channels = (1.0, 1.0, 1.0)
    if preprocessor.get("do_normalize", True):
        mean = _channels("image_mean", preprocessor.get("image_mean"))
        std = _channels("image_std", preprocessor.get("image_std"))
    factor = preprocessor.get("rescale_factor", 1 / 255)
    if not _is_number(factor) or factor <= 0:
        raise ValueError(f"rescale_factor: got {factor!r}, expected a number greater than 0")
    white = 255 * (factor if preprocessor.get("do_rescale", True) else 1)
    if math.isclose(white, 1.0, rel_tol=1e-6):
        return mean, std
    return tuple(m / white for m in mean), tuple(s / white for s in std)


def _interpolation(number: Any) -> str:
    if not isinstance(number, int) or not 0 <= number < len(INTERPOLATIONS):
        raise ValueError(f"resample: got {number!r}, expected PIL's number, 0 … 5 (3 = bicubic)")
    return INTERPOLATIONS[number]


def _pair(key: str, size: Any) -> tuple[int, int]:
    sides = size
    if isinstance(size, Mapping) and set(size) == {"height", "width"}:
        sides = (size["height"], size["width"])
    elif isinstance(size, int):
        sides = (size, size)
    pair = isinstance(sides, tuple | list) and len(sides) == 2
    if not pair or not all(type(side) is int and side > 0 for side in sides):
        raise ValueError(f"{key}: got {size!r}, expected a number of pixels or height and width")
    return sides[0], sides[1]


def _channels(field: str, values: Any) -> Channels:
    if not isinstance(values, tuple | list) or len(values) != 3 or not all(map(_is_number, values)):
        raise ValueError(f"{field}: got {values!r}, expected three numbers: red, green, blue")
    return float(values[0]), float(values[1]), float(values[2])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

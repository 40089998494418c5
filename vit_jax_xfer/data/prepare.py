"""Images of any kind and size → the batch that a model wants, as its publisher prepared it."""

import dataclasses
import os
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from vit_jax_xfer.arguments.listed_values import plain
from vit_jax_xfer.data.pixels import IMAGENET_MEAN, IMAGENET_STD
from vit_jax_xfer.data.sources.upright_photo import read_photograph
from vit_jax_xfer.data.transforms import parse

_DENSE = ("boxes", "masks")  # what networks predict that see whole photographs


def preprocess(model: Any, images: Any, size: int | tuple[int, int] | None = None) -> np.ndarray:
    """Images resized, cropped and normalised as `model.preprocessing` says: (B, H, W, 3) float32.

    model: a network, a masked autoencoder, or a Preprocessing itself. A detector or a segmenter
    sees all of an image, at the top left of its square (`photograph_pipeline`), as in its runs.
    images: a path, a PIL image, a uint8 array (H, W, 3), or several of these; sizes may differ.
    Grey, palette and alpha images become RGB. A file is turned as its EXIF orientation says, as
    commands do it; pixels, of an array or a PIL image, are taken as they are.
    size: pixels, or (height, width), in place of the native size; the share cut off stays.
    ValueError when the model has no preprocessing, and for an image that can't be read, by name.
    """
    pipeline = parse(_pipeline(model, plain(size)))
    several = are_several(images)
    listed = list(images) if several else [images]
    if not listed:
        raise ValueError("images: got an empty list, expected at least one image")
    rng = np.random.default_rng(0)  # ops take one; none of these draws from it
    prepared = []
    for index, image in enumerate(listed):
        pixels = _bytes(image, f"images[{index}]" if several else "images")
        prepared.append(pipeline({"image": pixels}, rng)["image"])
    return np.stack(prepared)


def are_several(images: Any) -> bool:
    """Whether these are images, in a list, an array (B, H, W, 3) or a generator, and not one."""
    one = isinstance(images, str | bytes | os.PathLike) or hasattr(images, "convert")
    if one or not isinstance(images, Iterable):
        return False
    return np.ndim(images) == 4 if hasattr(images, "ndim") else True


def photograph_pipeline(model: Any, size: int | tuple[int, int] | None = None) -> str:
    """How a dense network's photograph is prepared: all of it inside of `size`, and normalised.

    size: pixels, or (height, width); None = what the network is meant for. ImageNet's mean and
    deviation where it says none.
    """
    side = size or model.image_size
    side = tuple(side) if isinstance(side, tuple | list) else side
    mean, std = IMAGENET_MEAN, IMAGENET_STD
    if model.preprocessing is not None:
        mean, std = model.preprocessing.mean, model.preprocessing.std
    fill = tuple(round(255 * level) for level in mean)
    return f"resize_pad({side}, fill={fill})|normalize({mean}, {std})"


def _pipeline(model: Any, size: int | tuple[int, int] | None) -> str:
    if getattr(model, "predicts", "") in _DENSE:
        return photograph_pipeline(model, size)
    preprocessing = getattr(model, "preprocessing", None)  # anything may be passed for a model
    if preprocessing is None:
        raise ValueError("model.preprocessing is None; pass a Preprocessing")
    if size is not None:
        preprocessing = dataclasses.replace(preprocessing, size=size)
    return preprocessing.pipeline()


def _bytes(image: Any, name: str) -> np.ndarray:
    """One image in any accepted form as uint8 (h, w, 3)."""
    if isinstance(image, str | os.PathLike):
        return read_photograph(pathlib.Path(image))
    if hasattr(image, "convert"):
        return _from_pil(image, name)
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != 3 or not array.size:
        raise ValueError(
            f"{name}: got {array.dtype} of shape {array.shape}, expected a path, a PIL image or "
            "uint8 of shape (height, width, 3)"
        )
    return array


def _from_pil(image: Any, name: str) -> np.ndarray:
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        raise ValueError(f"{name}: mode {image.mode}, expected 8 bits per channel")
    try:
        return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError) as error:  # PIL decodes here, not when it opens
        where = getattr(image, "filename", "") or name
        raise ValueError(f"cannot read image {where}: {error}") from error

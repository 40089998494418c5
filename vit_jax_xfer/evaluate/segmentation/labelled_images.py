"""Images with masks of class ids, as data sets of semantic segmentation have them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vit_jax_xfer.data.sources.index_picture import read_class_mask
from vit_jax_xfer.data.sources.integrity import check_files
from vit_jax_xfer.data.sources.upright_photo import orientation, photograph_size


@dataclasses.dataclass(frozen=True)
class LabelledImage:
    """image, mask: files. A mask's pixels are class ids."""

    image: Path
    mask: Path


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledImages:
    """A data set: images to train a probe on, others to score. ignore: ids that are no class.

    without_mask: how many images of the folders have no mask and so are not in it.
    """

    train: Sequence[LabelledImage]
    val: Sequence[LabelledImage]
    ignore: frozenset[int]
    without_mask: int = 0


class Survey(NamedTuple):
    """What masks hold at a size. ids: the classes, sorted. empty: how many masks hold none.
    vanished: how many classes of single masks are there in full, but not at the size."""

    ids: tuple[int, ...]
    empty: int
    vanished: int


def shrunk(ids: np.ndarray, size: int) -> np.ndarray:
    """Ids (H, W) → (size, size) by the nearest, of the pixel in which each one's middle lies."""
    rows, columns = (((np.arange(size) + 0.5) * side / size).astype(int) for side in ids.shape)
    return ids[rows[:, None], columns]


def read_ids(one: LabelledImage) -> np.ndarray:
    """A mask's ids (H, W). ValueError where it can't be read or isn't of its image's size."""
    ids = read_class_mask(one.mask)
    width, height = photograph_size(one.image)
    if ids.shape != (height, width):
        turned = ", turned as its EXIF says" if orientation(one.image) > 1 else ""
        raise ValueError(
            f"{one.mask}: {ids.shape[0]}×{ids.shape[1]} pixels, and its image {one.image} has "
            f"{height}×{width}{turned}"
        )
    return ids


def survey(images: Sequence[LabelledImage], size: int, ignore: frozenset[int]) -> Survey:
    """Reads all masks. ValueError naming one that can't be read or isn't of its image's size."""
    found: set[int] = set()
    empty = vanished = 0
    for one in images:
        ids = read_ids(one)
        full, small = (_classes(x, ignore) for x in (ids, shrunk(ids, size)))
        found |= small
        empty += not small
        vanished += len(full - small)
    return Survey(tuple(sorted(found)), empty, vanished)


def check_pairs(where: Path, images: Sequence[LabelledImage]) -> None:
    """ValueError where there are none, and naming files that are missing or broken."""
    if not images:
        raise ValueError(f"{where}: has no masks")
    for kind, other in (("image", "mask"), ("mask", "image")):
        files = [getattr(one, kind) for one in images]
        if missing := [file for file in files if not file.is_file()]:
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            raise ValueError(f"{missing[0]}{more}: no such {kind}, but {where} has its {other}")
        read = read_class_mask if kind == "mask" else None
        check_files([str(file) for file in files], str(where), read=read)


def _classes(ids: np.ndarray, ignore: frozenset[int]) -> set[int]:
    return set(np.bincount(ids.ravel()).nonzero()[0].tolist()) - ignore

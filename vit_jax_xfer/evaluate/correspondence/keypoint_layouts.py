"""Keypoints of photographs' pairs as SPair-71k and PF-WILLOW lay them out on disk.

Min et al., "SPair-71k", arXiv 1908.10543; Ham et al., "Proposal Flow", CVPR 2016.
"""

import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vit_jax_xfer.data.sources.decode import readable_suffixes
from vit_jax_xfer.data.sources.integrity import check_files
from vit_jax_xfer.data.sources.named_files import (
    inside_folder,
    read_bytes,
    read_json,
)
from vit_jax_xfer.data.sources.upright_photo import photograph_size
from vit_jax_xfer.data.sources.visible_files import visible
from vit_jax_xfer.data.sources.voc_layout import image_file
from vit_jax_xfer.evaluate.correspondence.keypoint_pair import KeypointPair, inside
from vit_jax_xfer.evaluate.correspondence.matlab_file import read_array
from vit_jax_xfer.evaluate.correspondence.pair_list import name_in_list, read_pair_list
from vit_jax_xfer.evaluate.correspondence.pf_pascal import pf_pascal

_WILLOW_LISTS = ("test_pairs.csv", "test_pairs_pf.csv")
_WILLOW_FOLDERS = ("PF-dataset-WILLOW", "PF-dataset", "PF-WILLOW")
_WILLOW_POINTS = 10
_LARGEST_MAT = 2**16  # bytes; it holds twenty numbers, and may be packed a thousandfold


def open_pairs(data: str) -> tuple[str, list[KeypointPair]]:
    """(name, pairs) of "spair:PATH", "willow:PATH" or "pfpascal:PATH".

    Every annotation is read, and the head and end of every photograph. ValueError naming the file
    that isn't as it should be.
    """
    name, _, path = data.partition(":")
    if name not in _LAYOUTS or not path:
        known = " or ".join(f"{layout}:PATH" for layout in _LAYOUTS)
        raise ValueError(f"data: got {data!r}, expected {known}")
    root = Path(path).expanduser()
    if not root.is_dir():
        raise ValueError(f"data: there is no folder {root}")
    pairs = _LAYOUTS[name](root)
    for pair in pairs:
        if pair.source == pair.target:  # whose features agree with themselves
            raise ValueError(f"{root}: pairs {pair.source} with itself")
    photos = dict.fromkeys(photo for pair in pairs for photo in (pair.source, pair.target))
    check_files([str(photo) for photo in photos], str(root))
    return name, pairs


def spair(root: Path) -> list[KeypointPair]:
    """The test pairs of SPair-71k, ordered by category and file.

    PairAnnotation/test/*.json holds the keypoints that both photographs show, JPEGImages the
    photographs; ImageAnnotation isn't needed.
    """
    root = _found(root, "PairAnnotation", ("SPair-71k",))
    folder = root / "PairAnnotation" / "test"
    files = [one for one in visible(folder.glob("*"), folder) if one.suffix.lower() == ".json"]
    if not files:
        raise ValueError(f"{folder}: no .json files of pairs there")
    size_of = functools.cache(photograph_size)
    pairs = [_spair_pair(root, file, size_of) for file in files]
    return sorted(pairs, key=lambda pair: pair.category)


def willow(root: Path) -> list[KeypointPair]:
    """The pairs of PF-WILLOW: those of a test_pairs.csv if there is one, or all ordered ones.

    Each folder is a sub-class of photographs with a .mat of ten keypoints each; MATLAB counts
    pixels' centres from 1. The target's box is that of its keypoints.
    """
    lists = [root / name for name in _WILLOW_LISTS if (root / name).is_file()]
    for inner in _WILLOW_FOLDERS:
        if (root / inner).is_dir():
            root = root / inner
            lists += [root / name for name in _WILLOW_LISTS if (root / name).is_file()]
            break
    annotated = {}
    files = visible(root.glob("*/*"), root)
    for file in (one for one in files if one.suffix.lower() == ".mat"):
        photo = image_file(file.parent, file.stem, ".png")
        size = photograph_size(photo)
        annotated[photo] = inside(_willow_points(file), size), size
    if not annotated:
        raise ValueError(f"{root}: no folder with .mat files of keypoints there")
    for photo in files:
        if photo.suffix.lower() in readable_suffixes() and photo not in annotated:
            raise ValueError(f"{photo}: no keypoints, {photo.stem}.mat is missing or another's")
    if lists:
        named = _listed(lists[0], list(annotated))
    else:
        named = [
            (source, target)
            for source, target in itertools.permutations(annotated, 2)
            if source.parent == target.parent
        ]
    return [_willow_pair(source, target, annotated) for source, target in named]


_LAYOUTS: dict[str, Callable[[Path], list[KeypointPair]]] = {
    "spair": spair,
    "willow": willow,
    "pfpascal": pf_pascal,
}


def _found(root: Path, folder: str, inner: tuple[str, ...]) -> Path:
    """The root, or the folder inside it that an archive unpacks to."""
    for candidate in (root, *(root / name for name in inner)):
        if (candidate / folder).is_dir():
            return candidate
    raise ValueError(f"{root}: expected the data set's folder {folder} there")


def _spair_pair(root: Path, file: Path, size_of: Callable[[Path], tuple[int, int]]) -> KeypointPair:
    try:
        annotation = read_json(file)
        if annotation.get("mirror", 0):
            raise ValueError("mirrored pairs aren't part of the protocol")
        category = str(annotation["category"])
        source, target = (
            inside_folder(root / "JPEGImages", f"{category}/{annotation[key]}", file)
            for key in ("src_imname", "trg_imname")
        )
        points = [_points(annotation[key]) for key in ("src_kps", "trg_kps")]
        x0, y0, x1, y1 = (float(edge) for edge in annotation["trg_bndbox"])
        declared = [
            None if annotation.get(key) is None else list(annotation[key][:2])
            for key in ("src_imsize", "trg_imsize")
        ]
    except KeyError as error:
        raise ValueError(f"{file}: no field {error.args[0]!r}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{file}: not a pair's annotation: {error}") from error
    if len(points[0]) != len(points[1]):
        raise ValueError(
            f"{file}: src_kps has {len(points[0])} keypoints, trg_kps has {len(points[1])}"
        )
    ordered = 0 <= x1 - x0 < np.inf and 0 <= y1 - y0 < np.inf
    if not ordered or not max(x1 - x0, y1 - y0) > 0:
        raise ValueError(
            f"{file}: trg_bndbox {[x0, y0, x1, y1]} is empty, or ends before it starts"
        )
    sizes = [size_of(photo) for photo in (source, target)]
    for photo, size, expected in zip((source, target), sizes, declared, strict=True):
        if expected is not None and tuple(expected) != size:
            raise ValueError(f"{photo}: {size[0]}×{size[1]}, but {file} was made for {expected}")
    shown = [inside(one, size) for one, size in zip(points, sizes, strict=True)]
    return KeypointPair(category, source, target, *shown, *sizes, max(x1 - x0, y1 - y0))


def _points(values: Any) -> np.ndarray:
    """(N, 2) of a list of [x, y] or null."""
    points = [[np.nan] * 2 if point is None else point for point in values]
    return np.asarray(points, np.float64).reshape(len(points), 2)


def _willow_points(file: Path) -> np.ndarray:
    """(10, 2): x, y of keypoints in pixels, pixel i covering i to i + 1."""
    try:
        points = read_array(read_bytes(file, _LARGEST_MAT), "pts_coord")
    except KeyError as error:
        raise ValueError(f"{file}: no variable pts_coord in it") from error
    except ValueError as error:
        raise ValueError(f"{file}: not a MATLAB file of keypoints: {error}") from error
    if points.shape != (2, _WILLOW_POINTS):
        raise ValueError(f"{file}: pts_coord: expected (2, {_WILLOW_POINTS}), got {points.shape}")
    # The centre of MATLAB's first pixel is 1, here it is a half.
    return points.T - 0.5


def _willow_pair(source: Path, target: Path, annotated: dict[Path, Any]) -> KeypointPair:
    (source_points, source_size), (target_points, target_size) = (
        annotated[photo] for photo in (source, target)
    )
    known = target_points[np.isfinite(target_points).all(1)]
    reference = float(np.ptp(known, axis=0).max()) if len(known) else 0.0
    category = source.parent.name
    return KeypointPair(
        category, source, target, source_points, target_points, source_size, target_size, reference
    )


def _listed(file: Path, photos: list[Path]) -> list[tuple[Path, Path]]:
    """The pairs of a list whose first two columns end with sub-class and file name.

    A first line without file names is a header.
    """
    by_name = {(photo.parent.name, photo.name): photo for photo in photos}
    pairs = []
    for place, (number, row) in enumerate(read_pair_list(file)):
        cells = [name_in_list(cell) for cell in row[:2]]
        names = [cell.parts[-2:] for cell in cells]
        if len(names) == 2 and all(name in by_name for name in names):
            pairs.append((by_name[names[0]], by_name[names[1]]))
        elif place or any(cell.suffix for cell in cells):
            raise ValueError(f"{file}: line {number}: no annotated photographs {row[:2]}")
    if not pairs:
        raise ValueError(f"{file}: lists no pairs")
    return pairs

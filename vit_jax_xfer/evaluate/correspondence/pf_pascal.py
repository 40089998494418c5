"""PF-PASCAL's pairs: PF-dataset-PASCAL with JPEGImages and Annotations/CLASS/NAME.mat, and a list.

Ham et al., "Proposal Flow: Semantic Correspondences from Object Proposals", PAMI 2017. The 299 test
pairs are SCNet's (Han et al. 2017), a CSV that is published beside the data set.
"""

import functools
from pathlib import Path

import numpy as np

from vit_jax_xfer.data.sources.named_files import inside_folder, read_bytes
from vit_jax_xfer.data.sources.upright_photo import photograph_size
from vit_jax_xfer.data.sources.voc_layout import CLASSES, file_of, image_file
from vit_jax_xfer.evaluate.correspondence.keypoint_pair import KeypointPair, inside
from vit_jax_xfer.evaluate.correspondence.matlab_file import read_array
from vit_jax_xfer.evaluate.correspondence.pair_list import name_in_list, read_pair_list

_LISTS = ("test_pairs_pf_pascal.csv", "test_pairs.csv", "bbox_test_pairs_pf_pascal.csv")
_FOLDER = "PF-dataset-PASCAL"
_LARGEST_MAT = 2**16  # bytes


def pf_pascal(root: Path) -> list[KeypointPair]:
    """The pairs that the list names, in its order; its first columns are two images and a class.

    The class is VOC's name or its number from 1 on. The reference of PCK is the target's longer
    side, as published figures have it. MATLAB counts pixels' centres from 1.
    """
    folders = [root, root / _FOLDER]
    lists = [folder / name for folder in folders for name in _LISTS]
    file = next((one for one in lists if one.is_file()), None)
    if file is None:
        raise ValueError(
            f"{root}: expected the list of test pairs there, {_LISTS[0]}, as SCNet published it"
        )
    inner = next((one for one in folders if (one / "Annotations").is_dir()), None)
    if inner is None:
        raise ValueError(f"{root}: expected the data set's folder Annotations there")
    read = functools.cache(functools.partial(_read, inner))
    pairs = []
    for number, row in _rows(file):
        where = f"{file}: line {number}"
        if len(row) < 3:
            raise ValueError(f"{where}: expected two images and a class, got {row}")
        category = _class_of(row[2])
        if category is None:
            raise ValueError(
                f"{where}: class {row[2]!r}; expected VOC's name, or 1 to {len(CLASSES)}"
            )
        names = [name_in_list(cell).stem for cell in row[:2]]
        for name in names:
            inside_folder(inner, f"{category}/{name}", file)
        (source, points, size), (target, wanted, sides) = (read(category, name) for name in names)
        if len(points) != len(wanted):
            raise ValueError(
                f"{where}: {names[0]} has {len(points)} keypoints, {names[1]} has {len(wanted)}"
            )
        pairs.append(
            KeypointPair(category, source, target, points, wanted, size, sides, float(max(sides)))
        )
    return pairs


def _rows(file: Path) -> list[tuple[int, list[str]]]:
    """(number, cells) of the list's lines, without a header. ValueError where there are none.

    A header names neither a file nor a class; file names may have no suffix.
    """
    found = read_pair_list(file)
    if found and not _is_pair(found[0][1]):
        found = found[1:]
    if not found:
        raise ValueError(f"{file}: lists no pairs")
    return found


def _is_pair(row: list[str]) -> bool:
    names_class = len(row) > 2 and _class_of(row[2]) is not None
    return names_class or any(name_in_list(cell).suffix for cell in row[:2])


def _class_of(text: str) -> str | None:
    """The class of VOC's name, or of its number from 1 on; None of another text."""
    if text in CLASSES:
        return text
    number = float(text) if text.replace(".", "", 1).isdecimal() else 0
    if number != int(number) or not 1 <= number <= len(CLASSES):
        return None
    return CLASSES[int(number) - 1]


def _read(root: Path, category: str, name: str) -> tuple[Path, np.ndarray, tuple[int, int]]:
    """A photograph, its keypoints (N, 2) and its (width, height)."""
    file = file_of(root / "Annotations" / category, name, ".mat")
    try:
        points = read_array(read_bytes(file, _LARGEST_MAT), "kps")
    except OSError:
        raise ValueError(f"{file}: no such file") from None
    except KeyError as error:
        raise ValueError(f"{file}: no variable kps in it") from error
    except ValueError as error:
        raise ValueError(f"{file}: not a MATLAB file of keypoints: {error}") from error
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"{file}: kps: expected (N, 2), got {points.shape}")
    photo = image_file(root / "JPEGImages", name)
    size = photograph_size(photo)
    # The centre of MATLAB's first pixel is 1, here it is a half.
    return photo, inside(points - 0.5, size), size

"""ImageNet's validation images and their variants, opened as their authors laid them out."""

import dataclasses
import json
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from vit_jax_xfer.data.sources.class_match import RenamedClasses
from vit_jax_xfer.data.sources.named_files import read_text
from vit_jax_xfer.data.sources.source import Source
from vit_jax_xfer.suites.corrupted_sets import open_corrupted
from vit_jax_xfer.suites.imagenet_labels import CORRUPTIONS, SEVERITIES, synsets, synsets_of
from vit_jax_xfer.suites.suite_places import open_images
from vit_jax_xfer.suites.suite_set import Opening, Suite, SuiteSet
from vit_jax_xfer.suites.validation_list import (
    is_flat,
    label_by_list,
    open_flat,
    validation_number,
)

_REAL_SCORED = 46_837


def _by_wordnet(source: Source) -> Source:
    """A source whose classes are WordNet's names where folders say more: "n01440764_tench"."""
    names = [re.match(r"(n\d{8})(?![0-9A-Za-z])", one) for one in source.class_names]
    own = zip(names, source.class_names, strict=True)
    return RenamedClasses(source, tuple(name[1] if name else one for name, one in own))


def open_validation(suite: Suite, place: pathlib.Path, how: Opening) -> list[SuiteSet]:
    """ImageNet's validation images, by folders or as published, by a list."""
    if is_flat(place):
        source = label_by_list(suite.name, open_flat(place), place, how.root)
    else:
        source = _by_wordnet(open_images(suite.name, place))
    one = SuiteSet(suite.name, source)
    suite.check_whole(source, one.classes_with_images(), how.partial)
    return [one]


def open_wordnet_folders(suite: Suite, place: pathlib.Path, how: Opening) -> list[SuiteSet]:
    """A set with a folder for each of ImageNet's classes."""
    one = SuiteSet(suite.name, _by_wordnet(open_images(suite.name, place)))
    suite.check_whole(one.source, one.classes_with_images(), how.partial)
    return [one]


def open_some_classes(suite: Suite, place: pathlib.Path, how: Opening) -> list[SuiteSet]:
    """A set whose other classes can't be predicted."""
    (one,) = open_wordnet_folders(suite, place, how)
    return [dataclasses.replace(one, scored=synsets_of(suite.name))]


def open_numbered(suite: Suite, place: pathlib.Path, how: Opening) -> list[SuiteSet]:
    """V2, whose folders are numbers: sorted as text they are in another order."""
    source = open_images(suite.name, place)
    wrong = [one for one in source.class_names if not one.isdecimal() or int(one) >= 1000]
    if wrong:
        raise ValueError(
            f"{suite.name}: folder {wrong[0]!r}, expected numbers of classes, 0 to 999"
        )
    one = SuiteSet(
        suite.name,
        RenamedClasses(source, tuple(synsets()[int(one)] for one in source.class_names)),
    )
    suite.check_whole(source, one.classes_with_images(), how.partial)
    return [one]


def open_real(suite: Suite, place: pathlib.Path, how: Opening) -> list[SuiteSet]:
    """ReaL: several right classes for some images, none for others, by the images' numbers."""
    name = suite.name
    flat = is_flat(place)
    source = open_flat(place) if flat else open_images(name, place)
    classes = suite.classes if flat else source.num_classes  # its own list names them
    suite.check_whole(source, classes, how.partial)
    near = dict.fromkeys((place, *place.parents[:2], how.root))
    found = next((one / "real.json" for one in near if (one / "real.json").is_file()), None)
    if found is None:
        raise ValueError(f"{name}: no real.json beside {place}; it is in google-research/reassessed"
                         "-imagenet")  # fmt: skip
    right = _right_classes(name, found)
    if not how.partial:
        check_scored(name, str(found), right)
    truths = []
    for file in source.files:  # type: ignore[attr-defined]
        number = validation_number(file)
        if number is None or not 1 <= number <= len(right):
            raise ValueError(f"{name}: {file} is not called ILSVRC2012_val_00000001.JPEG or so")
        truths.append(tuple(synsets()[label] for label in dict.fromkeys(right[number - 1])))
    return [SuiteSet(name, source, tuple(truths))]


def check_scored(name: str, found: str, right: Sequence[Sequence[Any]]) -> None:
    """ValueError unless as many images have right classes as in the published list of ReaL's."""
    scored = sum(map(bool, right))
    if scored != _REAL_SCORED:
        raise ValueError(
            f"{name}: {found} is about {len(right):,} images, of which {scored:,} are scored, and "
            f"the published one scores {_REAL_SCORED:,}; --partial takes it as it is"
        )


def _right_classes(name: str, path: pathlib.Path) -> list[list[int]]:
    """The numbers of the right classes of each image. ValueError for a file of anything else."""
    try:
        found = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}: {path} is no JSON ({error})") from None
    lists = isinstance(found, list) and all(isinstance(one, list) for one in found)
    if not lists or not all(type(n) is int and 0 <= n < 1000 for one in found for n in one):
        raise ValueError(f"{name}: {path} is no list of lists of classes, 0 to 999")
    return found


def open_imagenet_c(suite: Suite, place: pathlib.Path, how: Opening) -> list[SuiteSet]:
    """C: its images are cropped already, and four corruptions more than are counted."""

    def open_one(name: str, where: pathlib.Path, inside: str) -> Source:
        source = _by_wordnet(open_images(name, where, inside))
        dataclasses.replace(suite, name=name).check_whole(source, source.num_classes, how.partial)
        return source

    return open_corrupted(suite.name, place, CORRUPTIONS, SEVERITIES, how, open_one, crop_only=True)

"""The suites by name: where each lies below a folder, how it is read, and when it is whole.

Sources: ImageNet (1409.0575), ReaL (2006.07159), A (1907.07174), R (2006.16241), Sketch
(1905.13549), V2 (1902.10811), C (1903.12261).
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Callable

from vit_jax_xfer.data.sources.class_match import RenamedClasses
from vit_jax_xfer.data.sources.folder import open_folder
from vit_jax_xfer.data.sources.named_files import read_text
from vit_jax_xfer.data.sources.source import Source
from vit_jax_xfer.data.sources.tar import open_tar
from vit_jax_xfer.suites.imagenet_labels import CORRUPTIONS, SEVERITIES, synsets, synsets_of
from vit_jax_xfer.suites.suite_set import SuiteSet

_VALIDATION = ("imagenet/val", "imagenet/validation", "imagenet2012/val", "val", "validation")


@dataclasses.dataclass(frozen=True)
class Suite:
    """A published set.

    about: a few words. places: its folders or archives below the root, the first that is there is
    taken. images, classes: of the whole set. open: its sets, from one of the places.
    """

    about: str
    places: tuple[str, ...]
    images: int
    classes: int
    open: Callable[[str, "Suite", pathlib.Path, bool], list[SuiteSet]]


def open_suite(name: str, root: pathlib.Path, partial: bool = False) -> list[SuiteSet]:
    """The sets of a suite below a folder. partial: a part of the suite will do.

    ValueError naming the suite where it is unknown, not there, or not whole.
    """
    if name not in SUITES:
        raise ValueError(f"suites: {name!r} is none of {', '.join(SUITES)}")
    suite = SUITES[name]
    place = next((root / one for one in suite.places if (root / one).exists()), None)
    if place is None:
        raise ValueError(
            f"{name}: not below {root}; looked for {', '.join(suite.places)} ({suite.about})"
        )
    return suite.open(name, suite, place, partial)


def _source(
    name: str, suite: Suite, place: pathlib.Path, partial: bool, inside: str = ""
) -> Source:
    """Images below a place. ValueError where they aren't all there and must be."""
    if place.is_dir():
        place = place / inside
        source: Source = open_folder(str(place.parent), place.name)
    else:
        source = open_tar(place, inside)
    if not partial and (len(source), source.num_classes) != (suite.images, suite.classes):
        raise ValueError(
            f"{name}: {source.name} has {len(source):,} images of {source.num_classes} classes, "
            f"and the whole set {suite.images:,} of {suite.classes}; --partial takes it as it is"
        )
    return source


def _plain(name: str, suite: Suite, place: pathlib.Path, partial: bool) -> list[SuiteSet]:
    return [SuiteSet(name, _source(name, suite, place, partial))]


def _some_classes(name: str, suite: Suite, place: pathlib.Path, partial: bool) -> list[SuiteSet]:
    """A set whose other classes can't be predicted."""
    return [SuiteSet(name, _source(name, suite, place, partial), scored=synsets_of(name))]


def _numbered(name: str, suite: Suite, place: pathlib.Path, partial: bool) -> list[SuiteSet]:
    """V2, whose folders are numbers: sorted as text they are in another order."""
    source = _source(name, suite, place, partial)
    wrong = [one for one in source.class_names if not one.isdecimal() or int(one) >= 1000]
    if wrong:
        raise ValueError(f"{name}: folder {wrong[0]!r}, expected numbers of classes, 0 to 999")
    names = tuple(synsets()[int(one)] for one in source.class_names)
    return [SuiteSet(name, RenamedClasses(source, names))]


def _real(name: str, suite: Suite, place: pathlib.Path, partial: bool) -> list[SuiteSet]:
    """ReaL: several right classes for some images, none for others, by the images' numbers."""
    source = _source(name, suite, place, partial)
    found = next((root / "real.json" for root in (place, *place.parents[:2])
                  if (root / "real.json").exists()), None)  # fmt: skip
    if found is None:
        raise ValueError(f"{name}: no real.json beside {place}; it is in google-research/reassessed"
                         "-imagenet")  # fmt: skip
    right = _right_classes(name, found)
    truths = []
    for file in source.files:  # type: ignore[attr-defined]
        number = re.search(r"val_0*(\d+)\.", file)
        if number is None or not 1 <= int(number[1]) <= len(right):
            raise ValueError(f"{name}: {file} is not called ILSVRC2012_val_00000001.JPEG or so")
        truths.append(tuple(synsets()[label] for label in right[int(number[1]) - 1]))
    return [SuiteSet(name, source, tuple(truths))]


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


def _corrupted(name: str, suite: Suite, place: pathlib.Path, partial: bool) -> list[SuiteSet]:
    """C: a set for each corruption at each severity; its images are cropped already."""
    return [
        SuiteSet(
            f"{name}/{corruption}/{severity}",
            _source(name, suite, place, partial, f"{corruption}/{severity}"),
            crop_only=True,
        )
        for corruption in CORRUPTIONS
        for severity in SEVERITIES
    ]


def _of_folders(about: str, name: str, images: int, classes: int) -> Suite:
    places = tuple(f"{name}/{split}" for split in ("test", "val", "validation"))
    return Suite(f"{about}: a folder for each class", places, images, classes, _plain)


SUITES: dict[str, Suite] = {
    "imagenet": Suite("ILSVRC2012's validation images", _VALIDATION, 50_000, 1000, _plain),
    "real": Suite("the same images with real.json", _VALIDATION, 50_000, 1000, _real),
    "a": Suite("ImageNet-A", ("imagenet-a", "imagenet-a.tar"), 7_500, 200, _some_classes),
    "r": Suite("ImageNet-R", ("imagenet-r", "imagenet-r.tar"), 30_000, 200, _some_classes),
    "sketch": Suite("ImageNet-Sketch", ("sketch", "imagenet-sketch"), 50_889, 1000, _plain),
    "v2": Suite(
        "ImageNet-V2, matched frequency",
        (
            "imagenetv2-matched-frequency-format-val",
            "imagenetv2-matched-frequency",
            "imagenetv2-matched-frequency.tar",
            "imagenet-v2",
        ),
        10_000,
        1000,
        _numbered,
    ),
    "c": Suite("ImageNet-C", ("imagenet-c", "ImageNet-C"), 50_000, 1000, _corrupted),
    "cifar10": _of_folders("CIFAR-10", "cifar10", 10_000, 10),
    "cifar100": _of_folders("CIFAR-100", "cifar100", 10_000, 100),
    "flowers": _of_folders("Oxford Flowers-102", "flowers", 6_149, 102),
    "pets": _of_folders("Oxford-IIIT Pets", "pets", 3_669, 37),
}

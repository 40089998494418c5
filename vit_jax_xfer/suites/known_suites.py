"""The suites by name: where each lies below a folder, how it is read, and when it is whole.

Sources: ImageNet (1409.0575), ReaL (2006.07159), A (1907.07174), R (2006.16241), Sketch
(1905.13549), V2 (1902.10811), C (1903.12261), iNaturalist (github.com/visipedia/inat_comp).
"""

import os
import pathlib
from collections.abc import Callable, Mapping

from vit_jax_xfer.data.sources.class_match import read_class_map
from vit_jax_xfer.data.sources.inaturalist import YEARS, open_inaturalist
from vit_jax_xfer.local_paths import local_path
from vit_jax_xfer.suites.corrupted_sets import corruptions_of, open_corrupted
from vit_jax_xfer.suites.imagenet_labels import CORRUPTIONS, SEVERITIES
from vit_jax_xfer.suites.imagenet_suites import (
    check_scored,
    open_imagenet_c,
    open_numbered,
    open_real,
    open_some_classes,
    open_validation,
    open_wordnet_folders,
)
from vit_jax_xfer.suites.suite_places import find_place, inner_folder, open_images, packed_place
from vit_jax_xfer.suites.suite_set import Opening, Suite, SuiteSet
from vit_jax_xfer.suites.tfds_suites import TFDS, open_tfds_suite

_VALIDATION = (
    *("imagenet/val", "imagenet/validation", "imagenet2012/val", "ILSVRC2012/val", "val"),
    *("validation", "imagenet/ILSVRC2012_img_val", "ILSVRC2012_img_val"),
    *("imagenet/ILSVRC2012_img_val.tar", "ILSVRC2012_img_val.tar", "ILSVRC/Data/CLS-LOC/val"),
)


def open_suite(
    name: str,
    root: str | os.PathLike[str],
    partial: bool = False,
    class_map: str | Mapping[str, str] = "",
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[SuiteSet]:
    """The sets of a suite below a folder, or of tfds.

    root: a folder, "tfds:" or "tfds:FOLDER" of prepared sets. partial: a part of the suite will do.
    class_map: from the set's class names to the model's, as `read_class_map` reads it. report:
    called with how many of its sets are open, and how many there are, where there are several.
    ValueError naming the suite where it is unknown, not there, or not whole.
    """
    renamed = read_class_map(class_map) if class_map else {}
    return [one.with_class_map(renamed) for one in _open(name, root, partial, report)]


def _open(
    name: str,
    root: str | os.PathLike[str],
    partial: bool,
    report: Callable[[int, int], None],
) -> list[SuiteSet]:
    if name not in SUITES:
        raise ValueError(f"suites: {name!r} is none of {', '.join(SUITES)}")
    suite = SUITES[name]
    if os.fspath(root).startswith(TFDS):
        one = open_tfds_suite(name, os.fspath(root).removeprefix(TFDS))
        suite.check_whole(one.source, one.classes_with_images(), partial)
        if name == "real" and not partial:
            check_scored(name, one.source.name, one.truths or ())
        return [one]
    folder = local_path(root, "data")
    if not folder.is_dir():
        raise ValueError(f"data: {folder} is no folder")
    place = find_place(folder, suite.places)
    if place is None:
        packed = packed_place(folder, suite.places)
        more = f"; unpack {packed}" if packed is not None else ""
        raise ValueError(
            f"{name}: not below {folder}; looked for {', '.join(suite.places)} ({suite.about})"
            + more
        )
    return suite.open(suite, place, Opening(folder, partial, report))


def incomplete(name: str, sets: list[SuiteSet]) -> str:
    """What a suite that need not be whole lacks; "" where nothing is known to be missing."""
    suite = SUITES[name]
    if suite.open is open_imagenet_c:
        wanted = len(CORRUPTIONS) * len(SEVERITIES)
        images = sum(len(one.source) for one in sets)
        whole = (len(sets), images) == (wanted, wanted * suite.images)
        return "" if whole else f"{len(sets)} of {wanted} sets, {images:,} images"
    if not suite.images:
        return ""
    (one,) = sets
    images, text = len(one.source), f"{len(one.source):,} of {suite.images:,} images"
    if one.truths is not None:  # ReaL's classes stand in its own list
        return "" if images == suite.images else text
    classes = one.classes_with_images()
    if (images, classes) == (suite.images, suite.classes):
        return ""
    return f"{text}, {classes:,} of {suite.classes:,} classes"


def _plain(suite: Suite, place: pathlib.Path, how: Opening) -> list[SuiteSet]:
    one = SuiteSet(suite.name, open_images(suite.name, place))
    suite.check_whole(one.source, one.classes_with_images(), how.partial)
    return [one]


def _own_corruptions(suite: Suite, place: pathlib.Path, how: Opening) -> list[SuiteSet]:
    """A set that is laid out like C, of any corruptions, severities and classes."""
    place = inner_folder(place) if not corruptions_of(place) else place
    corruptions = corruptions_of(place)
    if not corruptions:
        raise ValueError(f"{suite.name}: {place} holds no folders CORRUPTION/SEVERITY/CLASS")
    severities = [
        severity
        for severity in SEVERITIES
        if any((place / one / str(severity)).is_dir() for one in corruptions)
    ]
    return open_corrupted(
        suite.name, place, corruptions, severities, how, open_images, crop_only=False
    )


def _inaturalist(suite: Suite, place: pathlib.Path, how: Opening) -> list[SuiteSet]:
    """A year's validation images; outputs without names are its categories by number."""
    year = suite.name.removeprefix("inaturalist")
    try:
        source = open_inaturalist(str(place), "val", year, whole=not how.partial)
    except (ValueError, OSError) as error:
        text = f"{suite.name}: {str(error).removeprefix('spec: ')}"
        raise ValueError(text + ("" if how.partial else "; --partial takes a part")) from None
    return [SuiteSet(suite.name, source, numbered=True)]


def _of_folders(name: str, about: str, images: int, classes: int) -> Suite:
    places = tuple(f"{name}/{split}" for split in ("test", "val", "validation"))
    return Suite(name, f"{about}: a folder for each class", places, images, classes, _plain)


def _of_year(year: str) -> Suite:
    places = (f"inaturalist{year}", f"inat{year}", f"inaturalist/{year}", f"i_naturalist{year}")
    number = YEARS[year].images.get("val", 0)
    about = f"iNaturalist {year}: val{year}.json and its images"
    return Suite(f"inaturalist{year}", about, places, number, YEARS[year].classes, _inaturalist)


_ALL = (
    Suite("imagenet", "ILSVRC2012's validation images", _VALIDATION, 50_000, 1000, open_validation),
    Suite("real", "the same images with real.json", _VALIDATION, 50_000, 1000, open_real),
    Suite("a", "ImageNet-A", ("imagenet-a", "imagenet-a.tar"), 7_500, 200, open_some_classes),
    Suite("r", "ImageNet-R", ("imagenet-r", "imagenet-r.tar"), 30_000, 200, open_some_classes),
    Suite(
        "sketch",
        "ImageNet-Sketch",
        ("sketch", "imagenet-sketch", "imagenet-sketch.tar", "sketch.tar"),
        50_889,
        1000,
        open_wordnet_folders,
    ),
    Suite(
        "v2",
        "ImageNet-V2, matched frequency",
        (
            "imagenetv2-matched-frequency-format-val",
            "imagenet-v2/imagenetv2-matched-frequency-format-val",
            "imagenetv2-matched-frequency",
            "imagenetv2-matched-frequency.tar",
            "imagenet-v2",
            "imagenetv2",
        ),
        10_000,
        1000,
        open_numbered,
    ),
    Suite("c", "ImageNet-C", ("imagenet-c",), 50_000, 1000, open_imagenet_c),
    _of_folders("cifar10", "CIFAR-10", 10_000, 10),
    _of_folders("cifar100", "CIFAR-100", 10_000, 100),
    _of_folders("flowers", "Oxford Flowers-102", 6_149, 102),
    _of_folders("pets", "Oxford-IIIT Pets", 3_669, 37),
    *map(_of_year, YEARS),
    Suite("plain", "a set of your own, a folder for each class", ("plain",), 0, 0, _plain),
    Suite(
        "corrupted",
        "a set of your own, as ImageNet-C is laid out",
        ("corrupted", "cifar10-c", "cifar-10-c"),
        0,
        0,
        _own_corruptions,
    ),
)
SUITES: dict[str, Suite] = {suite.name: suite for suite in _ALL}

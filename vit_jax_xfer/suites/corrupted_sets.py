"""Images at several corruptions and severities: ImageNet-C, and sets that are laid out like it."""

import itertools
import pathlib
from collections.abc import Callable, Mapping, Sequence

from vit_jax_xfer.data.sources.source import Source
from vit_jax_xfer.data.sources.tar import tar_images
from vit_jax_xfer.data.sources.visible_files import visible
from vit_jax_xfer.suites.imagenet_labels import SEVERITIES
from vit_jax_xfer.suites.suite_places import inner_folder, visible_folders
from vit_jax_xfer.suites.suite_set import Opening, SuiteSet

_SHOWN = 3

# (name for messages, folder or archive, folders inside it) → its images
Opener = Callable[[str, pathlib.Path, str], Source]


def corruptions_of(place: pathlib.Path) -> tuple[str, ...]:
    """The corruptions that a folder holds: folders of folders that are called 1, 2, …"""
    numbers = set(map(str, SEVERITIES))
    return tuple(
        one.name
        for one in visible_folders(place)
        if any(inside.name in numbers for inside in visible_folders(one))
    )


def open_corrupted(
    name: str,
    place: pathlib.Path,
    corruptions: Sequence[str],
    severities: Sequence[int],
    how: Opening,
    open_one: Opener,
    crop_only: bool,
) -> list[SuiteSet]:
    """A set for each corruption at each severity, "NAME/fog/3".

    They are folders CORRUPTION/SEVERITY of a place, perhaps in one more, as the authors' archives
    are called (noise, blur, weather, digital), or lie in such archives. ValueError where one is
    missing, unless a part will do.
    """
    archives = {archive: _pairs(archive) for archive in visible(place.glob("*.tar"), place)}
    found, lacking = {}, []
    for corruption in corruptions:
        for severity in severities:
            inside = f"{corruption}/{severity}"
            where = _folder(place, inside) or _archive(archives, inside)
            if where is None:
                lacking.append(inside)
            else:
                found[inside] = where
    if lacking and not (how.partial and found):
        shown = ", ".join(lacking[:_SHOWN]) + (", …" if len(lacking) > _SHOWN else "")
        raise ValueError(
            f"{name}: {place} lacks {shown} ({len(lacking)} of "
            f"{len(lacking) + len(found)} sets)" + ("; --partial takes the others" if found else "")
        )
    sets = []
    for inside, where in found.items():
        source = open_one(f"{name}/{inside}", *where)
        sets.append(SuiteSet(f"{name}/{inside}", source, crop_only=crop_only))
        how.report(len(sets), len(found))
    return sets


def _folder(place: pathlib.Path, inside: str) -> tuple[pathlib.Path, str] | None:
    for folder in (place, *visible_folders(place)):
        if (folder / inside).is_dir():
            return inner_folder(folder / inside), ""
    return None


def _archive(
    archives: Mapping[pathlib.Path, set[str]], inside: str
) -> tuple[pathlib.Path, str] | None:
    return next(((archive, inside) for archive, held in archives.items() if inside in held), None)


def _pairs(archive: pathlib.Path) -> set[str]:
    """Each two folders, one in the other, of an archive: "fog/3"."""
    folders = {name.rpartition("/")[0] for name, *_ in tar_images(archive)}
    parts = [folder.split("/") for folder in folders]
    return {"/".join(pair) for one in parts for pair in itertools.pairwise(one)}

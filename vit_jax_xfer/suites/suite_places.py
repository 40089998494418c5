"""Where a published set lies below a folder, and its images there, as users' folders have them."""

import pathlib
from collections.abc import Sequence

from vit_jax_xfer.data.sources.folder import EXTENSIONS, open_folder
from vit_jax_xfer.data.sources.source import Source
from vit_jax_xfer.data.sources.tar import open_tar
from vit_jax_xfer.data.sources.visible_files import is_hidden

_PACKED = (".tar.gz", ".tgz", ".zip", ".tar.xz")


def find_place(root: pathlib.Path, places: Sequence[str]) -> pathlib.Path | None:
    """The first of the folders or archives that is there; case and - or _ make no difference."""
    for place in places:
        found: pathlib.Path | None = root
        for part in place.split("/"):
            found = None if found is None else _entry(found, part)
        if found is not None:
            return found
    return None


def packed_place(root: pathlib.Path, places: Sequence[str]) -> pathlib.Path | None:
    """An archive of one of the places that has to be unpacked first."""
    stems = [place.removesuffix(".tar") for place in places]
    return find_place(root, [stem + ending for stem in stems for ending in _PACKED])


def _entry(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    if not folder.is_dir():
        return None
    found = sorted(one for one in folder.iterdir() if _alike(one.name) == _alike(name))
    return folder / name if folder / name in found else next(iter(found), None)


def _alike(name: str) -> str:
    return name.lower().replace("_", "-")


def visible_folders(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folders in a folder, sorted, without what an operating system adds."""
    return sorted(one for one in folder.iterdir() if one.is_dir() and not is_hidden(one.name))


def flat_images(folder: pathlib.Path) -> list[str]:
    """Names of the image files that lie in a folder itself, sorted."""
    return sorted(
        one.name
        for one in folder.iterdir()
        if one.name.lower().endswith(EXTENSIONS) and not is_hidden(one.name) and one.is_file()
    )


def inner_folder(folder: pathlib.Path) -> pathlib.Path:
    """The folder of the classes' folders: an archive may unpack to one more of its own name."""
    while not flat_images(folder):
        folders = visible_folders(folder)
        if len(folders) != 1:
            return folder
        below = folders[0]
        if not visible_folders(below) and not _is_flat_split(below):
            return folder  # it is a class's
        folder = below
    return folder


def _is_flat_split(folder: pathlib.Path) -> bool:
    return folder.name.lower() in ("val", "validation", "test")


def open_images(name: str, place: pathlib.Path, inside: str = "") -> Source:
    """Images by folders of classes, of a folder or archive. ValueError that begins with a name."""
    try:
        if place.is_dir():
            place = inner_folder(place / inside)
            return open_folder(str(place.parent), place.name)
        return open_tar(place, inside)
    except (ValueError, OSError) as error:
        raise ValueError(f"{name}: {str(error).removeprefix('spec: ')}") from None

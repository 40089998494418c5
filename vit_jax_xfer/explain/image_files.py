"""Image files by path or folder, and the files that are made of them: their names and places."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vit_jax_xfer.data.sources.decode import readable_suffixes
from vit_jax_xfer.terminal import show

# Photographs all the same, of phones and cameras, or of formats that Pillow may be built without.
_UNREAD = (
    ".heic", ".heif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2",
    ".psd", ".exr", ".svg", ".avif", ".jp2", ".webp",
)  # fmt: skip


def find_images(sources: Sequence[str | os.PathLike[str]], out: Path) -> list[Path]:
    """The files named, and the images in the folders named and below, each once.

    Those of a folder are sorted, of all suffixes that can be read; that photographs of other
    formats are there is said. Names that begin with a dot are left out, and so is `out`, where it
    lies in a folder. ValueError where there are none, and where `out` is itself such a folder.
    """
    found: dict[Path, Path] = {}
    for source in map(Path, sources):
        if not source.exists():
            raise ValueError(f"{source}: no such file or folder")
        files = _images_below(source, out) if source.is_dir() else [source]
        if source.is_dir():
            files = _readable(source, files)
        for file in files:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def _images_below(folder: Path, out: Path) -> list[Path]:
    if out.resolve() == folder.resolve():
        raise ValueError(f"--out: {out} is the folder of the images; choose another")
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in (*readable_suffixes(), *_UNREAD)
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and out.resolve() not in file.resolve().parents
        and file.is_file()
    )


def _readable(folder: Path, files: Sequence[Path]) -> list[Path]:
    """Those that can be read; the others are counted on stderr. ValueError where there are none."""
    readable = readable_suffixes()
    found = [file for file in files if file.suffix.lower() in readable]
    others = Counter(file.suffix.lower() for file in files)
    others = {suffix: number for suffix, number in others.items() if suffix not in readable}
    said = ", ".join(f"{number} {suffix}" for suffix, number in sorted(others.items()))
    if not found:
        there = f", but {said}, which aren't read: save them as JPEG or PNG" if said else ""
        raise ValueError(f"{folder}: holds no image files ({', '.join(readable)}){there}")
    if said:
        show(f"{folder}: left out {said}: not read; save them as JPEG or PNG", name="stderr")
    return found


def picture_names(files: Sequence[Path]) -> list[str]:
    """A name without suffix for each of the files, all different.

    A file's own, or, where several have that, its path below what all have in common.
    """
    stems = [file.stem.lower() for file in files]  # some file systems take A for a
    below = _below_common([file.resolve() for file in files])
    names = [
        file.stem if stems.count(file.stem.lower()) == 1 else "_".join(parts)
        for file, parts in zip(files, below, strict=True)
    ]
    for i, name in enumerate(names):
        if name in names[:i]:
            names[i] = f"{name}_{i + 1}"
    return names


def check_free(
    targets: Sequence[Path], flag: str, overwrite: bool, images: Sequence[Path] = ()
) -> None:
    """ValueError naming the flag for what is wrong with files to write, before any is.

    images: what is read, which is never written over. overwrite: other files that exist are.
    """
    if len(set(targets)) < len(targets):
        twice = next(path for path in targets if targets.count(path) > 1)
        raise ValueError(f"{flag}: {twice} would be two files; take the images in two calls")
    read = {path.resolve() for path in images}
    for path in targets:
        if path.is_dir():
            raise ValueError(f"{flag}: {path} is a folder")
        if path.resolve() in read:
            raise ValueError(f"{flag}: {path} is one of the images; choose another place")
    there = [path for path in targets if path.exists()]
    if there and not overwrite:
        more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
        raise ValueError(f"{flag}: {there[0]}{more} exists already; --overwrite replaces it")


def _below_common(files: Sequence[Path]) -> list[tuple[str, ...]]:
    common = Path(os.path.commonpath([file.parent for file in files]))
    return [file.relative_to(common).parts for file in files]

"""Image files by path or folder, and the files that are made of them: their names and places."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vit_jax_xfer.data.sources.decode import readable_suffixes
from vit_jax_xfer.data.sources.visible_files import files_below
from vit_jax_xfer.terminal import show

# Photographs all the same, of phones and cameras, or of formats that Pillow may be built without.
_UNREAD = (
    ".heic", ".heif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2",
    ".psd", ".exr", ".svg", ".avif", ".jp2", ".webp",
)  # fmt: skip


def find_images(sources: Sequence[str | os.PathLike[str]], out: Path | None = None) -> list[Path]:
    """The files named, and the images in the folders named and below, each once.

    Those of a folder are sorted, of all suffixes that can be read; that photographs of other
    formats are there is said. Hidden ones are left out, and so is `out`, a place to write to, where
    it lies in a folder. ValueError where there are none, and where `out` is itself such a folder.
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


def _images_below(folder: Path, out: Path | None) -> list[Path]:
    own = None if out is None else out.resolve()
    if own == folder.resolve():
        raise ValueError(f"--out: {out} is the folder of the images; choose another")
    suffixes = (*readable_suffixes(), *_UNREAD)
    return [
        file
        for file in files_below(folder)
        if file.suffix.lower() in suffixes and own not in file.resolve().parents
    ]


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
    numbers = Counter(file.stem.lower() for file in files)  # some file systems take A for a
    below = _below_common([file.absolute() for file in files])
    names: dict[str, None] = {}
    for place, (file, parts) in enumerate(zip(files, below, strict=True), start=1):
        name = file.stem if numbers[file.stem.lower()] == 1 else "_".join(parts)
        while name in names:
            name += f"_{place}"
        names[name] = None
    return list(names)


def check_free(
    targets: Sequence[Path], flag: str, overwrite: bool, images: Sequence[Path] = ()
) -> None:
    """ValueError naming the flag for what is wrong with files to write, before any is.

    images: what is read, which is never written over. overwrite: other files that exist are.
    """
    if len(set(targets)) < len(targets):
        twice, _ = Counter(targets).most_common(1)[0]
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

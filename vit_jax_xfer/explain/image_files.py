"""Image files by path or folder, and what pictures of them are called."""

import os
from collections.abc import Sequence
from pathlib import Path

from vit_jax_xfer.data.sources.decode import readable_suffixes


def find_images(sources: Sequence[str | os.PathLike[str]], out: Path) -> list[Path]:
    """The files named, and the images in the folders named and below, each once.

    Those of a folder are sorted, of all suffixes that can be read. Names that begin with a dot are
    left out, and so is `out`, where it lies in a folder. ValueError where there are none, and where
    `out` is itself such a folder.
    """
    found: dict[Path, Path] = {}
    for source in map(Path, sources):
        if not source.exists():
            raise ValueError(f"{source}: no such file or folder")
        files = _images_below(source, out) if source.is_dir() else [source]
        if not files:
            known = ", ".join(readable_suffixes())
            raise ValueError(f"{source}: holds no image files ({known})")
        for file in files:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def _images_below(folder: Path, out: Path) -> list[Path]:
    if out.resolve() == folder.resolve():
        raise ValueError(f"--out: {out} is the folder of the images; choose another")
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in readable_suffixes()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and out.resolve() not in file.resolve().parents
        and file.is_file()
    )


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


def _below_common(files: Sequence[Path]) -> list[tuple[str, ...]]:
    common = Path(os.path.commonpath([file.parent for file in files]))
    return [file.relative_to(common).parts for file in files]

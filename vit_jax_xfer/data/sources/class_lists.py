"""Lists of class names: built in, in a file, or written out with commas."""

import pathlib

from vit_jax_xfer.data.sources.named_files import read_text

# Text files, one class name a line; `LIST/PART.txt` in there is the list "LIST/PART".
# imagenet100: FilterViT's five subsets of ImageNet (arXiv 2410.22709), as wnids. The fifth is the
# ImageNet-100 of CMC (arXiv 1906.05849).
BUILT_IN = pathlib.Path(__file__).parent.parent / "class_lists"


def built_in_lists() -> tuple[str, ...]:
    """The names of the built-in lists: "imagenet100/1" …"""
    return tuple(f"{path.parent.name}/{path.stem}" for path in sorted(BUILT_IN.glob("*/*.txt")))


def read_classes(classes: str) -> tuple[str, ...]:
    """The class names that `classes` stands for, sorted.

    With a comma in it: the names themselves, "cat,dog". Else a built-in list, or a path of a UTF-8
    text file with a name a line, which is the place for names that hold commas. Space around names
    and empty lines don't count. Raises ValueError for fewer than two names, a name that is there
    twice, and where there is no such file.
    """
    if "," in classes:
        names = [name.strip() for name in classes.split(",")]
    else:
        lines = _read(classes).splitlines()
        names = [line.strip() for line in lines if line.strip()]
    if len(names) < 2:
        raise ValueError(f"classes: got {len(names)} in {classes!r}, expected two or more")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"classes: {twice!r} is there twice in {classes!r}")
    return tuple(sorted(names))


def _read(classes: str) -> str:
    built_in = classes in built_in_lists()
    path = BUILT_IN / f"{classes}.txt" if built_in else pathlib.Path(classes).expanduser()
    try:
        return read_text(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(
            f"classes: got {classes!r}, expected one of {', '.join(built_in_lists())}, a text file "
            f"with a class name a line ({reason}), or two or more names with commas between"
        ) from error

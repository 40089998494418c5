"""A corrupted set from images of yours: python -m vit_jax_xfer.suites.corrupt --data … --out …

Spoils every labelled image in five ways (noise, blur, fog, contrast, pixelate) at severities 1 to 3
and writes OUT/CORRUPTION/SEVERITY/CLASS/*.png, which the suite "corrupted" reads: OUT is to be
called corrupted, in the folder that is that command's --data. The same images and seed give the
same bytes. docs/suites.md has the definitions, which are this project's own.
"""

import argparse
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vit_jax_xfer.command_line.command_parser import add_image_size, command_parser
from vit_jax_xfer.command_line.flag_errors import from_zero, naming_flag, positive, run_command
from vit_jax_xfer.data.sources import Source, open_source
from vit_jax_xfer.data.transforms import parse
from vit_jax_xfer.local_paths import local_path
from vit_jax_xfer.suites.corruptions import OWN_CORRUPTIONS, corrupt_image
from vit_jax_xfer.terminal import show
from vit_jax_xfer.whole_files import naming_file, write_whole

_NOT_IN_NAMES = re.compile(r"[/\\\0]|^\.")  # of folders


def write_corrupted(
    source: Source,
    out: Path,
    *,
    plain: Path | None = None,
    size: int = 0,
    seed: int = 0,
    report: Callable[[int], None] = lambda done: None,
) -> int:
    """Writes all corruptions of a source's images; returns how many files these are.

    The folders appear when they are complete. plain: a folder for the images as they are, in
    CLASS/*.png, too. size: images are first resized and cropped to so many pixels a side; 0 = as
    they are. report: called with how many images are done. ValueError for a folder that exists, for
    images without a label, and for classes that can't be folders.
    """
    _check(source, out, plain)
    prepare = parse(f"resize({size})|center_crop({size})").ops if size else ()
    rng = np.random.default_rng(0)  # what a pipeline asks for; these two draw nothing
    unfinished = {path: _unfinished(path) for path in (out, plain) if path}
    try:
        for index in range(len(source)):
            example = source[index]
            image = example["image"]
            for operation in prepare:
                image = operation(image, rng)
            image = np.asarray(image)
            inside = f"{source.class_names[example['label']]}/{index:05d}.png"
            if plain is not None:
                _save(unfinished[plain] / inside, image)
            for corruption, severity in sets():
                spoilt = corrupt_image(image, corruption, severity, seed)
                _save(unfinished[out] / corruption / str(severity) / inside, spoilt)
            report(index + 1)
        about = {"source": source.name, "images": len(source), "size": size, "seed": seed}
        strengths = {name: one.strengths for name, one in OWN_CORRUPTIONS.items()}
        text = json.dumps({**about, "strengths": strengths}, indent=2) + "\n"
        write_whole(unfinished[out] / "corruptions.json", text)
        for path, folder in unfinished.items():
            folder.rename(path)
    finally:
        for folder in unfinished.values():
            shutil.rmtree(folder, ignore_errors=True)
    return len(sets()) * len(source)


def sets() -> list[tuple[str, int]]:
    """Every corruption at each of its severities."""
    return [
        (name, severity)
        for name, one in OWN_CORRUPTIONS.items()
        for severity in range(1, len(one.strengths) + 1)
    ]


def _check(source: Source, out: Path, plain: Path | None) -> None:
    for field, folder in {"out": out, "plain": plain}.items():
        if folder is not None and folder.exists():
            raise ValueError(f"{field}: {folder} exists already; remove it or name another")
    if plain is not None and (plain.is_relative_to(out) or out.is_relative_to(plain)):
        raise ValueError(f"plain: {plain} is out, or one lies in the other; name another")
    if not len(source) or source.labels().min() < 0:
        raise ValueError(f"data: {source.name} has images without a class; each must have one")
    wrong = [name for name in source.class_names if not name or _NOT_IN_NAMES.search(name)]
    if wrong:
        raise ValueError(f"data: class {wrong[0]!r} of {source.name} can't be a folder's name")


def _unfinished(path: Path) -> Path:
    """Where a folder is written until it is complete: this process's own, and empty.

    What a killed one left there would be taken for images of the set.
    """
    folder = path.with_name(f".{path.name}.{os.getpid()}.partial")
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _save(path: Path, image: np.ndarray) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    with naming_file(path):
        Image.fromarray(image).save(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the set; 0, or 1 with one line on stderr for what is wrong."""
    options = _parser().parse_args(arguments)
    return run_command(lambda: _write(options))


def _write(options: argparse.Namespace) -> None:
    from vit_jax_xfer.explain.progress import Progress

    out = local_path(options.out, "--out")
    plain = local_path(options.plain, "--plain") if options.plain else None
    with naming_flag("--data", options):
        source = open_source(
            options.data,
            options.split,
            per_class=options.per_class or None,
            subset_seed=options.seed,
        )
        with Progress(len(source)) as progress:
            number = write_corrupted(
                source,
                out,
                plain=plain,
                size=options.size,
                seed=options.seed,
                report=progress.report,
            )
    show(f"{out}: {number:,} images, {len(sets())} of each of {len(source):,}")


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "vit_jax_xfer.suites.corrupt",
        __doc__,
        "--data folder:birds --out shift/corrupted",
    )
    add = parser.add_argument
    add("--data", required=True, metavar="SOURCE",
        help="folder:PATH, npz:FILE, tfds:NAME or digits, with labels")  # fmt: skip
    add("--split", default="test", metavar="SPLIT", help="as test or test[:500] (default test)")
    add("--per-class", type=positive, default=0, metavar="N",
        help="so many images of each class, drawn by --seed (default all)")  # fmt: skip
    add_image_size(parser, type=positive, default=0, metavar="PIXELS",
        help="resize and crop images to this square first, as photographs of many sizes should be: "
        "noise on large ones is lost when they are shrunk (default: as they are)")  # fmt: skip
    add("--out", required=True, metavar="FOLDER", help="must not exist")
    add("--plain", metavar="FOLDER",
        help="write the images as they are there too, as CLASS/*.png")  # fmt: skip
    add("--seed", type=from_zero, default=0, metavar="N", help="of all that is drawn (default 0)")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Masks you can see: python -m vit_jax_xfer.explain.filter_masks IMAGES --model MODEL --out DIR

Shows what a FilterViT or DropoutViT keeps. For each image DIR gets a sheet: the image as the
network saw it, and for each filter stage the kept pixels of its map over the darkened image and,
where pixels are scored, their importance as heat. Each cell is drawn where the network's
convolutions look for it, so strips at the border that no cell covers stay dark.

IMAGES are files and folders. Files that can't be read are left out, named at the end, and make
the exit code 1.
"""

import argparse
import itertools
import math
import pathlib
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from vit_jax_xfer.flag_errors import naming_flag, positive, run_command
from vit_jax_xfer.local_paths import local_path
from vit_jax_xfer.terminal import show

_PIXELS = 8 * 224**2  # in one batch, unless --batch-size says otherwise


def main(arguments: Sequence[str] | None = None) -> int:
    """Draws; 0 when all images are drawn, 1 with one line on stderr for what is wrong."""
    options = _parser().parse_args(arguments)
    broken: list[str] = []
    code = run_command(lambda: broken.extend(draw_all(options)))
    for line in broken:
        show(f"error: {line}", name="stderr")
    return 1 if broken else code


def draw_all(options: argparse.Namespace) -> list[str]:
    """Writes the pictures of all images; returns a line for each that can't be read."""
    from vit_jax_xfer.explain.image_files import find_images, picture_names
    from vit_jax_xfer.explain.progress import Progress

    out = local_path(options.out, "--out")
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out: {out} is a file; choose a folder")
    files = find_images(options.images, out)
    masks, sheets = _load(options)
    paths = [out / name for name in picture_names(files)]
    _check_free([file for path in paths for file in sheets.files(path)], files, options.overwrite)
    out.mkdir(parents=True, exist_ok=True)
    size = options.batch_size or _PIXELS // math.prod(sheets.preprocessing.height_width)
    size = max(1, min(size, len(files)))
    broken: list[str] = []
    drawn = 0
    with Progress(len(files)) as progress:
        for batch in _batches(_readable(files, paths, sheets.preprocessing, broken), size):
            for (path, seen), chosen in zip(batch, _chosen(masks, batch, size), strict=True):
                sheets.write(path, seen, chosen)
                drawn += 1
                progress.report(drawn + len(broken))
    show(f"wrote {drawn} {'sheet' if drawn == 1 else 'sheets'} to {out}")
    return broken


def _load(options: argparse.Namespace) -> tuple[Any, Any]:
    """The network's masks, and the pictures that will be made of them."""
    from vit_jax_xfer.explain.cells import stage_cells
    from vit_jax_xfer.explain.kept_tokens import KeptTokens
    from vit_jax_xfer.explain.mask_sheets import MaskSheets
    from vit_jax_xfer.explain.network_view import preparation
    from vit_jax_xfer.pretrained.file_to_model import load_pretrained

    with naming_flag("--model", options):
        model, variables = load_pretrained(options.model)
    with naming_flag(f"--model {options.model}", options):
        masks = KeptTokens(model, variables, options.seed)
    preprocessing = preparation(model, options.image_size, options.whole)
    if model.preprocessing is None:
        show(f"{options.model} does not say how images are prepared: mean 0.5, std 0.5 assumed")
    with naming_flag("--image-size", options):
        stages = stage_cells(model, preprocessing.height_width)
    low, high = options.range or (None, None)
    return masks, MaskSheets(
        stages=stages,
        scored=model.choose == "score",
        preprocessing=preprocessing,
        title=options.model + ("" if options.seed is None else f", seed {options.seed}"),
        tile=options.tile,
        overlays=options.overlays,
        arrays=options.arrays,
        low=low,
        high=high,
    )


def _check_free(
    targets: Sequence[pathlib.Path], images: Sequence[pathlib.Path], overwrite: bool
) -> None:
    """Everything that can be known to be wrong with the files to write, before any is."""
    if len(set(targets)) < len(targets):
        twice = next(file for file in targets if targets.count(file) > 1)
        raise ValueError(f"--out: {twice} would be two pictures; draw the images in two calls")
    read = {file.resolve() for file in images}
    for file in targets:
        if file.resolve() in read:
            raise ValueError(f"--out: {file} is one of the images; choose another folder")
    there = [file for file in targets if file.exists()]
    if there and not overwrite:
        more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
        raise ValueError(f"--out: {there[0]}{more} exists already; --overwrite replaces it")


def _readable(
    files: Sequence[pathlib.Path],
    paths: Sequence[pathlib.Path],
    preprocessing: Any,
    broken: list[str],
) -> Iterator[tuple[pathlib.Path, Any]]:
    """Path and `Seen` of each image that can be read; the errors of the others go to `broken`."""
    from vit_jax_xfer.data.prepare import preprocess
    from vit_jax_xfer.data.sources.decode import decode_image
    from vit_jax_xfer.explain.mask_sheets import Seen

    for file, path in zip(files, paths, strict=True):
        try:
            photo = decode_image(file, str(file))
        except ValueError as error:
            broken.append(str(error))
            continue
        yield path, Seen(file, photo, preprocess(preprocessing, photo)[0])


def _batches(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while batch := list(itertools.islice(items, size)):
        yield batch


def _chosen(masks: Any, batch: Sequence[Any], size: int) -> Any:
    """The choices on each image of a batch, which is filled up so that one compilation serves."""
    import numpy as np

    images = np.stack([seen.prepared for _, seen in batch])
    filled = np.pad(images, ((0, size - len(batch)), (0, 0), (0, 0), (0, 0)))
    return masks(filled)[: len(batch)]


def _size(text: str) -> int | tuple[int, int]:
    if not re.fullmatch(r"0*[1-9]\d*(,0*[1-9]\d*)?", text):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected pixels, N or H,W, as 320,200")
    sides = [int(side) for side in text.split(",")]
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def _range(text: str) -> tuple[float, float]:
    try:
        low, high = (float(end) for end in text.split(","))
    except ValueError:
        low, high = 1.0, 0.0
    if not low < high:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected LOW,HIGH, as 0.46,1")
    return low, high


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vit_jax_xfer.explain.filter_masks",
        description=__doc__.split("\n\n", 1)[1],
        epilog="Example: python -m vit_jax_xfer.explain.filter_masks photos --model runs/xs/model "
        "--out masks --overlays",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGES", help="files, and folders, with all that is below")
    add(
        "--model",
        required=True,
        help="a run's model folder, a converted file, or the authors' .pth",
    )
    add("--out", required=True, metavar="DIR", help="the folder of the pictures")
    add(
        "--image-size",
        type=_size,
        metavar="N or H,W",
        help="the network's input, of any size and shape (default: the model's own)",
    )
    add(
        "--whole",
        action="store_true",
        help="resize all of an image to the network's input, without the centre crop of its "
        "evaluation",
    )
    add(
        "--seed",
        type=int,
        metavar="N",
        help="of a DropoutViT's random tokens (default: its evaluation's)",
    )
    add(
        "--range",
        type=_range,
        metavar="LOW,HIGH",
        help="importance that is drawn darkest and lightest in all images and stages, as 0.46,1 "
        "(default: each stage's least and greatest)",
    )
    add(
        "--overlays",
        action="store_true",
        help="write NAME_stageN_kept.png and NAME_stageN_importance.png too, in the image's size",
    )
    add(
        "--arrays",
        action="store_true",
        help="write NAME.npz too: kept indices, importance, and the position of each cell",
    )
    add("--tile", type=positive, metavar="PIXELS", help="longer side of each picture on the sheet")
    add(
        "--batch-size", type=positive, metavar="N", help="images in a batch; fewer take less memory"
    )
    add("--overwrite", action="store_true", help="replace pictures that exist")
    return parser


if __name__ == "__main__":
    sys.exit(main())

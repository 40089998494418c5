"""Masks you can see: python -m vit_jax_xfer.explain.filter_masks IMAGES --model MODEL --out DIR

Shows what a FilterViT or DropoutViT keeps. For each image DIR gets a sheet: the image as the
network saw it, and for each filter stage the kept pixels of its map over the darkened image and,
where pixels are scored, their importance as heat. Cells are drawn where the network's
convolutions look, so strips at the border, which no cell stands for, stay dark.

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

_PIXELS = 8 * 224**2  # in one batch, unless --batch-size says otherwise


def main(arguments: Sequence[str] | None = None) -> int:
    """Draws; 0 when all images are drawn, 1 with one line on stderr for what is wrong."""
    parsed = _parser().parse_args(arguments)
    # Imported late, so that --help answers at once.
    from vit_jax_xfer.storage.checkpoints import CheckpointError

    try:
        broken = draw_all(parsed)
    except (ValueError, OSError, ImportError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for line in broken:
        print(f"error: {line}", file=sys.stderr)
    return 1 if broken else 0


def draw_all(options: argparse.Namespace) -> list[str]:
    """Writes the pictures of all images; returns a line for each that can't be read."""
    from vit_jax_xfer.explain.image_files import find_images, picture_names
    from vit_jax_xfer.explain.progress import Progress

    out = pathlib.Path(options.out)
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
    print(f"wrote {drawn} {'sheet' if drawn == 1 else 'sheets'} to {out}")
    return broken


def _load(options: argparse.Namespace) -> tuple[Any, Any]:
    """The network's masks, and the pictures that will be made of them."""
    from vit_jax_xfer.explain.cells import stage_cells
    from vit_jax_xfer.explain.kept_tokens import KeptTokens
    from vit_jax_xfer.explain.mask_sheets import MaskSheets
    from vit_jax_xfer.explain.network_view import preparation
    from vit_jax_xfer.pretrained.file_to_model import load_pretrained

    model, variables = load_pretrained(options.model)
    try:
        masks = KeptTokens(model, variables, options.seed)
    except ValueError as error:
        raise ValueError(f"{options.model}: {error}") from error
    preprocessing = preparation(model, options.image_size, options.whole)
    if model.preprocessing is None:
        print(f"{options.model} does not say how images are prepared: mean 0.5, std 0.5 assumed")
    low, high = options.range or (None, None)
    return masks, MaskSheets(
        stages=stage_cells(model, preprocessing.height_width),
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
        raise ValueError(f"{there[0]}{more}: exists already; --overwrite replaces it")


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


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number of 1 or more")
    return int(text)


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
    add("--model", required=True, help="a run's model folder, a converted file, an author's .pth")
    add("--out", required=True, metavar="DIR", help="the folder of the pictures")
    add(
        "--image-size",
        type=_size,
        metavar="N or H,W",
        help="what the network is run at, of any size and shape; the network's own if absent",
    )
    add(
        "--whole",
        action="store_true",
        help="show all of an image, resized to the size, not the centre crop that the network is "
        "evaluated on",
    )
    add("--seed", type=int, metavar="N", help="another draw of a DropoutViT than its evaluation's")
    add(
        "--range",
        type=_range,
        metavar="LOW,HIGH",
        help="the importance that is darkest and lightest, the same for all images and stages (as "
        "0.46,1); each stage's own if absent",
    )
    add(
        "--overlays",
        action="store_true",
        help="write NAME_stageN_kept.png and _importance.png too, in the size of the image itself",
    )
    add(
        "--arrays",
        action="store_true",
        help="write NAME.npz too: kept indices, importance, and where each cell lies",
    )
    add("--tile", type=_positive, metavar="PIXELS", help="of a picture's longer side on the sheet")
    add("--batch-size", type=_positive, metavar="N", help="images at once; fewer take less memory")
    add("--overwrite", action="store_true", help="replace pictures that exist")
    return parser


if __name__ == "__main__":
    sys.exit(main())

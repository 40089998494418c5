"""Masks you can see: python -m vit_jax_xfer.explain.filter_masks IMAGES --model MODEL --out DIR

Shows what a FilterViT or DropoutViT keeps. For each image DIR gets a sheet: the image as the
network saw it, and for each filter stage the kept pixels of its map over the darkened image and,
where pixels are scored, their importance as heat. Each cell is drawn where the network's
convolutions look for it, so strips at the border that no cell covers stay dark.

IMAGES are files and folders; photographs are turned as their EXIF orientation says. Files that
can't be read are left out, named at the end, and make the exit code 1.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from typing import Any

from vit_jax_xfer.command_line.command_parser import command_parser
from vit_jax_xfer.command_line.flag_errors import from_zero, naming_flag, positive, run_on_files
from vit_jax_xfer.command_line.out_places import out_folder
from vit_jax_xfer.explain.seen_photos import (
    add_model_flags,
    add_photo_flags,
    batches,
    filled,
    load_model,
    readable,
    require_numbers,
    view_of_flags,
)
from vit_jax_xfer.terminal import show

_PIXELS = 8 * 224**2  # in one batch, unless --batch-size says otherwise


def main(arguments: Sequence[str] | None = None) -> int:
    """Draws; 0 when all images are drawn, 1 with one line on stderr for what is wrong."""
    options = _parser().parse_args(arguments)
    return run_on_files(lambda broken: _draw_all(options, broken))


def _draw_all(options: argparse.Namespace, broken: list[str]) -> None:
    """Writes the pictures of all images; a line for each that can't be read goes to `broken`."""
    from vit_jax_xfer.explain.image_files import check_free, find_images, picture_names
    from vit_jax_xfer.explain.progress import Progress
    from vit_jax_xfer.features.cost_estimate import say_network_cost

    out = out_folder(options.out, "--out")
    files = find_images(options.images, out)
    masks, sheets = _load(options)
    paths = [out / name for name in picture_names(files)]
    check_free(
        [file for path in paths for file in sheets.files(path)], "--out", options.overwrite, files
    )
    out.mkdir(parents=True, exist_ok=True)
    size = options.batch_size or _PIXELS // math.prod(sheets.preprocessing.height_width)
    size = max(1, min(size, len(files)))
    say_network_cost(masks.model, len(files), sheets.preprocessing.height_width)
    drawn = 0
    with Progress(len(files)) as progress:
        for batch in batches(readable(files, paths, sheets.preprocessing, broken), size):
            for (path, seen), chosen in zip(batch, masks(filled(batch, size)), strict=False):
                require_numbers(seen.file, "importance", [one.importance for one in chosen])
                sheets.write(path, seen, chosen)
                drawn += 1
                progress.report(drawn + len(broken))
    show(f"wrote {drawn} {'sheet' if drawn == 1 else 'sheets'} to {out}")


def _load(options: argparse.Namespace) -> tuple[Any, Any]:
    """The network's masks, and the pictures that will be made of them."""
    from vit_jax_xfer.explain.cells import stage_cells
    from vit_jax_xfer.explain.kept_tokens import KeptTokens
    from vit_jax_xfer.explain.mask_sheets import MaskSheets

    model, variables = load_model(options)
    with naming_flag(f"--model {options.model}", options):
        masks = KeptTokens(model, variables, options.seed)
    preprocessing = view_of_flags(model, options)
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


def _range(text: str) -> tuple[float, float]:
    try:
        low, high = (float(end) for end in text.split(","))
    except ValueError:
        low, high = 1.0, 0.0
    if not low < high:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected LOW,HIGH, as 0.46,1")
    return low, high


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "vit_jax_xfer.explain.filter_masks",
        __doc__,
        "photos --model runs/xs/model --out masks --overlays",
    )
    add_model_flags(parser)
    add_photo_flags(parser)
    add = parser.add_argument
    add(
        "--seed",
        type=from_zero,
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
    return parser


if __name__ == "__main__":
    sys.exit(main())

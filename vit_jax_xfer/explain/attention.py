"""What it attends to: python -m vit_jax_xfer.explain.attention IMAGES --model MODEL --out DIR

For each image DIR gets a sheet, NAME.png: a row a block, with the mean over all heads and each
head. The class token looks, or, in a network that has none, the mean over patches; --at X,Y lets
the patch under that pixel of the photograph look. What goes to the class token and to registers is
on no patch: it stands in numbers below each picture, and what registers look at has columns of its
own. A row has one scale, from 0 to the share that one patch in 200 exceeds (+). NAME.npz has the
raw numbers. Of a FilterViT or DropoutViT the filter stages are shown: the mean over kept patches
looks, and dropped ones are grey.

IMAGES are files and folders; photographs are turned as their EXIF orientation says. Files that
can't be read are left out, named at the end, and make the exit code 1.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from vit_jax_xfer.command_line.command_parser import command_parser
from vit_jax_xfer.command_line.flag_errors import naming_flag, run_on_files
from vit_jax_xfer.command_line.out_places import out_folder
from vit_jax_xfer.explain.seen_photos import (
    Seen,
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
from vit_jax_xfer.whole_files import write_npz

_BYTES = 2**29  # of attention maps in one batch, unless --batch-size says otherwise


def main(arguments: Sequence[str] | None = None) -> int:
    """Draws; 0 when all images are drawn, 1 with one line on stderr for what is wrong."""
    options = _parser().parse_args(arguments)
    return run_on_files(lambda broken: _draw_all(options, broken))


def _draw_all(options: argparse.Namespace, broken: list[str]) -> None:
    from vit_jax_xfer.explain.attention_views import AttentionViews
    from vit_jax_xfer.explain.image_files import check_free, find_images, picture_names
    from vit_jax_xfer.explain.progress import Progress
    from vit_jax_xfer.features.cost_estimate import say_network_cost

    out = out_folder(options.out, "--out")
    files = find_images(options.images, out)
    paths = [out / name for name in picture_names(files)]
    model, variables = load_model(options)
    with naming_flag(f"--model {options.model}", options):
        views = AttentionViews(model, variables, options.layers)
        heads = _heads(options.heads, views.heads)
    preprocessing = view_of_flags(model, options)
    with naming_flag("--image-size", options):
        cells = views.cells(preprocessing.height_width)
    targets = [file for path in paths for file in _targets(path, views.names, options.overlays)]
    check_free(targets, "--out", options.overwrite, files)
    size = max(1, min(options.batch_size or _batch(views, cells), len(files)))
    out.mkdir(parents=True, exist_ok=True)
    say_network_cost(model.encoder, len(files), preprocessing.height_width)
    drawn = 0
    with Progress(len(files)) as progress:
        photos = readable(files, paths, preprocessing, broken)
        for batch in batches(_with_points(photos, options.at, preprocessing, broken), size):
            images = filled([(path, seen) for path, seen, _ in batch], size)
            points = [point for _, _, point in batch] + [(0.0, 0.0)] * (size - len(batch))
            found = views(images, None if options.at is None else points)
            for (path, seen, point), blocks in zip(batch, found, strict=False):
                query = (
                    views.query
                    if options.at is None
                    else "the patch at {:g},{:g}".format(*options.at)
                )
                looks = [x for one in blocks for x in (one.maps, one.prefix, one.registers)]
                require_numbers(seen.file, "attention", looks)
                heading = f"{seen.file.name}    {options.model}    {query} looks"
                _write(path, seen, blocks, point, heads, views.prefix_names, preprocessing,
                       heading, options)  # fmt: skip
                drawn += 1
                progress.report(drawn + len(broken))
    show(f"wrote {drawn} {'sheet' if drawn == 1 else 'sheets'} to {out}")


def _with_points(
    photos: Any, at: tuple[float, float] | None, preprocessing: Any, broken: list[str]
) -> Any:
    """Path, `Seen` and the point in the network's image; of photos that it isn't in, an error."""
    from vit_jax_xfer.explain.attention_views import seen_point
    from vit_jax_xfer.explain.network_view import seen_box

    for path, seen in photos:
        point, size = None, seen.photo.shape[:2]
        try:
            if at is not None:
                box = seen_box(preprocessing, size)
                point = seen_point(at, size, box, seen.prepared.shape[:2])
        except ValueError as error:
            broken.append(f"--{error}: {seen.file}")
            continue
        yield path, seen, point


def _write(
    path: pathlib.Path,
    seen: Seen,
    blocks: Any,
    point: tuple[float, float] | None,
    heads: Sequence[int],
    prefix_names: Sequence[str],
    preprocessing: Any,
    heading: str,
    options: argparse.Namespace,
) -> None:
    """All files of one photograph."""
    import numpy as np

    from vit_jax_xfer.explain.attention_sheets import (
        write_attention_overlay,
        write_attention_sheet,
    )
    from vit_jax_xfer.explain.network_view import seen_box
    from vit_jax_xfer.explain.overlay import mark_point
    from vit_jax_xfer.explain.pictures import to_pixels

    box = seen_box(preprocessing, seen.photo.shape[:2])
    picture = to_pixels(seen.prepared, preprocessing.mean, preprocessing.std)
    if point is not None:
        picture = mark_point(picture, *point)
    names = [block.name for block in blocks]
    target, *overlays, arrays = _targets(path, names, options.overlays)
    write_attention_sheet(target, picture, blocks, heads, prefix_names, heading)
    for overlay, block in zip(overlays, blocks, strict=False):
        write_attention_overlay(overlay, seen.photo, block, box)
    numbers = {"box": np.array(box), "image": picture}
    for block in blocks:
        for what in ("maps", "prefix", "registers", "kept"):
            if getattr(block, what) is not None:
                numbers[f"{_file_name(block.name)}_{what}"] = getattr(block, what)
    write_npz(arrays, numbers, compressed=True)


def _targets(path: pathlib.Path, names: Sequence[str], overlays: bool) -> list[pathlib.Path]:
    """All that is written for an image: the sheet, overlays, the arrays."""
    more = [f"_{_file_name(name)}.png" for name in names] if overlays else []
    return [path.with_name(path.name + ending) for ending in (".png", *more, ".npz")]


def _file_name(block: str) -> str:
    return block.replace(" ", "")


def _batch(views: Any, cells: Sequence[Any]) -> int:
    """How many images' maps have room in _BYTES."""
    tokens = [one.shape[0] * one.shape[1] + len(views.prefix_names) for one in cells]
    return max(1, _BYTES // (4 * views.heads * sum(number**2 for number in tokens)))


def _heads(asked: Sequence[int] | None, number: int) -> list[int]:
    if asked is None:
        return list(range(number))
    heads = [head % number for head in asked if -number <= head < number]
    if len(set(heads)) < len(asked):
        raise ValueError(f"heads: {','.join(map(str, asked))} are not different heads of {number}")
    return heads


def _whole_numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected numbers, as 0,5") from None


def _point(text: str) -> tuple[float, float]:
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected X,Y, as 320,200") from None
    return x, y


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "vit_jax_xfer.explain.attention",
        __doc__,
        "photo.jpg --model hf:facebook/dinov2-small --at 320,200 --out attention",
    )
    add_model_flags(parser)
    add_photo_flags(parser, out="attention")
    add = parser.add_argument
    add(
        "--layers",
        type=_whole_numbers,
        metavar="N,…",
        help="which blocks, from 0; negative ones count from the end, --layers=-1 (default all)",
    )
    add("--heads", type=_whole_numbers, metavar="N,…", help="which heads, from 0 (default all)")
    add(
        "--at",
        type=_point,
        metavar="X,Y",
        help="the patch under this pixel of the photograph looks, in place of the class token",
    )
    add(
        "--overlays",
        action="store_true",
        help="write NAME_blockN.png too: the mean over heads over the photograph, in its size",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

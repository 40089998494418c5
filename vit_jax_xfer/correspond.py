"""What goes with what on two photographs: python -m vit_jax_xfer.correspond A B --model … --out …

Finds cells of both photographs that are each other's nearest by features ("best buddies"), keeps
--points of them that lie well apart, and writes a picture of both with a line for each; with --csv
also where they lie: x_a, y_a, x_b, y_b in each photograph's pixels and the cosine. --foreground
leaves out the background of both, what is below a share of their features' first component.
Photographs are turned as their EXIF orientation says and squashed to the network's own square, or
to --image-size; --longest keeps their aspect ratio.
"""

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vit_jax_xfer.command_line.command_parser import command_parser
from vit_jax_xfer.command_line.flag_errors import positive, run_command, share_below_one
from vit_jax_xfer.command_line.out_places import out_file, require_different
from vit_jax_xfer.features.command import (
    add_backbone_flags,
    add_extractor_flags,
    extractor_from,
)
from vit_jax_xfer.terminal import show
from vit_jax_xfer.whole_files import write_whole

_TILE = 480  # pixels of a photograph's height on the picture


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the picture; 0, or 1 with one line on stderr for what is wrong."""
    options = _parser().parse_args(arguments)
    return run_command(lambda: _correspond(options))


def _correspond(options: argparse.Namespace) -> None:
    # Imported late, so that --help answers at once.
    from vit_jax_xfer.data.sources.upright_photo import read_photograph
    from vit_jax_xfer.evaluate.correspondence.best_buddies import best_buddies, spread_out
    from vit_jax_xfer.explain.feature_pictures import foreground_of
    from vit_jax_xfer.explain.image_files import check_free
    from vit_jax_xfer.features.network_input import features_on

    out = out_file(options.out, "--out")
    if out.suffix.lower() != ".png":
        raise ValueError(f"--out: {out} doesn't end in .png, which it will be")
    table = out_file(options.csv, "--csv") if options.csv else None
    require_different({"--out": out, "--csv": table})
    files = [Path(options.a), Path(options.b)]
    for path, flag in ((out, "--out"), (table, "--csv")):
        if path is not None:
            check_free([path], flag, options.overwrite, files)
    photos = [read_photograph(file) for file in files]
    extractor, sizing = extractor_from(options)
    maps, places = zip(
        *(features_on(extractor, sizing, *one) for one in zip(photos, files, strict=True)),
        strict=True,
    )
    masks: list[Any] = [None, None]
    if options.foreground is not None:
        front = foreground_of(maps, options.foreground)
        masks = [front.mask(features) for features in maps]
    found = best_buddies(*maps, *masks)
    grids = maps[0].shape[:2], maps[1].shape[:2]
    kept = spread_out(found, grids, options.points)
    points = [
        where.middles(cells, photo.shape[:2])
        for where, cells, photo in zip(places, kept[:2], photos, strict=True)
    ]
    draw_matches(out, photos, points)
    if table is not None:
        write_whole(table, as_csv(*points, kept.cosine))
    show(f"wrote {len(kept.cosine)} of {len(found.cosine)} best buddies to {out}")


def as_csv(here: Any, there: Any, cosine: Any) -> str:
    """A line for each pair of points (N, 2), x and y: x_a, y_a, x_b, y_b, cosine."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["x_a", "y_a", "x_b", "y_b", "cosine"])
    for a, b, alike in zip(here, there, cosine, strict=True):
        writer.writerow([*(round(float(x), 2) for x in (*a, *b)), round(float(alike), 4)])
    return text.getvalue()


def draw_matches(path: Path, photos: Sequence[Any], points: Sequence[Any]) -> None:
    """Two photographs (H, W, 3) uint8 side by side, and lines between points (N, 2) of both.

    points: x and y in each photograph's pixels.
    """
    from PIL import Image, ImageDraw

    from vit_jax_xfer.explain.colour_scales import class_colours
    from vit_jax_xfer.explain.pictures import write_png

    scales = [_TILE / photo.shape[0] for photo in photos]
    sizes = [
        (max(1, round(photo.shape[1] * scale)), _TILE)
        for photo, scale in zip(photos, scales, strict=True)
    ]
    lefts = [0, sizes[0][0] + 8]
    canvas = Image.new("RGB", (lefts[1] + sizes[1][0], _TILE), "white")
    for photo, size, left in zip(photos, sizes, lefts, strict=True):
        canvas.paste(Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS), (left, 0))
    draw = ImageDraw.Draw(canvas)
    # The first colour is that of a background.
    colours = class_colours(len(points[0]) + 1)[1:]
    for a, b, colour in zip(*points, colours.tolist(), strict=True):
        ends = [
            (left + x * scale, y * scale)
            for (x, y), scale, left in zip((a, b), scales, lefts, strict=True)
        ]
        draw.line([*ends[0], *ends[1]], fill=tuple(colour), width=2)
        for x, y in ends:
            draw.ellipse((x - 5, y - 5, x + 5, y + 5), fill=tuple(colour), outline="white")
    write_png(canvas, path)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "vit_jax_xfer.correspond",
        __doc__,
        "cat.jpg lynx.jpg --model runs/mae/model --out matches.png",
    )
    add = parser.add_argument
    add("a", metavar="A", help="a photograph")
    add("b", metavar="B", help="and another")
    add_backbone_flags(parser)
    add_extractor_flags(parser)
    add("--points", type=positive, default=12, metavar="N",
        help="pairs that are kept at most (default 12)")  # fmt: skip
    add("--foreground", type=share_below_one, metavar="SHARE",
        help="only cells above SHARE of the first component's range in both, as 0.5")  # fmt: skip
    add("--out", required=True, metavar="FILE.png", help="the picture")
    add("--csv", metavar="FILE.csv", help="write where the points lie, too")
    add("--overwrite", action="store_true", help="replace files that exist")
    return parser


if __name__ == "__main__":
    sys.exit(main())

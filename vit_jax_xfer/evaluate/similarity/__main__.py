"""What features look like: python -m vit_jax_xfer.evaluate.similarity IMAGE… --model … --out DIR

For each image a sheet, DIR/NAME.png, with a column for each feature extractor. Above, how much each
cell resembles the one in the middle, or at --point: the cosine, from its least (dark) to its
greatest. Below, the first three principal components of features as colours, which mean the same
in all columns. Images are squashed to --image-size for the network.

Photographs are turned as their EXIF orientation says.

IMAGE are files and folders. Files that can't be read, and images whose features are NaN or
infinite, are left out, named, and make the exit code 1.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vit_jax_xfer.command_line.flag_errors import run_on_files
from vit_jax_xfer.command_line.out_places import out_folder
from vit_jax_xfer.features.command import comparison_parser, extractors_from, input_side
from vit_jax_xfer.terminal import show


def main(arguments: Sequence[str] | None = None) -> int:
    """Draws; 0 when all images are drawn, 1 with a line for what is wrong."""
    options = _parser().parse_args(arguments)
    return run_on_files(lambda broken: _draw_all(options, broken))


def _draw_all(options: argparse.Namespace, broken: list[str]) -> None:
    # Imported late, so that --help answers at once.
    from vit_jax_xfer.data.sources.upright_photo import read_photograph
    from vit_jax_xfer.evaluate.compare import check_input_size
    from vit_jax_xfer.explain.feature_sheets import write_feature_sheet
    from vit_jax_xfer.explain.image_files import check_free, find_images, picture_names
    from vit_jax_xfer.explain.progress import Progress
    from vit_jax_xfer.features.cost_estimate import say_cost

    if not options.out:
        raise ValueError("--out: give the folder of the pictures")
    out = out_folder(options.out, "--out")
    files = find_images(options.images, out)[: options.limit]
    paths = [out / f"{name}.png" for name in picture_names(files)]
    check_free(paths, "--out", options.overwrite, files)
    extractors = extractors_from(options)
    size = input_side(options, extractors)
    check_input_size(extractors, size)
    say_cost((one.name, len(files), one.multiply_adds(size)) for one in extractors)
    out.mkdir(parents=True, exist_ok=True)
    drawn = 0
    with Progress(len(files)) as progress:
        for number, (file, path) in enumerate(zip(files, paths, strict=True), start=1):
            try:
                photo = read_photograph(file)
                point = _share(options.point, photo.shape[:2], file)
                maps = [_map(extractor, photo, size, file) for extractor in extractors]
            except ValueError as error:
                broken.append(str(error))
                continue
            write_feature_sheet(path, photo, maps, point, file.name)
            drawn += 1
            progress.report(number)
    show(f"wrote {drawn} {'sheet' if drawn == 1 else 'sheets'} to {out}")


def _map(extractor: Any, photo: Any, size: int, file: Path) -> tuple[str, Any, Any]:
    """A map of the sheet: its title, features, and where their cells lie."""
    from vit_jax_xfer.evaluate.photographs import features_of, places_of, squashed

    side = extractor.side(size)
    (features,) = features_of(extractor, [squashed(photo, side)], [file], batch=1)
    return extractor.name, features, places_of(extractor, features.shape[:2], side)


def _share(
    point: tuple[float, float] | None, sides: tuple[int, int], file: Path
) -> tuple[float, float]:
    """A point in pixels of a photograph (height, width) as shares of its width and height."""
    if point is None:
        return 0.5, 0.5
    (x, y), (height, width) = point, sides
    if not (0 <= x < width and 0 <= y < height):
        raise ValueError(f"--point: ({x:g}, {y:g}) is outside {file}, {width} × {height} pixels")
    return x / width, y / height


def _point(text: str) -> tuple[float, float]:
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected pixels X,Y") from None
    return x, y


def _parser() -> argparse.ArgumentParser:
    parser = comparison_parser(
        "vit_jax_xfer.evaluate.similarity",
        __doc__.split("\n\n", 1)[1],
        "cat.jpg --model runs/mae/model --lift runs/lift/model --out pictures",
        out=("DIR", "the folder of the pictures"),
    )
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", help="files and folders, with all that is below")
    add("--point", type=_point, metavar="X,Y",
        help="the point that cells are compared with, in pixels of the images (default: the "
        "middle)")  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())

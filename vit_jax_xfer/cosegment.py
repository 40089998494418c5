"""What photographs have in common: python -m vit_jax_xfer.cosegment PHOTO… --model … --out DIR

PHOTO are files and folders, two images or more of one kind of thing. Their features are clustered
together, and what most of them show away from their borders is the object. Writes into DIR for each
NAME.png, the photograph with all else dark, and NAME_mask.png, 1 on the object and 0 elsewhere, in
the photograph's size. Photographs are turned as their EXIF orientation says and squashed to the
network's own square, or to --image-size; --longest keeps their aspect ratio. Files that can't be
read are left out, named, and make the exit code 1.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vit_jax_xfer.command_line.command_parser import command_parser
from vit_jax_xfer.command_line.flag_errors import positive, run_on_files, share
from vit_jax_xfer.command_line.out_places import out_folder
from vit_jax_xfer.features.command import add_backbone_flags, add_extractor_flags, extractor_from
from vit_jax_xfer.terminal import show

_MASK = "_mask.png"


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes masks and pictures; 0, or 1 with a line for each thing that is wrong."""
    options = _parser().parse_args(arguments)
    return run_on_files(lambda broken: _cosegment_all(options, broken))


def _cosegment_all(options: argparse.Namespace, broken: list[str]) -> None:
    # Imported late, so that --help answers at once.
    from vit_jax_xfer.data.sources.upright_photo import read_photograph
    from vit_jax_xfer.evaluate.objects.cosegmentation import MOST_CLUSTERS, cosegment
    from vit_jax_xfer.explain.image_files import check_free, find_images, picture_names
    from vit_jax_xfer.explain.progress import Progress
    from vit_jax_xfer.features.cost_estimate import say_cost
    from vit_jax_xfer.features.network_input import features_on

    folder = out_folder(options.out, "--out")
    _check_flags(options)
    files = find_images(options.photos, folder)
    if len(files) < 2:
        raise ValueError(f"PHOTO: got {len(files)}; what is common needs two or more")
    paths = [folder / f"{name}.png" for name in picture_names(files)]
    written = [*paths, *(path.with_name(f"{path.stem}{_MASK}") for path in paths)]
    check_free(written, "--out", options.overwrite, files)
    extractor, sizing = extractor_from(options)
    side = max(sizing.sides(1, 1))
    say_cost([(extractor.name, len(files), extractor.multiply_adds(side))])
    read: list[tuple[Path, Path, Any]] = []
    maps: list[Any] = []
    with Progress(len(files)) as progress:
        for done, (file, path) in enumerate(zip(files, paths, strict=True), start=1):
            try:
                photo = read_photograph(file)
                features, places = features_on(extractor, sizing, photo, file)
            except ValueError as error:
                broken.append(str(error))
                continue
            read.append((file, path, places))
            maps.append(features)
            progress.report(done)
    if len(maps) < 2:
        raise ValueError(f"PHOTO: {len(maps)} can be read; what is common needs two or more")
    # Fewer are tried where more bring nothing, so that the time left is the most it can be.
    with Progress(MOST_CLUSTERS, "clusters tried") as progress:
        found = cosegment(maps, options.clusters, options.votes, report=progress.report)
    folder.mkdir(parents=True, exist_ok=True)
    for (file, path, places), mask in zip(read, found.masks, strict=True):
        _write(path, read_photograph(file), mask, places)
    shared = f"{len(found.common)} of {found.number} clusters"
    show(f"wrote {len(read)} masks to {folder}: {shared} in common")


def _check_flags(options: argparse.Namespace) -> None:
    """ValueError for what nothing can be found by, before features are made."""
    if options.clusters == 1:
        raise ValueError("--clusters: got 1, expected 2 or more: the object and what is behind it")
    if not options.votes:
        raise ValueError("--votes: got 0, expected a share above 0")


def _write(path: Path, photo: Any, mask: Any, places: Any) -> None:
    """The photograph with all but the mask's cells dark, and the mask in its size."""
    from vit_jax_xfer.evaluate.videos.mask_files import save_masks
    from vit_jax_xfer.explain.cells import placed_cells
    from vit_jax_xfer.explain.overlay import paint_kept
    from vit_jax_xfer.explain.pictures import write_png

    size = photo.shape[:2]
    write_png(paint_kept(photo, mask, placed_cells(places, size)), path)
    whole = places.spread(mask, size).astype("uint8")
    save_masks(path.parent, [f"{path.stem}{_MASK.removesuffix('.png')}"], whole[None])


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "vit_jax_xfer.cosegment", __doc__, "photos --model runs/mae/model --out cut_out"
    )
    add = parser.add_argument
    add("photos", nargs="+", metavar="PHOTO", help="files, and folders, with all that is below")
    add_backbone_flags(parser)
    add_extractor_flags(parser)
    add("--clusters", type=positive, metavar="N",
        help="clusters of all features together (default: as many as bring something)")  # fmt: skip
    add("--votes", type=share, default=0.75, metavar="SHARE",
        help="of the photographs must show a cluster of the object (default 0.75)")  # fmt: skip
    add("--out", required=True, metavar="DIR", help="the folder of masks and pictures")
    add("--overwrite", action="store_true", help="replace files that exist")
    return parser


if __name__ == "__main__":
    sys.exit(main())

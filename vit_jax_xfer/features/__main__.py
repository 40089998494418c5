"""Dense features of your images: python -m vit_jax_xfer.features IMAGE… --model MODEL --out x.npz

Writes one vector for each patch of each image, from any backbone that this project reads; with
--lift, of a resolution doubled --steps times; with --pixels, interpolated to any size. An .npz has
  features    (N, h, w, C) float32, or float16 as --dtype says
  files       (N,) the images; image_size (N, 2), height and width that the network was given
  model, facet, layer, log_bins, patch_size, stride, lift, steps (0 = not lifted)
Images are squashed to the network's own square, or to --image-size; --longest keeps their aspect
ratio, with sides rounded to whole patches. Photographs are turned as their EXIF orientation says.
--out x.npz takes all images of one size, --out DIR makes DIR/NAME.npz for each.

--picture shows the first three principal components as colours; with --joint they mean the same on
all pictures, --foreground SHARE leaves the background black, --norms adds the length of each
feature, which shows artefact tokens.

IMAGE are files and folders. Files that can't be read, and images whose features are NaN, infinite,
too large or all too small for --dtype, are left out, named, and make the exit code 1.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vit_jax_xfer.command_line.command_parser import command_parser
from vit_jax_xfer.command_line.flag_errors import positive, run_on_files, share_below_one
from vit_jax_xfer.command_line.out_places import out_file, out_folder
from vit_jax_xfer.features.command import (
    add_backbone_flags,
    add_extractor_flags,
    extractor_from,
)
from vit_jax_xfer.local_paths import FILE_ENDINGS, local_path
from vit_jax_xfer.terminal import show

_LARGEST_FLOAT16, _LEAST_FLOAT16 = 65504.0, 2.0**-14  # below it digits get lost, then all


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the features; 0 when all images are done, 1 with a line for what is wrong."""
    options = _parser().parse_args(arguments)
    return run_on_files(lambda broken: _write_all(options, broken))


def _write_all(options: argparse.Namespace, broken: list[str]) -> None:
    # Imported late, so that --help answers at once.
    from vit_jax_xfer.data.sources.upright_photo import read_photograph
    from vit_jax_xfer.explain.image_files import check_free, find_images, picture_names
    from vit_jax_xfer.explain.progress import Progress
    from vit_jax_xfer.features.cost_estimate import say_cost
    from vit_jax_xfer.features.drawn_features import DrawnFeatures, PictureChoice

    _check_flags(options)
    out = local_path(options.out, "--out")
    files = find_images(options.images, out)
    names = picture_names(files)
    to_one = _in_one_file(out, options, len(files))
    targets = [out] if to_one else [out / f"{name}.npz" for name in names]
    check_free(targets, "--out", options.overwrite, files)
    pictures = _pictures(options, names)
    check_free(pictures, "--picture", options.overwrite, files)
    extractor, sizing = extractor_from(options)
    size = max(sizing.sides(1, 1))
    if options.pixels and not options.longest:
        _check_memory(_pixels(options.pixels, sizing.sides(1, 1)), extractor.backbone.width)
    say_cost([(extractor.name, len(files), extractor.multiply_adds(size))], "images")
    store = _store(out, options, extractor, to_one)
    choice = PictureChoice(options.joint, options.foreground, options.norms)
    done, complete = 0, False
    try:
        with Progress(len(files)) as progress, DrawnFeatures(choice) as drawn:
            for i, file in enumerate(files):
                try:
                    photo = read_photograph(file)
                    features, places = _numbers(extractor, sizing, photo, options, file)
                except ValueError as error:
                    broken.append(str(error))
                    continue
                store.add(file, names[i], features, sizing.sides(*photo.shape[:2]))
                if pictures:
                    drawn.add(pictures[i], photo, features, places, file.name)
                done += 1
                progress.report(i + 1)
            complete = True
            drawn.finish()
    finally:
        store.close(complete)
    if done:
        show(f"wrote the features of {done} {'image' if done == 1 else 'images'} to {options.out}")


def _check_flags(options: argparse.Namespace) -> None:
    """ValueError for flags that do nothing without another."""
    for flag in ("joint", "foreground", "norms"):
        if getattr(options, flag) not in (None, False) and not options.picture:
            raise ValueError(f"--{flag}: is about pictures; give --picture, or drop it")


def _numbers(
    extractor: Any, sizing: Any, photo: Any, options: argparse.Namespace, file: Path
) -> tuple[Any, Any]:
    """Features (h, w, C) of a photograph, and where their cells lie. ValueError naming the file."""
    from vit_jax_xfer.features.network_input import features_on

    features, places = features_on(extractor, sizing, photo, file)
    if options.pixels:
        sides = sizing.sides(*photo.shape[:2])
        features, places = places.resized(features, _pixels(options.pixels, sides))
    if options.dtype == "float16":
        _check_float16(features, file)
    return features, places


def _check_float16(features: Any, file: Path) -> None:
    """ValueError naming the file where half the bits don't hold its features (h, w, C)."""
    sizes = abs(features)
    if number := int((sizes > _LARGEST_FLOAT16).sum()):
        raise ValueError(
            f"{file}: features: {number} of {features.size} values are beyond float16, whose "
            "largest number is 65504; give --dtype float32"
        )
    largest = sizes.max(-1)
    if number := int(((largest > 0) & (largest < _LEAST_FLOAT16)).sum()):
        raise ValueError(
            f"{file}: features: {number} of {largest.size} are smaller in all channels than "
            "float16 has digits for, 0.00006; give --dtype float32"
        )


def _check_memory(grid: tuple[int, int], channels: int) -> None:
    """ValueError where an image's features on a grid (h, w) can't be in this machine's memory."""
    from vit_jax_xfer.device_memory import host_memory

    needed, there = 4 * grid[0] * grid[1] * channels, host_memory()
    if there is not None and needed > there:
        raise ValueError(
            f"--pixels: {grid[0]}×{grid[1]} features of {channels} channels are "
            f"{needed / 1e9:,.0f} GB an image, and this machine has {there / 1e9:,.1f} GB for them"
        )


def _pixels(longer: int, sides: tuple[int, int]) -> tuple[int, int]:
    """The grid (h, w) whose longer side has so many cells, in an input's shape."""
    return tuple(max(1, round(longer * side / max(sides))) for side in sides)


def _in_one_file(out: Path, options: argparse.Namespace, images: int) -> bool:
    """Whether --out is an .npz. ValueError where it can't be written, or isn't what images need."""
    if out.suffix != ".npz":
        if out.is_file():
            raise ValueError(f"--out: {out} is a file; give a folder, or a name that ends in .npz")
        if out.suffix.lower() in FILE_ENDINGS and not out.is_dir():
            raise ValueError(f"--out: {out}: give a folder, or a name that ends in .npz")
        out_folder(out, "--out")
        return False
    if options.longest and images > 1:
        raise ValueError(f"--out: {images} images with --longest need a file each; give a folder")
    out_file(out, "--out")
    return True


def _pictures(options: argparse.Namespace, names: Sequence[str]) -> list[Path]:
    """Where each image's picture goes; none where there are to be none."""
    from vit_jax_xfer.data.sources.decode import readable_suffixes

    if not options.picture:
        return []
    path = local_path(options.picture, "--picture")
    if path.suffix.lower() != ".png":
        if path.is_file():
            raise ValueError(f"--picture: {path} is a file; give a folder, or a name with .png")
        if path.suffix.lower() in readable_suffixes() and not path.is_dir():
            raise ValueError(f"--picture: {path}: give a folder, or a name that ends in .png")
        out_folder(path, "--picture")
        return [path / f"{name}.png" for name in names]
    if len(names) > 1:
        raise ValueError(f"--picture: {len(names)} images make as many pictures; give a folder")
    return [out_file(path, "--picture")]


def _store(out: Path, options: argparse.Namespace, extractor: Any, to_one: bool) -> Any:
    from vit_jax_xfer.features.feature_files import OneFile, OneFileEach, about

    facts = about(extractor, options.lift)
    if to_one:
        return OneFile(out, options.dtype, facts)
    return OneFileEach(out, options.dtype, facts)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "vit_jax_xfer.features",
        __doc__,
        "cat.jpg --model runs/mae/model "
        "--lift runs/lift/model --steps 2 --out cat.npz --picture cat.png",
    )
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", help="files, and folders, with all that is below")
    add_backbone_flags(parser)
    add_extractor_flags(parser)
    add("--pixels", type=positive, metavar="N",
        help="interpolate features to N cells along the longer side, as 224 for one a pixel "
        "(default: as many as there are)")  # fmt: skip
    add("--out", required=True, metavar="x.npz or DIR", help="one file, or one for each image")
    add("--dtype", choices=("float32", "float16"), default="float32",
        help="of the features in the file (default float32)")  # fmt: skip
    add(
        "--picture",
        metavar="x.png or DIR",
        help="draw the features too: one picture, or one for each image",
    )
    add("--joint", action="store_true",
        help="colours mean the same on the pictures of all images")  # fmt: skip
    add("--foreground", type=share_below_one, metavar="SHARE",
        help="colour only what is above SHARE of the first component's range, as 0.5; the "
        "background is black")  # fmt: skip
    add("--norms", action="store_true", help="draw the length of each feature too")
    add("--overwrite", action="store_true", help="replace files that exist")
    return parser


if __name__ == "__main__":
    sys.exit(main())

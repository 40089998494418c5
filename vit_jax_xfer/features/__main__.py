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

IMAGE are files and folders. Files that can't be read, and images whose features are NaN, infinite
or too large for --dtype, are left out, named, and make the exit code 1.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vit_jax_xfer.command_parser import command_parser
from vit_jax_xfer.features.command import (
    add_backbone_flags,
    add_extractor_flags,
    extractor_from,
)
from vit_jax_xfer.flag_errors import positive, run_on_files, share
from vit_jax_xfer.local_paths import local_path
from vit_jax_xfer.terminal import show

_LARGEST_FLOAT16 = 65504.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the features; 0 when all images are done, 1 with a line for what is wrong."""
    options = _parser().parse_args(arguments)
    return run_on_files(lambda broken: _write_all(options, broken))


def _write_all(options: argparse.Namespace, broken: list[str]) -> None:
    # Imported late, so that --help answers at once.
    from vit_jax_xfer.data.sources.upright_photo import read_photograph
    from vit_jax_xfer.explain.image_files import find_images, picture_names
    from vit_jax_xfer.explain.progress import Progress
    from vit_jax_xfer.features.cost_estimate import say_cost
    from vit_jax_xfer.features.drawn_features import DrawnFeatures, PictureChoice
    from vit_jax_xfer.features.feature_files import check_free

    _check_flags(options)
    files = find_images(options.images, local_path(options.out, "--out"))
    names = picture_names(files)
    to_one = _in_one_file(options, len(files))
    targets = [Path(options.out)] if to_one else [Path(options.out) / f"{n}.npz" for n in names]
    check_free(targets, "--out", options.overwrite)
    pictures = _pictures(options, names)
    check_free(pictures, "--picture", options.overwrite)
    extractor, sizing = extractor_from(options)
    size = max(sizing.sides(1, 1))
    say_cost([(extractor.name, len(files), extractor.multiply_adds(size))], "images")
    store = _store(options, extractor, len(files), to_one)
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
    if options.dtype == "float16" and (number := int((abs(features) > _LARGEST_FLOAT16).sum())):
        raise ValueError(
            f"{file}: features: {number} of {features.size} values are beyond float16, whose "
            "largest number is 65504; give --dtype float32"
        )
    return features, places


def _pixels(longer: int, sides: tuple[int, int]) -> tuple[int, int]:
    """The grid (h, w) whose longer side has so many cells, in an input's shape."""
    return tuple(max(1, round(longer * side / max(sides))) for side in sides)


def _in_one_file(options: argparse.Namespace, images: int) -> bool:
    out = Path(options.out)
    if out.suffix != ".npz":
        if out.is_file():
            raise ValueError(f"--out: {out} is a file; give a folder, or a name that ends in .npz")
        return False
    if options.longest and images > 1:
        raise ValueError(f"--out: {images} images with --longest need a file each; give a folder")
    if not out.absolute().parent.is_dir():
        raise ValueError(f"--out: there is no folder {out.absolute().parent}")
    return True


def _pictures(options: argparse.Namespace, names: Sequence[str]) -> list[Path]:
    """Where each image's picture goes; none where there are to be none."""
    if not options.picture:
        return []
    path = local_path(options.picture, "--picture")
    if path.suffix.lower() != ".png":
        if path.is_file():
            raise ValueError(f"--picture: {path} is a file; give a folder, or a name with .png")
        return [path / f"{name}.png" for name in names]
    if len(names) > 1:
        raise ValueError(f"--picture: {len(names)} images make as many pictures; give a folder")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"--picture: there is no folder {path.absolute().parent}")
    return [path]


def _store(options: argparse.Namespace, extractor: Any, images: int, to_one: bool) -> Any:
    from vit_jax_xfer.features.feature_files import OneFile, OneFileEach, about

    facts = about(extractor, options.lift)
    if to_one:
        return OneFile(Path(options.out), images, options.dtype, facts)
    return OneFileEach(Path(options.out), options.dtype, facts)


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
    add("--foreground", type=share, metavar="SHARE",
        help="colour only what is above SHARE of the first component's range, as 0.5; the "
        "background is black")  # fmt: skip
    add("--norms", action="store_true", help="draw the length of each feature too")
    add("--overwrite", action="store_true", help="replace files that exist")
    return parser


if __name__ == "__main__":
    sys.exit(main())

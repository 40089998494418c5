"""Dense features of your images: python -m vit_jax_xfer.features IMAGE… --model MODEL --out x.npz

Writes one vector for each patch of each image, from any backbone that this project reads; with
--lift, of a resolution doubled --steps times. An .npz holds
  features    (N, h, w, C) float32, or float16 as --dtype says
  files       (N,) the images; image_size (N, 2), height and width that the network was given
  model, facet, layer, patch_size, stride, lift, steps (0 = not lifted)
Images are squashed to the network's own square, or to --image-size; --longest keeps their aspect
ratio, with sides rounded to whole patches. --out x.npz takes all images of one size, --out DIR
makes DIR/NAME.npz for each. --picture shows the first three principal components as colours.

IMAGE are files and folders. Files that can't be read are left out, named, and make the exit code 1.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vit_jax_xfer.command_parser import add_image_size, command_parser
from vit_jax_xfer.features.command import add_backbone_flags, backbone_from
from vit_jax_xfer.flag_errors import naming_flag, positive, run_on_files
from vit_jax_xfer.local_paths import local_path
from vit_jax_xfer.terminal import show

_TILE = 384  # pixels of a picture's longer side


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the features; 0 when all images are done, 1 with a line for what is wrong."""
    options = _parser().parse_args(arguments)
    return run_on_files(lambda broken: _write_all(options, broken))


def _write_all(options: argparse.Namespace, broken: list[str]) -> None:
    # Imported late, so that --help answers at once.
    from vit_jax_xfer.data.sources.decode import decode_image
    from vit_jax_xfer.explain.image_files import find_images, picture_names
    from vit_jax_xfer.explain.progress import Progress
    from vit_jax_xfer.features.feature_files import Sizing, check_free

    if options.steps and not options.lift:
        raise ValueError("--steps: nothing is doubled without --lift; give one, or drop --steps")
    files = find_images(options.images, local_path(options.out, "--out"))
    names = picture_names(files)
    to_one = _in_one_file(options, len(files))
    targets = [Path(options.out)] if to_one else [Path(options.out) / f"{n}.npz" for n in names]
    check_free(targets, "--out", options.overwrite)
    pictures = _pictures(options, names)
    check_free(pictures, "--picture", options.overwrite)
    extractor = _extractor(options)
    backbone = extractor.backbone
    size = None if options.longest else options.size or backbone.model.image_size
    overlapping = backbone.stride not in (None, backbone.patch_size)
    sizing = Sizing(backbone.patch_size, size, options.longest, overlapping)
    store = _store(options, extractor, len(files), to_one)
    done, complete = 0, False
    try:
        with Progress(len(files)) as progress:
            for i, file in enumerate(files):
                try:
                    photo = decode_image(file, str(file))
                except ValueError as error:
                    broken.append(str(error))
                    continue
                given = sizing(photo)
                (features,) = _numbers(extractor, given)
                store.add(file, names[i], features, given.shape[:2])
                if pictures:
                    _draw(pictures[i], photo, features, file.name)
                done += 1
                progress.report(i + 1)
        complete = True
    finally:
        store.close(complete)
    if done:
        show(f"wrote the features of {done} {'image' if done == 1 else 'images'} to {options.out}")


def _extractor(options: argparse.Namespace) -> Any:
    from vit_jax_xfer.features.open_extractors import make_extractors

    backbone, variables = backbone_from(options)
    lifts, steps = [options.lift] if options.lift else [], [options.steps or 1]
    with naming_flag("--lift", options):
        return make_extractors(backbone, variables, lifts, steps, () if lifts else ("plain",))[0]


def _numbers(extractor: Any, photo: Any) -> Any:
    import numpy as np

    return np.asarray(extractor(photo[None]))


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


def _draw(path: Path, photo: Any, features: Any, name: str) -> None:
    """The photograph and the components of its features side by side."""
    import numpy as np
    from PIL import Image

    from vit_jax_xfer.explain.feature_pictures import pca_colours
    from vit_jax_xfer.explain.pictures import sheet

    path.parent.mkdir(parents=True, exist_ok=True)
    scale = _TILE / max(photo.shape[:2])
    cell = tuple(max(1, round(side * scale)) for side in photo.shape[:2])
    small = np.asarray(Image.fromarray(photo).resize(cell[::-1], Image.Resampling.LANCZOS))
    h, w, channels = features.shape
    columns = ["image", f"{h} x {w} features of {channels}"]
    sheet([[small, pca_colours(features)]], columns, path, cell=cell, heading=name, font_size=15)


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
    add("--lift", metavar="PATH",
        help="a LiFT or ConvexLiFT of these features: a run's model folder, or a file")  # fmt: skip
    add("--steps", type=positive, metavar="N",
        help="how many times --lift doubles the features' resolution (default 1)")  # fmt: skip
    size = parser.add_mutually_exclusive_group()
    add_image_size(size, type=positive, metavar="PIXELS",
        help="side of the square that images become (default: the network's own)")  # fmt: skip
    size.add_argument("--longest", type=positive, metavar="PIXELS",
        help="keep the aspect ratio, with about so many pixels on the longer side")  # fmt: skip
    add("--out", required=True, metavar="x.npz or DIR", help="one file, or one for each image")
    add("--dtype", choices=("float32", "float16"), default="float32",
        help="of the features in the file (default float32)")  # fmt: skip
    add(
        "--picture",
        metavar="x.png or DIR",
        help="draw the features too: one picture, or one for each image",
    )
    add("--overwrite", action="store_true", help="replace files that exist")
    return parser


if __name__ == "__main__":
    sys.exit(main())

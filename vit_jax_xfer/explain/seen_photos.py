"""What the commands that draw on photographs share: their flags, images as a network saw them."""

import argparse
import itertools
import pathlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vit_jax_xfer.command_line.flag_errors import positive


@dataclass(frozen=True)
class Seen:
    """One image: the file, the photograph in it, and what the network was given."""

    file: pathlib.Path
    photo: Any  # (H, W, 3) uint8
    prepared: Any  # (h, w, 3) float32, normalised


def add_photo_flags(parser: argparse.ArgumentParser, out: str | None = None) -> None:
    """The flags IMAGES, --out, --image-size, --whole, --batch-size, --overwrite.

    out: the folder that --out means where it isn't given; None = it must be.
    """
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGES", help="files, and folders, with all that is below")
    add(
        "--out",
        required=out is None,
        default=out,
        metavar="DIR",
        help="the folder of the pictures" + ("" if out is None else f" (default {out})"),
    )
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
        "--batch-size", type=positive, metavar="N", help="images in a batch; fewer take less memory"
    )
    add("--overwrite", action="store_true", help="replace pictures that exist")


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """The flags --model, --family, --num-heads, which `load_model` reads."""
    add = parser.add_argument
    add(
        "--model",
        required=True,
        help="a run's model folder or checkpoint, any file that load_pretrained reads, or "
        "hf:ORG/NAME",
    )
    add("--family", help="the checkpoint's family, as deit, if its parameter names don't show it")
    add("--num-heads", type=positive, default=0, metavar="N",
        help="attention heads, if the checkpoint doesn't say")  # fmt: skip


def load_model(options: argparse.Namespace) -> tuple[Any, Any]:
    """The network of the flags, and its variables."""
    from vit_jax_xfer.command_line.flag_errors import naming_flag
    from vit_jax_xfer.pretrained.file_to_model import load_pretrained

    with naming_flag("--model", options):
        fields = {"num_heads": options.num_heads} if options.num_heads else {}
        return load_pretrained(options.model, options.family, **fields)


def view_of_flags(model: Any, options: argparse.Namespace) -> Any:
    """How the images are prepared; says so where the network doesn't."""
    from vit_jax_xfer.explain.network_view import preparation, say_assumed

    say_assumed(model, options.model)
    return preparation(model, options.image_size, options.whole)


def readable(
    files: Sequence[pathlib.Path],
    paths: Sequence[pathlib.Path],
    preprocessing: Any,
    broken: list[str],
) -> Iterator[tuple[pathlib.Path, Seen]]:
    """Path and `Seen` of each image that can be read; the errors of the others go to `broken`."""
    from vit_jax_xfer.data.prepare import preprocess
    from vit_jax_xfer.data.sources.upright_photo import read_photograph

    for file, path in zip(files, paths, strict=True):
        try:
            photo = read_photograph(file)
        except ValueError as error:
            broken.append(str(error))
            continue
        yield path, Seen(file, photo, preprocess(preprocessing, photo)[0])


def require_numbers(file: pathlib.Path, what: str, arrays: Sequence[Any]) -> None:
    """ValueError naming a photograph where what a network makes of it is NaN or infinite."""
    import numpy as np

    if any(one is not None and not np.isfinite(one).all() for one in arrays):
        raise ValueError(
            f"{file}: {what}: some values are NaN or infinite; are the weights broken?"
        )


def batches(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    """Lists of `size` items, the last one shorter."""
    while batch := list(itertools.islice(items, size)):
        yield batch


def filled(batch: Sequence[tuple[pathlib.Path, Seen]], size: int) -> Any:
    """The prepared images (size, h, w, 3), filled up with zeros, so that one compilation serves."""
    import numpy as np

    images = np.stack([seen.prepared for _, seen in batch])
    return np.pad(images, ((0, size - len(batch)), (0, 0), (0, 0), (0, 0)))


def _size(text: str) -> int | tuple[int, int]:
    if not re.fullmatch(r"0*[1-9]\d*(,0*[1-9]\d*)?", text):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected pixels, N or H,W, as 320,200")
    sides = [int(side) for side in text.split(",")]
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])

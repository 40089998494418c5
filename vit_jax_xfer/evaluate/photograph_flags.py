"""The flags of commands that make pictures of photographs, which answer --help at once."""

import argparse

from vit_jax_xfer.command_line.command_parser import add_image_size, command_parser
from vit_jax_xfer.command_line.flag_errors import positive


def photograph_parser(name: str, about: str, example: str, out: str) -> argparse.ArgumentParser:
    """The flags of the commands that make pictures of photographs."""
    parser = command_parser(f"vit_jax_xfer.{name}", about, example)
    add = parser.add_argument
    add("photos", nargs="+", metavar="PHOTO", help="image files, and folders of them")
    add("--model", required=True, metavar="MODEL", help="see above")
    add("--out", default=out, metavar="DIR", help=f"a folder for what is written (default {out})")
    add_image_size(parser, type=positive, metavar="PIXELS",
        help="side of the square input, into which a photograph is fitted (default: the network's "
        "own)")  # fmt: skip
    add("--batch-size", type=positive, default=4, metavar="N", help="images at once (default 4)")
    add("--family", help="the checkpoint's family, if its parameter names don't show it")
    add("--num-heads", type=positive, default=0, metavar="N",
        help="attention heads, if the checkpoint doesn't say")  # fmt: skip
    add("--overwrite", action="store_true", help="replace files that exist")
    return parser

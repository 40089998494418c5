"""The parser of a command's flags: how it was called, what it does, an example; shared flags."""

import argparse
import shlex
from collections.abc import Sequence
from typing import Any

from vit_jax_xfer.front_door import command_name
from vit_jax_xfer.huge_pages import begin_with_huge_pages


def command_parser(
    module: str, about: str, example: str = "", **options: Any
) -> argparse.ArgumentParser:
    """A parser that answers --help as the command was called, by the front door or as a module.

    about: the module's docstring, of which the first paragraph is left away. example: what may
    follow the command's name. options: of `argparse.ArgumentParser`.
    """
    begin_with_huge_pages()
    name = command_name(module)
    if example:
        options["epilog"] = f"Example: {name} {example}"
    options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
    return argparse.ArgumentParser(prog=name, description=about.split("\n\n", 1)[-1], **options)


def command_line_of(module: str, arguments: Sequence[str]) -> str:
    """A command with its arguments as one types it again, for a report."""
    return f"{command_name(module)} {shlex.join(arguments)}".rstrip()


def add_image_size(container: Any, **options: Any) -> None:
    """The flag --image-size of a parser or a group, as `options.size`; --size is its older name."""
    container.add_argument("--image-size", dest="size", **options)
    older = {name: value for name, value in options.items() if name in ("type", "metavar")}
    container.add_argument(
        "--size", dest="size", default=argparse.SUPPRESS, help=argparse.SUPPRESS, **older
    )

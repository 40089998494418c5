"""The parser of a command's flags: how it was called, what it does, an example; shared flags."""

import argparse
import difflib
import shlex
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from vit_jax_xfer.front_door import WRONG_USE, command_name
from vit_jax_xfer.huge_pages import begin_with_huge_pages
from vit_jax_xfer.terminal import show


def command_parser(module: str, about: str, example: str = "", **options: Any) -> "CommandParser":
    """A parser that answers --help as the command was called, by the front door or as a module.

    about: the module's docstring, of which the first paragraph is left away. example: what may
    follow the command's name. options: of `argparse.ArgumentParser`.
    """
    begin_with_huge_pages()
    name = command_name(module)
    if example:
        options["epilog"] = f"Example: {name} {example}"
    options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
    return CommandParser(prog=name, description=about.split("\n\n", 1)[-1], **options)


class CommandParser(argparse.ArgumentParser):
    """argparse's, whose errors are one line, as those of commands are, and name the nearest flag.

    Its own begin with the usage, which pushes the error of a command of twenty flags out of sight.
    An empty text, which a script's unset variable leaves, is an error: pathlib takes it for the
    folder that one is in.
    """

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        given = list(sys.argv[1:] if args is None else args)
        if not any(action.nargs == argparse.REMAINDER for action in self._actions):
            given = [self._hyphened(one) for one in given]
            self._refuse_empty(given)
        return super().parse_known_args(given, namespace)

    def _hyphened(self, argument: str) -> str:
        """--batch_size=N as --batch-size=N, where that is a flag; all else as it is."""
        flag, equals, value = argument.partition("=")
        name = flag.replace("_", "-")
        known = flag.startswith("--") and name in self._option_string_actions
        return f"{name}{equals}{value}" if known else argument

    def _refuse_empty(self, given: Sequence[str]) -> None:
        for before, one in zip(["", *given], given, strict=False):
            flag, equals, value = one.partition("=")
            if one.startswith("--") and equals and not value and not flag.startswith("--config."):
                self.error(f"argument {flag}: got '', expected a value")
            if not one:
                where = f"argument {before}: " if before.startswith("--") else ""
                self.error(f"{where}got '', expected a value")

    def error(self, message: str) -> NoReturn:
        kind, _, given = message.partition("unrecognized arguments: ")
        unknown = next((word for word in given.split() if word.startswith("-")), "")
        if not kind and unknown:
            message += self.did_you_mean(unknown)
        show(f"error: {message}; {self.prog} --help lists all flags", name="stderr")
        sys.exit(WRONG_USE)

    def did_you_mean(self, flag: str) -> str:
        """The end of an error about a flag that there is not; "" where none is near."""
        asked = flag.partition("=")[0].replace("_", "-").lstrip("-")
        plain = [one for one in self._actions if not one.option_strings]
        if found := next((one.metavar for one in plain if one.dest == asked), None):
            return f"; {found} is given without a flag"
        known = [
            name
            for name, action in self._option_string_actions.items()
            if name.startswith("--") and action.help != argparse.SUPPRESS and name != "--help"
        ]
        near = difflib.get_close_matches(f"--{asked}", known, n=1, cutoff=0.6)
        return f"; did you mean {near[0]}?" if near else ""


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

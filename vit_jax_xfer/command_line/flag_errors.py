"""Errors of commands: one line on stderr, which begins with the flag that is wrong."""

import argparse
import contextlib
import math
from collections.abc import Callable, Iterator

from vit_jax_xfer.memory_errors import out_of_memory
from vit_jax_xfer.terminal import show

_SMALLER = "what helps: a smaller --batch-size or --image-size where the command has them"


@contextlib.contextmanager
def naming_flag(flag: str, options: argparse.Namespace) -> Iterator[None]:
    """Puts a flag before errors: of one that begins with a flag's name, "layer: …", that flag.

    flag: for all other errors, such as those of the file that it names.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        raise ValueError(_with_flag(str(error), flag, options)) from error


def run_command(action: Callable[[], None]) -> int:
    """Runs a command: 0, or 1 with one line on stderr for what a user can put right."""
    from vit_jax_xfer.pretrained.loading_notes import notes_on_stderr
    from vit_jax_xfer.storage.checkpoints import CheckpointError

    try:
        with notes_on_stderr():
            action()
    except (ValueError, OSError, ImportError, CheckpointError) as error:
        show(f"error: {error}", name="stderr")
        return 1
    except (MemoryError, RuntimeError) as error:
        if not (why := out_of_memory(error)):
            raise
        show(f"error: memory: {why}; {_SMALLER}", name="stderr")
        return 1
    return 0


def run_on_files(action: Callable[[list[str]], None]) -> int:
    """`run_command` for an action on many files, which goes on past those that can't be read.

    action: puts a line for each of them into the list that it gets. They are told at the end, and
    make the exit status 1.
    """
    broken: list[str] = []
    code = run_command(lambda: action(broken))
    for line in broken:
        show(f"error: {line}", name="stderr")
    return 1 if broken else code


# The largest whole number of a flag, which is more than there is of anything that flags count.
LARGEST = 2**31 - 1


def positive(text: str) -> int:
    """A flag's whole number of 1 or more."""
    return _whole(text, 1)


def from_zero(text: str) -> int:
    """A flag's whole number of 0 or more."""
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    number = int(text) if text.isdecimal() and len(text) <= 4 + len(str(LARGEST)) else -1
    if not least <= number <= LARGEST:
        most = f", up to {LARGEST:,}" if text.isdecimal() and number != 0 else ""
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected a number of {least} or more{most}"
        )
    return number


def above_zero(text: str) -> float:
    """A flag's finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number above 0")
    return number


def share(text: str) -> float:
    """A flag's number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number from 0 to 1")
    return value


def share_below_one(text: str) -> float:
    """A flag's number from 0 to below 1, for a threshold above which something must be left."""
    value = share(text)
    if value == 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number from 0 to below 1")
    return value


def _with_flag(message: str, flag: str, options: argparse.Namespace) -> str:
    if message.startswith("--"):
        return message
    name, colon, rest = message.partition(":")
    if colon and name in vars(options):
        flag = "image-size" if name == "size" else name.replace("_", "-")  # add_image_size
        return f"--{flag}:{rest}"
    return f"{flag}: {message}"

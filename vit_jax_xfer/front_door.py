"""All commands behind one name: `vit-jax-xfer train …`, or `python -m vit_jax_xfer train …`."""

import difflib
import importlib
import pathlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from vit_jax_xfer.huge_pages import begin_with_huge_pages
from vit_jax_xfer.terminal import occupy, settle, show

_PACKAGE = __package__
_HELP = ("--help", "-h", "help")
WRONG_USE = 2  # the exit status of a command that doesn't exist, as of a wrong flag


class _Command(NamedTuple):
    """The module below the package that `python -m` takes, and what it does in a line."""

    module: str
    does: str


# Every command, by the words that stand behind the door's name. Its module, or of a package its
# __main__, has main(arguments), which gives the exit status; or command(arguments), which exits.
COMMANDS: dict[str, _Command] = {
    "train": _Command("main", "train what a config says, or go on where a run was stopped"),
    "compare": _Command("compare", "ways to learn from one teacher, on your images"),
    "quickstart": _Command("quickstart", "the whole idea in a few minutes, on digits"),
    "plan": _Command("plan", "what a run would need of devices and memory"),
    "launch": _Command("run_elsewhere", "a run on several processes, by SLURM, on a TPU pod"),
    "predict": _Command("predict", "classes of your images"),
    "detect": _Command("detect", "objects on your photographs"),
    "segment": _Command("segment", "the class of each pixel of your photographs"),
    "explain": _Command("explain", "why a network answers as it does, as pictures"),
    "explain attention": _Command("explain.attention", "what it attends to, as pictures"),
    "explain filter-masks": _Command("explain.filter_masks", "which tokens a FilterViT keeps"),
    "explain compare": _Command("explain.compare", "methods of attribution, measured"),
    "analysis": _Command("analysis", "two networks beside each other: heads and layers"),
    "features": _Command("features", "dense features of your images, as arrays and pictures"),
    "correspond": _Command("correspond", "what goes with what on two photographs"),
    "cosegment": _Command("cosegment", "what photographs have in common, cut out"),
    "evaluate classification": _Command("evaluate.classification", "on the published suites"),
    "evaluate knn": _Command("evaluate.knn", "classes by nearest neighbours"),
    "evaluate detection": _Command("evaluate.detection", "average precision of a detector"),
    "evaluate segmentation": _Command("evaluate.segmentation", "features by a linear probe"),
    "evaluate correspondence": _Command("evaluate.correspondence", "features by keypoints"),
    "evaluate objects": _Command("evaluate.objects", "features by objects found without labels"),
    "evaluate videos": _Command("evaluate.videos", "features by masks carried along a video"),
    "evaluate similarity": _Command("evaluate.similarity", "what features look like"),
    "evaluate scale-invariance": _Command("evaluate.scale_invariance", "features at many sizes"),
    "convert": _Command("convert", "checkpoints from one form into another"),
    "corrupt": _Command("suites.corrupt", "a corrupted test set from images of yours"),
}

_called: list[str] = []  # how the door was called, while one of its commands runs


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command that the first words name; its exit status, or 2 where there is none."""
    begin_with_huge_pages()
    occupy()
    try:
        return _main(list(sys.argv[1:] if arguments is None else arguments))
    finally:
        settle()


def command_name(module: str) -> str:
    """How a command was called: by the door's name and its words there, or `python -m MODULE`."""
    short = module.removeprefix(f"{_PACKAGE}.")
    words = next((words for words, command in COMMANDS.items() if command.module == short), None)
    return f"{_called[-1]} {words}" if _called and words else f"python -m {module}"


def _main(given: list[str]) -> int:
    door = _door()
    if given and given[0] == "--version":
        from vit_jax_xfer import __version__

        show(f"vit-jax-xfer {__version__}")
        return 0
    # The longest name first: "explain attention" before "explain" of a file called attention.
    for number in (2, 1):
        words = " ".join(given[:number])
        if len(given) >= number and words in COMMANDS:
            return _run(door, words, given[number:])
    if not given or given[0] in _HELP:
        show(_overview(door, COMMANDS))
        return 0 if given else WRONG_USE
    below = {words: one for words, one in COMMANDS.items() if words.split()[0] == given[0]}
    if below and (len(given) == 1 or given[1] in _HELP):
        show(_overview(door, below))
        return 0 if len(given) > 1 else WRONG_USE
    said = " ".join(given[:2] if below else given[:1])
    show(f"error: {said}: no such command; did you mean {_nearest(said)!r}? "
         f"{door} --help lists all", name="stderr")  # fmt: skip
    return WRONG_USE


def _run(door: str, words: str, rest: list[str]) -> int:
    name = f"{_PACKAGE}.{COMMANDS[words].module}"
    module = importlib.import_module(name)
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"{name}.__main__")
    _called.append(door)
    before, sys.argv = sys.argv, [f"{door} {words}", *rest]  # where flags of a config are read
    try:
        return getattr(module, "command", module.main)(rest)
    finally:
        sys.argv = before
        _called.pop()


def _door() -> str:
    """The name by which the door was called, as one types it."""
    as_module = pathlib.Path(sys.argv[0]) == pathlib.Path(__file__).with_name("__main__.py")
    return f"python -m {_PACKAGE}" if as_module else "vit-jax-xfer"


def _nearest(said: str) -> str:
    return max(COMMANDS, key=lambda name: difflib.SequenceMatcher(None, said, name).ratio())


def _overview(door: str, commands: dict[str, _Command]) -> str:
    """The commands with what each does, a line each."""
    width = max(map(len, commands))
    lines = [f"  {words:<{width}}  {command.does}" for words, command in commands.items()]
    return "\n".join(
        [
            f"usage: {door} COMMAND [ARGUMENTS]",
            "",
            *lines,
            "",
            f"{door} COMMAND --help says what a command takes; --version which version this is.",
            "Files and folders that are called like a command's second word: ./attention.",
        ]
    )

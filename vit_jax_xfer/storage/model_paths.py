"""Where a finished model lies: its directory, and what stands beside it while it is replaced."""

import os

from etils import epath

# What a run calls its finished models, in its folder.
RUN_MODELS = ("model", "model_ema", "model_best")


def absolute_path(path: str | os.PathLike) -> epath.Path:
    """A path from the root or with its scheme, "~" resolved."""
    path = epath.Path(path).expanduser()
    return path if "://" in str(path) else path.absolute()


def beside(target: epath.Path, word: str) -> epath.Path:
    """The hidden neighbour of a directory, for what is being written or was replaced."""
    return target.parent / f".{target.name}.{word}"


def complete_model(target: epath.Path) -> epath.Path | None:
    """The directory of the whole model that belongs at `target`, or None.

    A process killed between the two renames of `save_model` leaves the older model set aside.
    """
    for path in (target, beside(target, "replaced")):
        if (path / "model.json").exists() and (path / "variables").exists():
            return path
    return None


def is_model_directory(path: str | os.PathLike) -> bool:
    """Whether `load_model` finds a complete model at `path`."""
    return complete_model(absolute_path(path)) is not None

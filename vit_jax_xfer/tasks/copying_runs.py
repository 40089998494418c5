"""Runs whose student computes with its teacher for good: its model alone is another network."""

import json
import pathlib

from vit_jax_xfer.storage.model_paths import RUN_MODELS


def copying_run(source: str) -> pathlib.Path | None:
    """The run whose folder, model or checkpoint a path is, where its student copies; else None."""
    folder = pathlib.Path(source).expanduser()
    run = _run_of(folder)
    return run if folder.exists() and _copies(run) else None


def refuse_copying_teacher(field: str, source: str) -> None:
    """ValueError, naming the field, for a teacher that can't be had without its own teacher."""
    if copying_run(source) is not None:
        raise ValueError(
            f"{field}: {source} is a student that computes with its teacher's attention, which "
            "isn't in it; give that teacher, or a run that distils"
        )


def _run_of(folder: pathlib.Path) -> pathlib.Path:
    """The folder of the run of which a path would be a model or a checkpoint; else the path."""
    whole = folder.absolute()
    if whole.name in (*RUN_MODELS, "checkpoints"):
        return whole.parent
    return whole.parents[1] if whole.parent.name == "checkpoints" else folder


def _copies(folder: pathlib.Path) -> bool:
    """Whether a folder is that of a run whose student computes with what its teacher gives."""
    from vit_jax_xfer.tasks.build import TASKS  # tasks are made of teachers, and those of this

    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return False
    task = config.get("task") if isinstance(config, dict) else None
    # Without a teacher a mode means nothing, and of a task that isn't registered it may mean
    # anything.
    if not isinstance(task, dict) or not task.get("teacher"):
        return False
    kind = TASKS.get(str(task.get("name")))
    return kind is not None and kind.copies(task.get("mode", "distill"))

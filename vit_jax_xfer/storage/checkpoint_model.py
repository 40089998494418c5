"""A checkpoint of a run as a model: its network's arrays alone, and the description beside them."""

import json
import pathlib
from typing import Any

# Parts of a saved state (train/state.py): parameters, or their average, each with where what else a
# network is applied with may be. Version 0.1 kept no average of that.
_PARTS: dict[str, tuple[str, ...]] = {
    "params": ("collections",),
    "ema": ("ema_collections", "collections"),
}


def is_checkpoint(path: pathlib.Path) -> bool:
    """Whether a folder is one checkpoint, such as runs/x/checkpoints/400."""
    return all((path / name).is_dir() for name in ("state", "extra", "checksums"))


def locate_model(path: pathlib.Path) -> pathlib.Path | None:
    """The model folder or the checkpoint that a path means; None where it means neither.

    A run's folder means its finished model. ValueError for a run that has none: it names the
    checkpoint to pass.
    """
    if (path / "model.json").is_file() or is_checkpoint(path):
        return path
    if (path / "model" / "model.json").is_file():
        return path / "model"
    for folder in (path / "checkpoints", path):
        steps = [int(one.parent.name) for one in folder.glob("*/state") if _is_step(one.parent)]
        if steps:
            newest = folder / str(max(steps))
            raise ValueError(f"{path}: this run has no finished model; its newest is {newest}")
    return None


def read_description(path: pathlib.Path) -> dict[str, Any]:
    """What was written down of the network in a model folder or a checkpoint.

    ValueError for a checkpoint of version 0.1, which has none, unless its run is finished; and for
    a file that is damaged.
    """
    if not is_checkpoint(path):
        return _read_object(path / "model.json")
    description = _read_object(path / "extra" / "metadata").get("model")
    if description is not None:
        return description
    finished = path.absolute().parent.parent / "model" / "model.json"
    if not finished.is_file():
        raise ValueError(
            f"{path}: version 0.1 wrote no description of the network into it; start the run's "
            "command again, and what it writes from then on can be loaded"
        )
    return _read_object(finished)


def load_checkpoint_model(path: pathlib.Path, weights: str | None = None) -> tuple[Any, Any]:
    """(variables, description) of a checkpoint: nested dicts of numpy arrays, and JSON.

    weights: "params", as None, or "ema" for their average. ValueError for others, or where the run
    keeps no average; CheckpointError where the checkpoint is damaged.
    """
    from vit_jax_xfer.storage import tree_check
    from vit_jax_xfer.storage.checkpoints import CheckpointError, read_arrays

    if weights not in (None, *_PARTS):
        raise ValueError(f"weights: {weights!r} is none of {', '.join(_PARTS)} of {path}")
    part = weights or "params"
    try:
        found = read_arrays(path / "state", only=(part, *_PARTS[part]))
        sums = json.loads((path / "checksums" / "metadata").read_text())
        tree_check.check_checksums(found, sums)
    except Exception as error:
        said = str(error).strip().split("\n")[0]
        raise CheckpointError(f"checkpoint {path} is damaged: {said}") from error
    if not found.get(part):
        raise ValueError(f"weights: {path} holds no average: the run's optim.ema is 0")
    collections = next((found[name] for name in _PARTS[part] if name in found), {})
    return {"params": found[part], **collections}, read_description(path)


def _read_object(file: pathlib.Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged: {type(error).__name__}: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} is damaged: a JSON {type(found).__name__}, expected an object")
    return found


def _is_step(path: pathlib.Path) -> bool:
    return path.name.isdigit() and is_checkpoint(path)

"""What a run leaves at its end: model folders that load_pretrained reads, and its result."""

import json
import pathlib
from typing import Any

import jax

from vit_jax_xfer.storage.checkpoint_model import load_checkpoint_model
from vit_jax_xfer.storage.checkpoints import save_model
from vit_jax_xfer.train.console import say
from vit_jax_xfer.train.metrics import as_json
from vit_jax_xfer.train.state import TrainState
from vit_jax_xfer.whole_files import write_whole


def save_finished(
    folder: pathlib.Path, state: TrainState, description: dict[str, Any], result: dict[str, Any]
) -> None:
    """`model/` of the last step, `model_ema/` if an average is kept, and `result.json`."""
    save_model(folder / "model", state.variables(), description)
    if state.ema:
        save_model(folder / "model_ema", state.variables(ema=True), description)
    write_result(folder, result)
    say(f"finished: {folder / 'model'}")


def write_result(folder: pathlib.Path, result: dict[str, Any]) -> None:
    """`result.json`, in which a metric that is no finite number is null, and named in "nonfinite".

    By the first process.
    """
    if jax.process_index() == 0:
        metrics, nonfinite = as_json(result["metrics"])
        written = {**result, "metrics": metrics, **({"nonfinite": nonfinite} if nonfinite else {})}
        text = json.dumps(written, indent=2, allow_nan=False) + "\n"
        write_whole(folder / "result.json", text, durable=True)


def save_best(folder: pathlib.Path, step: int, metric: str) -> None:
    """`model_best/`: the model of a step's checkpoint; the average where the metric is of that."""
    weights = "ema" if metric.split("/")[-1].startswith("ema_") else "params"
    # From disk to the host, and only what the network needs: beside the state on the devices there
    # may be no room for another.
    found = load_checkpoint_model(folder / "checkpoints" / str(step), weights)
    save_model(folder / "model_best", *found)
    say(f"best of {metric}: step {step}, {folder / 'model_best'}")

"""A run's numbers in Weights & Biases or MLflow, beside its own files: config.log.tracker.

Where they go is said to those packages by their own variables: WANDB_MODE=offline, WANDB_PROJECT,
MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME and others.
"""

import contextlib
import importlib
import importlib.util
import json
import os
import pathlib
import secrets
from collections.abc import Mapping
from typing import Any, Protocol

from vit_jax_xfer.train.console import say
from vit_jax_xfer.whole_files import write_whole

_ID_FILE = "tracker.json"  # {tracker: the run's id there}, so that a resume goes on in it
_PROJECT = "vit_jax_xfer"


class Tracker(Protocol):
    """Where numbers of steps go."""

    def add(self, step: int, kind: str, numbers: Mapping[str, float]) -> None:
        """Numbers of a step under the names "kind/name"."""

    def close(self) -> None:
        """Sends what is left."""


def check_tracker(name: str) -> None:
    """ValueError, naming the field, for a tracker that there is not, or not installed."""
    if not name:
        return
    if name not in _TRACKERS:
        known = ", ".join(map(repr, ("", *_TRACKERS)))
        raise ValueError(f"log.tracker: {name!r} is none of {known}")
    if importlib.util.find_spec(name) is None:
        raise ValueError(
            f"log.tracker: {name} is not installed: pip install 'vit_jax_xfer[{name}]'"
        )


def open_tracker(name: str, folder: pathlib.Path, config: Mapping[str, Any]) -> Tracker | None:
    """The run's tracker, which goes on with what an earlier start of the folder began there.

    config: every field of the run, "optim.lr": 0.1. None for the name "". A tracker that fails is
    told of and let go; the run goes on.
    """
    if not name:
        return None
    kept = folder / _ID_FILE
    ids = _ids(kept)
    with _survived(name) as failed:
        tracker = _TRACKERS[name](folder, config, ids.get(name))
        ids[name] = tracker.id
        write_whole(kept, json.dumps(ids) + "\n")
    return None if failed else _Survivor(name, tracker)


def _ids(kept: pathlib.Path) -> dict[str, str]:
    """The runs' ids, by tracker. ValueError where the file isn't what a run wrote."""
    if not kept.is_file():
        return {}
    try:
        ids = json.loads(kept.read_text())
    except ValueError:
        ids = None
    if not isinstance(ids, dict) or not all(isinstance(one, str) for one in ids.values()):
        raise ValueError(f"{kept}: is not what a run wrote; remove it, and the tracker begins anew")
    return ids


class _Wandb:
    def __init__(self, folder: pathlib.Path, config: Mapping[str, Any], known: str | None):
        self.id = known or secrets.token_hex(4)
        self._run = importlib.import_module("wandb").init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            name=folder.name,
            id=self.id,
            resume="allow",
            dir=str(folder),
            config=dict(config),
        )

    def add(self, step: int, kind: str, numbers: Mapping[str, float]) -> None:
        self._run.log({f"{kind}/{name}": value for name, value in numbers.items()}, step=step)

    def close(self) -> None:
        self._run.finish()


class _MLflow:
    _LONGEST = 500  # letters of a parameter's value

    def __init__(self, folder: pathlib.Path, config: Mapping[str, Any], known: str | None):
        self._mlflow = mlflow = importlib.import_module("mlflow")
        if known is None and "MLFLOW_EXPERIMENT_NAME" not in os.environ:
            mlflow.set_experiment(_PROJECT)
        run = mlflow.start_run(run_id=known, run_name=None if known else folder.name)
        self.id = run.info.run_id
        if known is None:
            mlflow.log_params({name: str(x)[: self._LONGEST] for name, x in config.items()})

    def add(self, step: int, kind: str, numbers: Mapping[str, float]) -> None:
        named = {f"{kind}/{name}": value for name, value in numbers.items()}
        self._mlflow.log_metrics(named, step=step)

    def close(self) -> None:
        self._mlflow.end_run()


_TRACKERS: dict[str, Any] = {"wandb": _Wandb, "mlflow": _MLflow}


class _Survivor:
    """A tracker whose failure, told once, ends it alone: not the run."""

    def __init__(self, name: str, tracker: Tracker):
        self._name, self._tracker = name, tracker

    def add(self, step: int, kind: str, numbers: Mapping[str, float]) -> None:
        self._call("add", step, kind, numbers)

    def close(self) -> None:
        self._call("close")

    def _call(self, what: str, *given: Any) -> None:
        if self._tracker is None:
            return
        with _survived(self._name) as failed:
            getattr(self._tracker, what)(*given)
        if failed or what == "close":
            self._tracker = None


@contextlib.contextmanager
def _survived(name: str) -> Any:
    """Says an error of a tracker in a line, and puts it into the list that it gives."""
    failed: list[Exception] = []
    try:
        yield failed
    except Exception as error:  # of a service, its client or the network
        failed.append(error)
        first = (str(error).strip() or repr(error)).splitlines()[0]
        say(f"log.tracker: {name} failed ({first}); the run goes on without it")

"""Checkpoints of a running training, and finished models on disk. The one file that uses Orbax.

`Checkpoints` holds the states of one run: written in the background, complete or invisible, and
restored onto any mesh. `save_model` and `load_model` hold a finished model: an Orbax checkpoint
`variables/` beside a `model.json` that describes it. Both keep a checksum of each array.
"""

import contextlib
import functools
import json
import os
from collections.abc import Callable
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from vit_jax_xfer.storage import orbax_messages, tree_check
from vit_jax_xfer.storage.model_paths import (
    absolute_path,
    beside,
    complete_model,
    is_model_directory,
)
from vit_jax_xfer.storage.orbax_messages import one_line
from vit_jax_xfer.storage.processes import true_on_all, wait_for_all
from vit_jax_xfer.storage.ranking import best_first, evaluated_so, rating

PyTree = Any

orbax_messages.quiet()

# Where folders are made in the background and that fails, Orbax's threads wait for them for twenty
# minutes, and the process with them.
_ASYNC = ocp.AsyncOptions(create_directories_asynchronously=False)
# What a checkpoint has in it: some of these where its removal was cut short.
_TRACES = {"state", "extra", "checksums", "metrics", "_CHECKPOINT_METADATA", "commit_success.txt"}


class CheckpointError(RuntimeError):
    """A checkpoint could not be written, or is damaged; the message names the directory."""


class Checkpoints:
    """The checkpoints of one run: `directory/<step>` holds the state BEFORE that step.

    Writing happens in the background. A checkpoint appears under its name only when it is whole,
    so what a killed process leaves behind is never seen, and is removed at the next save. Older
    checkpoints are deleted only after the newer one is complete and has its metrics, at the next
    call that waits for it. Reading creates and removes nothing, so another process may read while
    a run is writing.

    With several processes every process must make the same calls in the same order, on a file
    system that all of them see.

    Args:
      directory: where the checkpoints are; created at the first save.
      keep_last: how many of the newest checkpoints to keep, at least 1.
      keep_best: how many of the best by `best_metric` to keep as well.
      best_metric: the name in `metrics` that ranks checkpoints (`ranking.lower_is_better` says
        which way); None: no ranking.
      evaluation: what tells one way to evaluate from another: only metrics of this one compete,
        and others' best are kept until there are enough; "": all compete.
      asynchronous: False makes `save` return only when the checkpoint is complete.

    Raises:
      ValueError: `keep_last` is below 1, or `keep_best` below 0.
      NotADirectoryError: `directory` is a file.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        *,
        keep_last: int = 1,
        keep_best: int = 1,
        best_metric: str | None = None,
        evaluation: str = "",
        asynchronous: bool = True,
    ):
        if keep_last < 1:
            raise ValueError(f"keep_last must be at least 1, not {keep_last}")
        if keep_best < 0:
            raise ValueError(f"keep_best must be at least 0, not {keep_best}")
        self.directory = absolute_path(directory)
        if self.directory.exists() and not self.directory.is_dir():
            raise NotADirectoryError(f"{self.directory} is a file, not a directory of checkpoints")
        self._best_metric, self._evaluation = best_metric, evaluation
        self._asynchronous = asynchronous
        self._keep_last = keep_last
        self._keep_best = keep_best
        self._unwritten: dict[int, dict[str, float]] = {}  # metrics of a save that may be running
        self._manager: ocp.CheckpointManager | None = None
        self._writable = False

    def steps(self) -> list[int]:
        """The steps of all complete checkpoints, ascending; waits for a write that is running."""
        self.wait()
        return list(self._open().all_steps())

    def latest_step(self) -> int | None:
        """The newest complete checkpoint, or None; waits for a write that is running."""
        return max(self.steps(), default=None)

    def best_step(self) -> int | None:
        """The checkpoint with the best `best_metric` (of equals the newest), or None."""
        return next(iter(self._ranked(self.steps())[0]), None)

    def save(
        self, step: int, state: PyTree, extra: dict, metrics: dict[str, float] | None = None
    ) -> bool:
        """Starts writing the checkpoint of `step`; a step that is there already is left alone.

        Returns when `state` has been copied to the host, so its buffers may be donated at once.

        Args:
          step: the number of the step that comes next.
          state: pytree of jax.Arrays (typed PRNG keys too), sharded in any way.
          extra: what else a resume needs (data position, clock), as JSON.
          metrics: the results of this state, if known by now (else see `rate`); must hold
            `best_metric` if that is set.

        Returns:
          Whether a checkpoint was started.

        Raises:
          TypeError, ValueError: `extra` is not JSON, or `metrics` lacks `best_metric`.
          CheckpointError: this write or the one before failed; older checkpoints are untouched.
        """
        json.dumps(extra)
        items = {
            "state": ocp.args.StandardSave(state),
            "extra": ocp.args.JsonSave(extra),
        }
        if metrics is not None:
            items["metrics"] = ocp.args.JsonSave(self._rating(metrics))
        self.wait()
        manager = self._open(write=True)
        if step in manager.all_steps():
            return False
        items["checksums"] = ocp.args.JsonSave(tree_check.checksums(state))
        args = ocp.args.Composite(**items)
        self._guard_write(functools.partial(manager.save, step, args=args, force=True))
        return True

    def rate(self, step: int, metrics: dict[str, float]) -> None:
        """Gives the checkpoint of `step` its metrics, in place of those that it may have.

        Returns at once: they are written when the checkpoint is complete, before the next save.

        Raises:
          ValueError: `metrics` lacks `best_metric`.
          CheckpointError: at the next `save`, `wait` or `close`: they could not be written.
        """
        self._unwritten[step] = self._rating(metrics)

    def restore(self, abstract_state: PyTree, step: int | None = None) -> tuple[PyTree, dict]:
        """Reads a checkpoint onto the shardings of `abstract_state`, bit for bit.

        Args:
          abstract_state: the tree of `state` with jax.ShapeDtypeStructs that carry shardings,
            over any mesh, not only the one that wrote the checkpoint.
          step: which checkpoint; None: the latest.

        Returns:
          (state, extra) as they were given to `save`.

        Raises:
          FileNotFoundError: no checkpoint there, or not of this step.
          ValueError: the checkpoint has other parameters, shapes or dtypes, or a leaf of
            `abstract_state` has no sharding.
          CheckpointError: the checkpoint is damaged. The message names the steps that remain;
            none of them is taken silently.
        """
        tree_check.require_shardings(abstract_state)
        steps = self.steps()
        step = max(steps, default=None) if step is None else step
        if step not in steps:
            what = "no complete checkpoint" if step is None else f"no checkpoint of step {step}"
            raise FileNotFoundError(f"{what} in {self.directory}; steps there: {steps or 'none'}")
        path = self.directory / str(step)
        read, failed = None, None
        try:
            read = _read_checkpoint(path, abstract_state)
        except tree_check.OtherArraysError:
            raise
        except Exception as error:  # Orbax and tensorstore raise nearly anything
            failed = error
        # Another process may have read what is damaged: then none of them takes it.
        if not true_on_all(failed is None):
            raise self._damaged(step, steps, failed or OSError("on another host")) from failed
        state, extra, sums = read
        try:
            tree_check.check_checksums(state, sums)
        except tree_check.ChecksumError as error:
            raise self._damaged(step, steps, error) from error
        return state, extra

    def extra(self, step: int) -> dict:
        """What `save` was given as `extra`, without the state. Raises as `restore` does."""
        steps = self.steps()
        if step not in steps:
            raise FileNotFoundError(f"no checkpoint of step {step} in {self.directory}")
        try:
            return _read_json(self.directory / str(step) / "extra")
        except (OSError, ValueError) as error:
            raise self._damaged(step, steps, error) from error

    def discard(self, step: int) -> int | None:
        """Removes the checkpoint of `step`, whose state has turned out to be no good.

        Unless there is no other: an older one, which this one would replace once it has its
        metrics, is still there. Returns the newest that is there now. Raises as `wait` does.
        """
        if self._manager is not None:
            self._guard_write(self._manager.wait_until_finished)
        self._unwritten.pop(step, None)
        steps = set(self._open().all_steps())
        if step in steps and len(steps) > 1:
            manager = self._open(write=True)
            self._guard_write(functools.partial(manager.delete, step))
            steps.remove(step)
        return max(steps, default=None)

    def set_aside(self, step: int) -> epath.Path:
        """Takes a checkpoint out of the steps; nothing of it is removed. Returns where it is."""
        self.wait()
        source = self.directory / str(step)
        number = 1
        while (target := self.directory / f"damaged-{step}-{number}").exists():
            number += 1
        wait_for_all(f"set_aside:{target}")  # all have found the same name
        if jax.process_index() == 0:
            source.rename(target)
        wait_for_all(f"set_aside_end:{target}")
        self._let_go()  # Orbax counts what it has seen
        return target

    def wait(self) -> None:
        """Blocks until the last save is complete; raises CheckpointError if it failed."""
        if self._manager is not None:
            self._guard_write(self._manager.wait_until_finished)
        if self._writable or self._unwritten:
            self._guard_write(self._rate_and_prune)

    def close(self) -> None:
        """Waits for the last save, then lets go of all threads; raises as `wait` does."""
        try:
            self.wait()
        finally:
            self._let_go()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _rating(self, metrics: dict[str, float]) -> dict[str, Any]:
        if self._best_metric not in (None, *metrics):
            raise ValueError(f"metrics {sorted(metrics)} lack best_metric={self._best_metric!r}")
        return rating({name: float(value) for name, value in metrics.items()}, self._evaluation)

    def _ranked(self, steps: list[int]) -> tuple[list[int], list[int]]:
        """The best first: of what was evaluated as this run does, and of what was otherwise."""
        if self._best_metric is None:
            return [], []
        found = {step: self._metrics(step) for step in steps}
        so = {step for step in found if evaluated_so(found[step], self._evaluation)}
        parts = ({step: found[step] for step in part} for part in (so, found.keys() - so))
        own, others = (best_first(part, self._best_metric) for part in parts)
        return own, others

    def _metrics(self, step: int) -> dict[str, Any]:
        path = self._metrics_path(step)
        try:
            return json.loads(path.read_text()) if path.exists() else {}
        except ValueError as error:
            raise CheckpointError(f"{path} is damaged ({one_line(error)}): remove it") from error

    def _metrics_path(self, step: int) -> epath.Path:
        # Where Orbax puts an item of this name, so that `save` and `rate` write the same file.
        return self.directory / str(step) / "metrics" / "metrics"

    def _rate_and_prune(self) -> None:
        """Writes the metrics that came after their checkpoint, then deletes what is not kept."""
        manager = self._open(write=True)
        while self._unwritten:
            step, metrics = self._unwritten.popitem()
            path = self._metrics_path(step)
            if jax.process_index() == 0:
                path.parent.mkdir(exist_ok=True)
                written = path.with_name("writing")
                written.write_text(json.dumps(metrics))
                written.replace(path)
            wait_for_all(f"metrics:{path}")
        steps = sorted(manager.all_steps())
        own, others = self._ranked(steps)
        kept = {*steps[-self._keep_last :], *[*own, *others][: self._keep_best]}
        for step in steps:
            if step not in kept:
                manager.delete(step)

    def _open(self, write: bool = False) -> ocp.CheckpointManager:
        """The Orbax manager; only the one for writing creates the directory and cleans it."""
        if self._manager is not None and (self._writable or not write):
            return self._manager
        self._let_go()
        options = ocp.CheckpointManagerOptions(
            create=write,
            cleanup_tmp_directories=write,
            enable_async_checkpointing=self._asynchronous,
            async_options=_ASYNC,
        )
        handlers = {
            "state": ocp.StandardCheckpointHandler(),
            "extra": ocp.JsonCheckpointHandler(),
            "checksums": ocp.JsonCheckpointHandler(),
            "metrics": ocp.JsonCheckpointHandler(filename="metrics"),
        }
        try:
            manager = ocp.CheckpointManager(self.directory, options=options, item_handlers=handlers)
        except Exception as error:
            message = f"cannot open the checkpoints in {self.directory}: {one_line(error)}"
            raise CheckpointError(message) from error
        if write:
            self._refuse_foreign(manager.all_steps())
        self._manager, self._writable = manager, write
        return manager

    def _refuse_foreign(self, steps: list[int]) -> None:
        # Orbax takes every directory with a number as its name for a checkpoint and would delete
        # it by age: fatal for a folder of images whose classes are called 0, 1, 2.
        for path in (self.directory / str(step) for step in steps):
            found = {child.name for child in path.iterdir()}
            if found and not found & _TRACES:
                raise CheckpointError(f"{path} is no checkpoint: move it, or save elsewhere")

    def _guard_write(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:
            # Orbax counts the checkpoint that failed as there, and its remains may fill the disk:
            # a fresh manager reads and cleans again.
            self._let_go()
            steps = list(self._open().all_steps())
            # Of what is not there, no metrics can be written: that error would hide this one.
            self._unwritten = {step: x for step, x in self._unwritten.items() if step in steps}
            raise CheckpointError(
                f"writing a checkpoint to {self.directory} failed: {one_line(error)}; "
                f"complete checkpoints there: {steps or 'none'}"
            ) from error

    def _damaged(self, step: int, steps: list[int], error: Exception) -> CheckpointError:
        others = [other for other in steps if other != step]
        rest = f"complete checkpoints of other steps there: {others or 'none'}"
        if others:
            rest += f"; to go on from step {max(others)}, remove {self.directory / str(step)}"
        return CheckpointError(
            f"checkpoint {self.directory / str(step)} is damaged or is no checkpoint "
            f"({one_line(error)}); {rest}"
        )

    def _let_go(self) -> None:
        manager, self._manager, self._writable = self._manager, None, False
        if manager is not None:
            manager.close()


def save_model(directory: str | os.PathLike, variables: PyTree, description: dict) -> None:
    """Writes a finished model: `variables/` (Orbax), `model.json` and `checksums.json`.

    The directory appears whole or not at all: it is written beside its place and renamed. A model
    that is there already stays until the new one is complete.

    Args:
      directory: the model's own directory, not one with other files in it.
      variables: nested dict of arrays (jax or numpy), sharded in any way.
      description: JSON: what is needed to build the model again.

    Raises:
      TypeError, ValueError: `description` is not JSON.
      FileExistsError: `directory` exists and is no model directory.
      CheckpointError: the write failed; an older model there is untouched.
    """
    text = json.dumps(description, indent=2) + "\n"
    target = absolute_path(directory)
    if target.exists() and not is_model_directory(target):
        raise FileExistsError(f"{target} exists and is no model directory: not overwritten")
    written, replaced = beside(target, "writing"), beside(target, "replaced")
    first = jax.process_index() == 0
    sums = {**tree_check.checksums(variables), "model.json": tree_check.sum_of_text(text)}
    wait_for_all(f"save_model_begin:{target}")
    try:
        if first:
            written.rmtree(missing_ok=True)
            written.mkdir(parents=True)
        wait_for_all(f"save_model_write:{target}")
        with ocp.StandardCheckpointer(async_options=_ASYNC) as checkpointer:
            checkpointer.save(written / "variables", variables)
        if first:
            (written / "checksums.json").write_text(json.dumps(sums) + "\n")
            (written / "model.json").write_text(text)
            if target.exists():
                replaced.rmtree(missing_ok=True)
                target.rename(replaced)
            written.rename(target)
            replaced.rmtree(missing_ok=True)
    except Exception as error:
        with contextlib.suppress(OSError):  # the disk may fail once more
            if first:
                written.rmtree(missing_ok=True)  # it may be what fills it
        raise CheckpointError(f"cannot write the model {target}: {one_line(error)}") from error
    wait_for_all(f"save_model_end:{target}")


def load_model(directory: str | os.PathLike, abstract: PyTree | None = None) -> tuple[PyTree, dict]:
    """Reads a model that `save_model` wrote, on any number of devices.

    Args:
      directory: the model directory.
      abstract: None, or a tree of jax.ShapeDtypeStructs with shardings to read straight onto a
        mesh.

    Returns:
      (variables, description): a nested dict of numpy arrays, or jax.Arrays as `abstract` asks.

    Raises:
      FileNotFoundError: `directory` is no model directory.
      ValueError: `abstract` has other parameters, shapes or dtypes than the file.
      CheckpointError: the model is damaged.
    """
    if abstract is not None:
        tree_check.require_shardings(abstract)
    source = complete_model(absolute_path(directory))
    if source is None:
        raise FileNotFoundError(f"{directory} is no model directory (model.json and variables/)")
    try:
        text = (source / "model.json").read_text()
        sums = json.loads((source / "checksums.json").read_text())
        # Version 0.1 has none of the text.
        if sums.get("model.json", tree_check.sum_of_text(text)) != tree_check.sum_of_text(text):
            raise tree_check.ChecksumError(
                "model.json has changed since it was written; if you changed it on purpose, take "
                "its line out of checksums.json"
            )
        description = json.loads(text)
        variables = read_arrays(source / "variables", abstract)
        tree_check.check_checksums(variables, sums)
    except tree_check.OtherArraysError:
        raise
    except Exception as error:
        raise CheckpointError(f"model {directory} is damaged: {one_line(error)}") from error
    return variables, description


def read_arrays(
    path: epath.Path, abstract: PyTree | None = None, only: tuple[str, ...] | None = None
) -> PyTree:
    """The arrays that Orbax wrote into a folder, unchecked.

    abstract: as for `load_model`. only: the top names of the tree to read, where it has them.
    """
    # The handler itself: a Checkpointer warns that a checkpoint's own part is no whole one.
    with contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler:
        found = handler.metadata(path).tree
        if abstract is None:
            wanted = found if only is None else {k: found[k] for k in only if found.get(k)}
            args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
        else:
            tree_check.check_same_arrays(path, found, abstract)
            wanted = abstract
            args = ocp.checkpoint_utils.construct_restore_args(abstract)
        whole = ocp.args.PyTreeRestore(wanted, args, partial_restore=only is not None)
        return handler.restore(path, args=whole)


def _read_checkpoint(path: epath.Path, abstract: PyTree) -> tuple[PyTree, dict, dict]:
    """(state, extra, checksums) of a checkpoint, unchecked, without waiting for other processes.

    OtherArraysError where it holds other arrays than `abstract`.
    """
    with contextlib.closing(ocp.StandardCheckpointHandler()) as handler:
        found = handler.metadata(path / "state").tree
        tree_check.check_same_arrays(path, found, abstract)
        wanted, absent = tree_check.fields_in(abstract, found)
        state = handler.restore(path / "state", args=ocp.args.StandardRestore(wanted))
    state = type(abstract)(**state, **absent) if absent else state
    return state, _read_json(path / "extra"), _read_json(path / "checksums")


def _read_json(item: epath.Path) -> dict:
    """What Orbax's JSON handler wrote into a folder. ValueError where it is no JSON object."""
    found = json.loads((item / "metadata").read_text())
    if not isinstance(found, dict):
        raise ValueError(f"{item.name} is no JSON object")
    return found

"""The numbers of a run, written to `metrics.jsonl` and to TensorBoard."""

import contextlib
import json
import math
import os
import pathlib
import time
from collections.abc import Iterable, Mapping
from typing import Literal, Self

import jax

from vit_jax_xfer.train.event_file import EventFile
from vit_jax_xfer.train.tracker import Tracker
from vit_jax_xfer.whole_files import write_whole

FILE_NAME = "metrics.jsonl"

Row = dict


class MetricWriter:
    """Appends the metrics of a run to `workdir/metrics.jsonl` and to `workdir/tensorboard`.

    One JSON object a line, flushed at once, so that `kill -9` can cut only the last line:
    {"step": 3, "time": 1722500000.0, "kind": "train", "values": {"loss": 1.5}}. A NaN or an
    infinity, which JSON lacks, is null, and its name is in one more field "nonfinite".

    Steps count as in the checkpoints: a "train" row of step s comes from step s itself, an "eval"
    row of step s describes the state before step s. A resume at step i therefore drops "train"
    rows with step >= i, which will be written again, and "eval" rows with step > i. An "eval" row
    at i is still true of the restored state and stays; if it is written again, `read_metrics`
    takes the newer one. With `resume_step=0` the run begins anew and so does the file.

    Args:
      workdir: the directory of the run; created if missing.
      tracker: where they go as well (tracker.py), None = nowhere; it is closed with the files.
      tensorboard: whether to write TensorBoard events as well, with tags "train/loss".
      enabled: False (every process but the first) writes and creates nothing.
      resume_step: the step of the restored checkpoint; 0 for a fresh run.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        tensorboard: bool = True,
        enabled: bool = True,
        resume_step: int = 0,
        tracker: Tracker | None = None,
    ):
        self._file = self._events = None
        self._tracker = tracker
        if not enabled:
            return
        workdir = pathlib.Path(workdir)
        workdir.mkdir(parents=True, exist_ok=True)
        path = workdir / FILE_NAME
        kept = [row for row in _parse(path) if _outlives_resume(row, resume_step)]
        _replace(path, kept)
        self._file = path.open("a", encoding="utf-8")
        if tensorboard:
            self._events = _open_events(workdir / "tensorboard", kept, resume_step)

    def write(
        self,
        step: int,
        values: Mapping[str, float],
        kind: Literal["train", "eval"] = "train",
    ) -> None:
        """Writes one row; waits for the device where a value is still being computed.

        Args:
          step: the step that the values belong to (see the class).
          values: name to scalar: float, numpy or jax.
          kind: "train" or "eval".
        """
        if self._file is None:
            return
        # One transfer for all, and an explicit one: a training loop may forbid implicit ones.
        fetched = jax.device_get(dict(values))
        numbers = {name: float(value) for name, value in fetched.items()}
        finite, others = as_json(numbers)
        row = {"step": int(step), "time": time.time(), "kind": kind, "values": finite}
        if others:
            row["nonfinite"] = others
        try:
            self._file.write(_to_line(row))
            self._file.flush()
            if self._events is not None:
                self._events.add(row["step"], kind, numbers)
                if kind == "eval":
                    self._events.flush()
        except OSError as error:  # which does not say of which file
            raise OSError(error.errno, error.strerror, self._file.name) from error
        if self._tracker is not None:
            self._tracker.add(row["step"], kind, numbers)

    def picture(self, step: int, tag: str, png: bytes, size: tuple[int, int]) -> None:
        """Shows a PNG of (height, width) pixels in TensorBoard, where there is one."""
        if self._events is None:
            return
        try:
            self._events.add_picture(step, tag, png, size)
        except OSError as error:
            raise OSError(error.errno, error.strerror, "tensorboard") from error

    def close(self) -> None:
        """Closes all; `write` after that does nothing."""
        sinks = (self._tracker, self._events, self._file)
        self._tracker = self._file = self._events = None
        with contextlib.ExitStack() as closing:  # all, whichever can't be written to its end
            for sink in sinks:
                if sink is not None:
                    closing.callback(sink.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def as_json(values: Mapping[str, float]) -> tuple[dict[str, float | None], list[str]]:
    """(values as JSON has them: null for NaN and infinities, which it lacks; their names)."""
    finite = {name: x if math.isfinite(x) else None for name, x in values.items()}
    return finite, [name for name, x in finite.items() if x is None]


def read_metrics(workdir: str | os.PathLike) -> list[Row]:
    """The rows of `workdir/metrics.jsonl` in the order of writing.

    A line that was cut off while being written is left out. Of several rows with the same step,
    kind and names only the newest is returned.

    Returns:
      Dicts with "step", "time", "kind", "values" (name to float, None if not finite) and, where a
      value is not finite, "nonfinite"; [] if there is no file.

    Raises:
      ValueError: a line before the last is no JSON object of this form.
    """
    rows: dict[tuple, Row] = {}
    for row in _parse(pathlib.Path(workdir) / FILE_NAME):
        rows[row["step"], row["kind"], tuple(sorted(row["values"]))] = row
    return list(rows.values())


def _parse(path: pathlib.Path) -> list[Row]:
    if not path.exists():
        return []
    *lines, rest = path.read_text(encoding="utf-8", errors="replace").split("\n")
    # Whatever follows the last line break was cut off, even if it happens to be JSON ("1" of
    # "12"), and nobody has read it as a finished row.
    del rest
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            row["step"], row["kind"], row["values"]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path}, line {number} is no metrics row: {line[:80]!r}") from error
        rows.append(row)
    return rows


def _outlives_resume(row: Row, resume_step: int) -> bool:
    if resume_step == 0:
        return False
    return row["step"] < resume_step or (row["kind"] == "eval" and row["step"] == resume_step)


def _replace(path: pathlib.Path, rows: Iterable[Row]) -> None:
    write_whole(path, "".join(_to_line(row) for row in rows), durable=True)


def _to_line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def _open_events(directory: pathlib.Path, kept: Iterable[Row], resume_step: int) -> EventFile:
    events = EventFile(directory, resume_step)
    for row in kept:
        if row["step"] == resume_step:
            numbers = {name: x for name, x in row["values"].items() if x is not None}
            events.add(row["step"], row["kind"], numbers)
    return events

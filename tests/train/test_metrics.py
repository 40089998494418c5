"""Metrics: strict JSON lines, whole after a kill, and no row twice after a resume."""

import errno
import json
import math
import os

import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.train import metrics
from vit_jax_xfer.train.metrics import MetricWriter, read_metrics


def lines_of(workdir) -> list[str]:
    return (workdir / metrics.FILE_NAME).read_text().splitlines()


def steps_of(workdir) -> list[tuple[str, int]]:
    return [(row["kind"], row["step"]) for row in read_metrics(workdir)]


def write_run(workdir, steps, resume_step=0) -> None:
    """A loop that evaluates every 2 steps, before the step, and again at the end."""
    with MetricWriter(workdir, tensorboard=False, resume_step=resume_step) as writer:
        for step in steps:
            if step % 2 == 0:
                writer.write(step, {"top1": step / 10}, "eval")
            writer.write(step, {"loss": 1 / (step + 1)})


def test_rows_are_flushed_json_lines(tmp_path):
    with MetricWriter(tmp_path / "new" / "run", tensorboard=False) as writer:
        writer.write(3, {"loss": jnp.float32(1.5), "lr": np.float64(0.1)})
        (line,) = lines_of(tmp_path / "new" / "run")
    row = json.loads(line)
    assert (row["step"], row["kind"]) == (3, "train")
    assert row["values"] == {"loss": 1.5, "lr": 0.1}
    assert abs(row["time"] - 1.7e9) < 1e9
    assert "nonfinite" not in row


def test_nan_and_infinity_are_strict_json(tmp_path):
    with MetricWriter(tmp_path, tensorboard=False) as writer:
        writer.write(0, {"loss": math.nan, "norm": -math.inf, "lr": 0.5})

    def refuse(constant):
        raise AssertionError(constant)

    row = json.loads(lines_of(tmp_path)[0], parse_constant=refuse)
    assert row["values"] == {"loss": None, "norm": None, "lr": 0.5}
    assert row["nonfinite"] == ["loss", "norm"]


def test_disabled_writes_nothing(tmp_path):
    with MetricWriter(tmp_path / "run", enabled=False) as writer:
        writer.write(0, {"loss": 1.0})
    assert list(tmp_path.iterdir()) == []
    assert read_metrics(tmp_path / "run") == []


def test_resumed_run_has_the_rows_of_a_straight_one(tmp_path):
    write_run(tmp_path / "straight", range(8))
    write_run(tmp_path / "killed", range(7))  # checkpoint at 4, killed after step 6
    write_run(tmp_path / "killed", range(4, 8), resume_step=4)
    assert sorted(steps_of(tmp_path / "killed")) == sorted(steps_of(tmp_path / "straight"))
    # Another checkpoint cadence: the restored step has been evaluated, and is not again.
    write_run(tmp_path / "other", range(7))
    write_run(tmp_path / "other", [], resume_step=6)
    assert ("eval", 6) in steps_of(tmp_path / "other")
    assert ("train", 6) not in steps_of(tmp_path / "other")


def test_newer_row_replaces_older_with_the_same_names(tmp_path):
    with MetricWriter(tmp_path, tensorboard=False) as writer:
        writer.write(2, {"top1": 0.1}, "eval")
        writer.write(2, {"other/top1": 0.2}, "eval")
        writer.write(2, {"top1": 0.3}, "eval")
    assert [row["values"] for row in read_metrics(tmp_path)] == [
        {"top1": 0.3},
        {"other/top1": 0.2},
    ]


def test_fresh_run_begins_a_fresh_file(tmp_path):
    write_run(tmp_path, range(3))
    write_run(tmp_path, range(1))
    assert steps_of(tmp_path) == [("eval", 0), ("train", 0)]


@pytest.mark.parametrize("kept", range(1, 30, 7))
def test_line_cut_by_a_kill_is_dropped(tmp_path, kept):
    write_run(tmp_path, [1, 3, 5])
    path = tmp_path / metrics.FILE_NAME
    whole = path.read_text()
    path.write_text(whole + whole.splitlines()[-1][:kept])
    assert steps_of(tmp_path) == [("train", 1), ("train", 3), ("train", 5)]
    write_run(tmp_path, [7], resume_step=6)
    assert [json.loads(line)["step"] for line in lines_of(tmp_path)] == [1, 3, 5, 7]
    assert [file.name for file in tmp_path.iterdir()] == [metrics.FILE_NAME]


def test_foreign_line_is_named(tmp_path):
    write_run(tmp_path, [1])
    path = tmp_path / metrics.FILE_NAME
    path.write_text(path.read_text() + "[1]\n" + path.read_text())
    with pytest.raises(ValueError, match=r"metrics.jsonl, line 2 is no metrics row"):
        read_metrics(tmp_path)


def test_tensorboard_events(tmp_path):
    for resume_step in (0, 1):
        with MetricWriter(tmp_path, resume_step=resume_step) as writer:
            writer.write(resume_step, {"loss": 0.5}, "train")
            writer.write(1, {"top1": math.nan}, "eval")
    files = list((tmp_path / "tensorboard").iterdir())
    written = b"".join(file.read_bytes() for file in files)
    assert b"train/loss" in written and b"eval/top1" in written


def test_a_disk_without_room_for_events_is_an_error_and_no_wait(tmp_path, monkeypatch):
    """Of every number written until it shows: a queue before a writer that is dead fills up."""

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = MetricWriter(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        for step in range(50):
            writer.write(step, {"loss": 1.0}, kind="eval")
    with pytest.raises(OSError, match="No space left"):
        writer.close()
    assert len(read_metrics(tmp_path)) == 1

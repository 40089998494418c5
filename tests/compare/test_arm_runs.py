"""Runs one after the other by a made-up training: resumed, refused, failed, stopped."""

import gc
import json
import os
import pathlib
import re
import weakref

import pytest

from vit_jax_xfer.compare import to_report
from vit_jax_xfer.compare.arm_runs import Stopped, run_arms, seconds_left
from vit_jax_xfer.compare.arms import Arm, parse_arms
from vit_jax_xfer.compare.comparison import ComparedImages, Comparison
from vit_jax_xfer.terminal import STOPPED
from vit_jax_xfer.train.memory_end import OutOfMemory
from vit_jax_xfer.train.stopping import NonFiniteLoss
from vit_jax_xfer.train.workdir import claim_workdir

ARMS = "scratch,finetune,distill,ensemble"


class Training:
    """In place of `train.loop.run`: leaves what a run leaves, and notes which there were."""

    def __init__(self, stops_at="", fails_at="", error=None):
        self.folders, self.stops_at, self.fails_at = [], stops_at, fails_at
        self.error = error or NonFiniteLoss(3, "loss is nan")

    def __call__(self, config, folder):
        claim_workdir(folder, config)
        self.folders.append(folder.name)
        if folder.name == self.fails_at:
            raise self.error
        finished = folder.name != self.stops_at
        result = {"finished": finished, "step": 9, "seconds": 2.0, "metrics": {"top1": 0.5}}
        if finished:
            (folder / "result.json").write_text(json.dumps(result))
        return result


def compare(
    root: pathlib.Path,
    train,
    *,
    seeds=2,
    labels=3,
    arms=ARMS,
    done=lambda results: None,
    teacher="mae/model",
):
    images = ComparedImages("digits", labels)
    comparison = Comparison(root, parse_arms(arms), seeds, images, teacher, 70)
    return run_arms(comparison, done, train)


def test_all_arms_run_once_and_a_second_call_reads_them(tmp_path, capsys):
    train, seen = Training(), []
    results, failed = compare(
        tmp_path, train, done=lambda found: seen.append(sum(map(len, found.values())))
    )
    names = ("scratch", "fine-tune", "attention_distill", "ensemble")
    assert train.folders == [f"{name}_seed{seed}" for seed in range(2) for name in names]
    assert not failed and seen == list(range(1, 9))
    assert [run["seed"] for run in results[Arm("distill")]] == [0, 1]
    said = capsys.readouterr().out
    first = r"--- 1 of 8, scratch_seed0: scratch:digits,labels=3,seed=0  elapsed \d+s\n"
    last = r"--- 8 of 8, ensemble_seed1: ensemble:digits  elapsed \d+s  ETA \d+s\n"
    assert re.search(first, said) and re.search(last, said)
    again = Training()
    read, _ = compare(tmp_path, again)
    assert again.folders == [] and read[Arm("ensemble")][1]["metrics"] == {"top1": 0.5}
    assert "--- 8 of 8, ensemble_seed1: finished already" in capsys.readouterr().out
    more = Training()
    compare(tmp_path, more, seeds=3, arms=f"{ARMS},copy")
    assert more.folders == ["attention_copy_seed0", "attention_copy_seed1"] + [
        f"{name}_seed2" for name in ("scratch", "fine-tune", "attention_distill", "attention_copy",
                                     "ensemble")
    ]  # fmt: skip


def test_a_result_older_than_the_models_it_is_of_is_made_again(tmp_path):
    compare(tmp_path, Training(), seeds=1)
    os.utime(tmp_path / "ensemble_seed0" / "result.json", (0, 0))
    again = Training()
    compare(tmp_path, again, seeds=1)
    assert again.folders == ["ensemble_seed0"]


def test_a_result_that_a_power_cut_emptied_is_made_again(tmp_path):
    compare(tmp_path, Training(), seeds=1, arms="scratch,copy")
    (tmp_path / "scratch_seed0" / "result.json").write_text("")
    again = Training()
    results, _ = compare(tmp_path, again, seeds=1, arms="scratch,copy")
    assert again.folders == ["scratch_seed0"] and len(results[Arm("copy")]) == 1


def test_other_arguments_are_refused_before_anything_runs(tmp_path):
    compare(tmp_path, Training(), arms="scratch")
    again = Training()
    with pytest.raises(ValueError, match=r"scratch_seed0 was made with other arguments \(data.per"):
        compare(tmp_path, again, labels=4, arms="finetune,scratch")
    assert again.folders == []


def test_runs_look_themselves_at_a_teacher_that_has_moved(tmp_path):
    """Those that begin or learn with it; what is finished goes on from its last state."""
    compare(tmp_path, Training(), seeds=1, arms="scratch,finetune,copy")
    again = Training()
    compare(tmp_path, again, seeds=1, arms="scratch,finetune,copy", teacher="moved/model")
    assert again.folders == ["fine-tune_seed0", "attention_copy_seed0"]
    once_more = Training()
    compare(tmp_path, once_more, seeds=1, arms="scratch,finetune,copy", teacher="moved/model")
    assert once_more.folders == []


def test_a_stop_ends_all_and_the_next_call_goes_on(tmp_path):
    with pytest.raises(Stopped):
        compare(tmp_path, Training(stops_at="fine-tune_seed0"), seeds=1)
    again = Training()
    compare(tmp_path, again, seeds=1)
    assert again.folders == ["fine-tune_seed0", "attention_distill_seed0", "ensemble_seed0"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (NonFiniteLoss(3, "loss is nan"), "loss is nan at step 3"),
        (OutOfMemory("out of memory: a smaller batch_size"), "out of memory: a smaller batch_size"),
    ],
)
def test_a_run_that_fails_alone_fails_with_those_that_need_it(tmp_path, error, told):
    train = Training(fails_at="fine-tune_seed0", error=error)
    results, failed = compare(tmp_path, train)
    assert list(failed) == ["fine-tune_seed0", "ensemble_seed0"]
    assert failed["ensemble_seed0"] == "it needs the model of fine-tune_seed0"
    assert told in failed["fine-tune_seed0"]
    assert [run["seed"] for run in results[Arm("finetune")]] == [1]
    assert len(results[Arm("scratch")]) == 2


class Arrays:
    """What a run holds."""


def test_a_run_that_failed_holds_no_memory_while_the_next_one_runs(tmp_path):
    held, alive, usual = [], [], Training()

    def train(config, folder):
        if not held:
            arrays = Arrays()
            held.append(weakref.ref(arrays))
            raise OutOfMemory("out of memory")
        alive.append(held[0]() is not None)
        return usual(config, folder)

    gc.disable()  # which would find what holds itself, some time
    try:
        _, failed = compare(tmp_path, train, arms="scratch,copy", seeds=1)
    finally:
        gc.enable()
    assert list(failed) == ["scratch_seed0"] and alive == [False]


def test_time_left_is_by_what_the_same_arm_took():
    scratch, copy, distill = (Arm(name) for name in ("scratch", "copy", "distill"))
    planned = [(distill, 0), (scratch, 1), (copy, 1), (distill, 1)]
    results = {scratch: [{"wall": 10.0}, {"wall": 20.0}], copy: [{"wall": 35.0}], distill: []}
    assert seconds_left(planned, results) == 25 + 15 + 35 + 25
    assert seconds_left(planned, {scratch: []}) is None


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OutOfMemory("out of memory (x): smaller"), "error: out of memory (x): smaller\n"),
        (MemoryError("9 TiB"), "error: out of memory (9 TiB)\n"),
        (RuntimeError("std::bad_alloc"), "error: out of memory (std::bad_alloc)\n"),
    ],
)
def test_no_memory_for_what_is_of_no_arm(error, told, capsys):
    """The quickstart's teacher, say, or the report's pictures."""

    def action():
        raise error

    assert to_report.run_stoppable(action) == 1
    assert capsys.readouterr().err == told


def test_an_error_that_nobody_expects_is_shown_whole():
    def action():
        raise RuntimeError("another thing")

    with pytest.raises(RuntimeError, match="another thing"):
        to_report.run_stoppable(action)


def test_standard_files_are_opened_before_an_action_and_emptied_after_it(monkeypatch):
    """Where a command began with a closed one, `>&-`; compare and quickstart are such actions."""
    seen = []
    for name in ("occupy", "settle"):
        monkeypatch.setattr(to_report, name, lambda name=name: seen.append(name))

    def action():
        seen.append("action")
        return {}

    def fail():
        raise KeyboardInterrupt

    assert [to_report.run_stoppable(one) for one in (action, fail)] == [0, STOPPED]
    assert seen == ["occupy", "action", "settle", "occupy", "settle"]

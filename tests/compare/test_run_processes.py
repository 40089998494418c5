"""Runs beside each other: who waits for whom, what ends all, and processes that are left alone."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import BrokenExecutor

import pytest

from tests.compare.test_arm_runs import ARMS, Training
from tests.runs import save_teacher
from vit_jax_xfer.compare import arm_runs, run_processes
from vit_jax_xfer.compare.arm_runs import Stopped, run_arms
from vit_jax_xfer.compare.arms import Arm, parse_arms
from vit_jax_xfer.compare.comparison import ComparedImages, Comparison
from vit_jax_xfer.train.stopping import NonFiniteLoss


class Threads:
    """In place of processes: a made-up training in threads, with what began and ended when."""

    def __init__(self, train):
        self.told, self.most, self.order = threading.Event(), 0, []
        self._train, self._going, self._lock = train, 0, threading.Lock()

    def __call__(self, number):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.stop()

    def train(self, config, folder):
        with self._lock:
            self._going += 1
            self.most = max(self.most, self._going)
            self.order.append(("begin", folder.name))
        time.sleep(0.05)
        try:
            return self._train(config, folder)
        finally:
            with self._lock:
                self._going -= 1
                self.order.append(("end", folder.name))

    def stop(self):
        self.told.set()


@pytest.fixture
def beside(monkeypatch, tmp_path):
    """beside(train, at_once, seeds=…): runs by a made-up training, in threads."""

    def compare(train, at_once=2, seeds=2, arms=ARMS):
        threads = Threads(train)
        monkeypatch.setattr(arm_runs, "RunProcesses", threads)
        monkeypatch.setattr(arm_runs, "_POLL", 0.01)
        images = ComparedImages("digits", 3)
        comparison = Comparison(tmp_path, parse_arms(arms), seeds, images, "mae/model", 70)
        threads.found = lambda: run_arms(comparison, at_once=at_once)
        return threads

    return compare


@pytest.mark.parametrize("at_once", [2, 3, 8])
def test_so_many_go_at_once_and_each_after_the_models_that_it_needs(beside, at_once, capsys):
    threads = beside(Training(), at_once)
    results, failed = threads.found()
    assert not failed and threads.most == min(at_once, 6)  # of 8 two wait for others
    assert [[one["seed"] for one in runs] for runs in results.values()] == [[0, 1]] * 4
    for seed in (0, 1):
        begin = threads.order.index(("begin", f"ensemble_seed{seed}"))
        for name in ("fine-tune", "attention_distill"):
            assert threads.order.index(("end", f"{name}_seed{seed}")) < begin
    said = capsys.readouterr().out
    assert all(f"--- {number} of 8, " in said for number in range(1, 9))


def test_a_task_is_compiled_before_two_of_its_runs_go_beside_each_other(beside):
    threads = beside(Training(), arms="scratch,finetune,copy,distill")
    threads.found()
    assert {name for _, name in threads.order[:2]} == {"scratch_seed0", "attention_copy_seed0"}
    for first, second in (("scratch", "fine-tune"), ("attention_copy", "attention_distill")):
        end, begin = ("end", f"{first}_seed0"), ("begin", f"{second}_seed0")
        assert threads.order.index(end) < threads.order.index(begin)


def test_results_are_in_the_order_of_seeds_whoever_is_first(beside):
    class Slow(Training):
        def __call__(self, config, folder):
            time.sleep(0.3 if folder.name == "scratch_seed0" else 0)
            return super().__call__(config, folder)

    threads = beside(Slow(), arms="scratch")
    results, _ = threads.found()
    assert threads.order.index(("end", "scratch_seed1")) < threads.order.index(
        ("end", "scratch_seed0")
    )
    assert [one["seed"] for one in results[Arm("scratch")]] == [0, 1]


def test_a_run_that_fails_takes_those_that_need_it_alone(beside):
    results, failed = beside(Training(fails_at="fine-tune_seed0")).found()
    assert list(failed) == ["fine-tune_seed0", "ensemble_seed0"]
    assert len(results[Arm("scratch")]) == 2 and len(results[Arm("ensemble")]) == 1


def test_one_that_stops_ends_all(beside):
    threads = beside(Training(stops_at="scratch_seed0"))
    with pytest.raises(Stopped):
        threads.found()
    assert threads.told.is_set() and len(threads.order) <= 6


def test_an_error_of_one_ends_the_others_at_once(beside):
    heard = []

    def train(config, folder):
        if folder.name == "scratch_seed0":
            raise ValueError("optim.lr: wrong")
        heard.append(threads.told.wait(5))
        return {"finished": False}

    threads = beside(train)
    with pytest.raises(ValueError, match="optim.lr: wrong"):
        threads.found()
    assert heard == [True]


def test_a_process_that_was_killed_is_told_of(beside):
    def train(config, folder):
        raise BrokenExecutor

    with pytest.raises(ValueError, match=r"_seed0: its process was killed.*--at-once 1"):
        beside(train).found()


def test_processors_are_shared_out(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {7, 1, 2, 4, 5})
    assert run_processes._shares(2) == [(1, 2), (4, 5)]
    assert run_processes._shares(5) == [(1,), (2,), (4,), (5,), (7,)]
    assert run_processes.usual_number() == 4
    with pytest.raises(ValueError, match="--at-once: 6 runs need as many processors, and 5 are"):
        run_processes._shares(6)
    monkeypatch.setattr(run_processes.jax, "default_backend", lambda: "gpu")
    assert run_processes.usual_number() == 1
    with pytest.raises(ValueError, match="--at-once: 2 runs can't share the gpu; give --at-once 1"):
        run_processes._shares(2)


def test_a_loss_that_is_no_number_goes_from_process_to_process():
    kind, given = NonFiniteLoss(3, "loss is nan", "step 1 is intact").__reduce__()
    assert str(kind(*given)) == str(NonFiniteLoss(3, "loss is nan", "step 1 is intact"))


def begin(root, steps):
    """A comparison of two runs beside each other, once both have begun to train."""
    command = [sys.executable, "-m", "vit_jax_xfer.compare", "--data=digits", "--seeds=2"]
    command += [f"--teacher={save_teacher(root)}", "--arms=scratch", f"--out={root}", "--at-once=2"]
    command += [f"--steps={steps}", "--config.log.progress_seconds=0.1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said, begun = "", set()
    for line in process.stdout:
        said += line
        if "img/s" in line:
            begun.add(line.partition(":")[0])
        if len(begun) == 2:
            return process
    raise AssertionError(said)


def steps_of(root):
    """The newest checkpoint of each run."""
    folders = [root / f"scratch_seed{seed}" / "checkpoints" for seed in (0, 1)]
    return [max((int(x.name) for x in one.iterdir() if x.name.isdigit()), default=0)
            for one in folders if one.is_dir()]  # fmt: skip


def test_a_stop_and_a_kill_leave_saved_runs_and_no_process(tmp_path: pathlib.Path):
    """Asked to stop they save; where the command is killed, they notice that they are alone."""
    process = begin(tmp_path, 100_000)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 143 and "the same command goes on from there" in said
    stopped = steps_of(tmp_path)
    assert len(stopped) == 2 and min(stopped) > 0
    process = begin(tmp_path, 100_000)
    process.kill()
    process.communicate(timeout=60)  # the outputs end once the last process that has them does
    assert all(new > old for new, old in zip(steps_of(tmp_path), stopped, strict=True))

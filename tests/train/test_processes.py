"""Two processes on one machine: they train, stop together, go on, and equal a single one."""

import re
import signal
import time

import jax
import pytest

from tests.runs import (
    assert_close_runs,
    command,
    finish,
    losses,
    one_device_mesh,
    pair_of,
    save_teacher,
    start,
    tiny_config,
)
from vit_jax_xfer.train import loop
from vit_jax_xfer.train.sharding import make_mesh

NAME = "attention_distill"  # with a teacher, whose weights both processes place
STEPS = 60
FIELDS = {
    "steps": STEPS,
    "checkpoint__every": 20,
    "checkpoint__keep_last": 2,
    "mesh__data": 2,
    "mesh__fsdp": 2,
    "mesh__fsdp_min_elements": 64,
    "log__progress_seconds": 0.0,
}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """{the field of the teacher: the model folder of a tiny masked autoencoder}."""
    return {"task__teacher": save_teacher(tmp_path_factory.mktemp("mae"))}


def both(workdir, name=NAME, **fields):
    """Two processes with two devices each, on the same work folder."""
    arguments = command(name, workdir, **{**FIELDS, **fields})

    def of(address, index):
        return [*arguments, f"--coordinator={address}", "--processes=2", f"--process={index}"]

    return pair_of(of)


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory, teacher):
    """A run of both, which a signal to the second alone stopped, and then to its end."""
    folder = tmp_path_factory.mktemp("two")
    with both(folder, **teacher) as pair:
        for _ in range(1200):
            if any(path.name.isdigit() for path in folder.glob("checkpoints/*")):
                break
            time.sleep(0.05)
        pair[1].send_signal(signal.SIGTERM)
        stopped = [finish(process) for process in pair]
    left = sorted(int(path.name) for path in folder.glob("checkpoints/*") if path.name.isdigit())
    with both(folder, **teacher) as pair:
        ended = [finish(process) for process in pair]
    return folder, stopped, left, ended


@pytest.fixture(scope="module")
def one_device(tmp_path_factory, teacher):
    """The same run in this process on a single device."""
    folder = tmp_path_factory.mktemp("one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_mesh", one_device_mesh)
        loop.run(tiny_config(NAME, **FIELDS, **teacher), folder)
    return folder


def test_a_signal_to_one_stops_both_with_one_checkpoint(two_processes):
    _, stopped, left, _ = two_processes
    assert [process.code for process in stopped] == [143, 143], stopped
    assert 0 < left[-1] < STEPS


def test_both_go_on_to_the_end_and_one_of_them_talks(two_processes):
    folder, _, left, ended = two_processes
    assert [process.code for process in ended] == [0, 0], ended
    assert f"resuming at step {left[-1]}" in ended[0].out
    assert f"step {STEPS}/{STEPS} evaluation" in ended[0].out
    # Gloo itself talks, from threads that cut each other's lines, so its lines can't be counted.
    assert not re.search("step|parameters|sharding|resuming|finished", ended[1].out), ended[1].out
    assert (folder / "model" / "model.json").is_file()


def test_stopped_and_gone_on_with_they_equal_one_device(two_processes, one_device):
    assert_close_runs(two_processes[0], one_device, STEPS)


def test_a_single_process_goes_on_from_the_checkpoint_of_two(two_processes, teacher, capsys):
    folder = two_processes[0]
    before = losses(folder)
    fields = {**FIELDS, **teacher, "steps": STEPS + 3, "mesh__data": 4}
    loop.run(tiny_config(NAME, **fields), folder)
    assert f"resuming at step {STEPS}" in capsys.readouterr().out
    assert losses(folder)[:STEPS] == before and len(losses(folder)) == STEPS + 3


def test_a_mesh_that_gives_a_process_no_images_of_its_own(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match="mesh: data × fsdp = 1 must be a multiple of the 2 proc"):
        make_mesh(1, 1, 8)


def test_mesh_and_flags_that_do_not_go_with_the_processes(tmp_path):
    ended = finish(start([*command("scratch", tmp_path / "run"), "--processes=2"]))
    assert ended.code == 1
    assert ended.err == "error: --coordinator, --processes and --process go together\n"
    fields = {"mesh__data": 1, "mesh__fsdp": 1, "mesh__tensor": 4}
    with both(tmp_path / "run", "scratch", **fields) as pair:
        first, second = (finish(process) for process in pair)
    assert (first.code, second.code) == (1, 1)
    assert "error: mesh: data × fsdp = 1 must be a multiple of the 2 processes" in first.err
    assert not (tmp_path / "run").exists()

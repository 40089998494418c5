"""Two processes train as one device does, with and without a teacher, and go on after a kill."""

import json
import signal
import sys

import pytest

from tests.runs import (
    HALF,
    STEPS,
    TRANSFERS,
    assert_close_runs,
    assert_same_bits,
    checkpoint_arrays,
    finish,
    half_way,
    one_device_mesh,
    pair_of,
    rows,
    save_teacher,
    tiny_config,
)
from vit_jax_xfer.train import loop

KILLED, STOPPED = "attention_distill", ("scratch", "attention_copy")
MESH = {"mesh__data": 2, "mesh__fsdp": 2, "mesh__fsdp_min_elements": 64}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A teacher, and each run on one device."""
    folder = tmp_path_factory.mktemp("runs")
    save_teacher(folder / "mae")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_mesh", one_device_mesh)
        for name in TRANSFERS:
            loop.run(tiny_config(name, **fields(folder, name)), folder / "one" / name)
    return folder


def fields(folder, name):
    given = {} if name == "scratch" else {"task__teacher": str(folder / "mae" / "model")}
    return {**given, **TRANSFERS[name]}


def turn(folder, part, name, **more):
    """An entry for tests/runs_in_turn.py: a run on the mesh of both, in folder/part/name."""
    given = {**fields(folder, name), **MESH}
    return {"name": name, "workdir": str(folder / part / name), "fields": given, **more}


def run_in_turn(entries):
    """What both processes left."""
    command = [sys.executable, "-m", "tests.runs_in_turn"]
    text = json.dumps(entries)
    with pair_of(lambda address, index: [*command, address, "2", str(index), text]) as pair:
        return [finish(process, timeout=300) for process in pair]


@pytest.fixture(scope="module")
def straight(folder):
    """Each run by both in one go; at the end they are killed within a distillation."""
    killed = turn(folder, "killed", KILLED, kill_at=STEPS - 1)
    killed["fields"]["checkpoint__every"] = 1  # the second waits until the first is complete
    ended = run_in_turn([*(turn(folder, "both", name) for name in TRANSFERS), killed])
    assert -signal.SIGKILL in [process.code for process in ended], ended
    assert not any(process.code == 0 for process in ended), ended
    return folder


@pytest.fixture(scope="module")
def gone_on_with(straight):
    """Both again, new ones, from where the runs were half way or killed; and what they said."""
    for name in STOPPED:
        half_way(straight / "both" / name, straight / "stopped" / name, HALF)
    entries = [turn(straight, "stopped", name) for name in STOPPED]
    ended = run_in_turn([*entries, turn(straight, "killed", KILLED)])
    assert [process.code for process in ended] == [0, 0], ended
    return straight, ended[0].out


@pytest.mark.parametrize("name", TRANSFERS)
def test_two_processes_equal_one_device(name, straight):
    assert_close_runs(straight / "both" / name, straight / "one" / name, STEPS)


@pytest.mark.parametrize("name", TRANSFERS)
def test_two_processes_go_on_to_the_same_bits(name, gone_on_with):
    folder, said = gone_on_with
    workdir = folder / ("killed" if name == KILLED else "stopped") / name
    assert f" from {workdir}" in said
    assert rows(workdir) == rows(folder / "both" / name)
    assert_same_bits(*(checkpoint_arrays(run, STEPS) for run in (workdir, folder / "both" / name)))


@pytest.mark.parametrize("name", TRANSFERS)
def test_one_process_goes_on_where_two_stopped(name, straight, tmp_path):
    workdir = half_way(straight / "both" / name, tmp_path / "run", HALF)
    loop.run(tiny_config(name, **fields(straight, name)), workdir)
    assert rows(workdir)[:HALF] == rows(straight / "both" / name)[:HALF]
    assert_close_runs(workdir, straight / "one" / name, STEPS)

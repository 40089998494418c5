"""Stopped, killed, gone on with: the end is the straight run's, bit for bit."""

import pathlib
import random
import shutil
import signal
import time

import numpy as np
import pytest

from tests import runs
from tests.runs import (
    assert_same_bits,
    checkpoint_arrays,
    command,
    file_hashes,
    finish,
    losses,
    one_device_mesh,
    rows,
    save_teacher,
    start,
    tiny_config,
)
from vit_jax_xfer.train import loop

# Long enough that a signal after the first checkpoint arrives before the end.
STEPS = 160
FIELDS = {
    "steps": STEPS,
    "checkpoint__every": 40,
    "checkpoint__keep_last": 2,
    "model__drop_path": 0.3,
    "optim__ema": 0.9,
}


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run from start to end in one go; what it says of its speed is not compared."""
    folder = tmp_path_factory.mktemp("straight")
    loop.run(tiny_config("scratch", **FIELDS), folder)
    return folder


def wait_for_checkpoint(folder, process):
    """Returns once a checkpoint is complete; checks that the run is still going."""
    for _ in range(1200):
        if any(path.name.isdigit() for path in folder.glob("checkpoints/*")):
            break
        time.sleep(0.05)
    assert process.poll() is None, process.communicate()


def latest(folder):
    return max(int(path.name) for path in folder.glob("checkpoints/*") if path.name.isdigit())


def assert_ends_like(folder, straight):
    assert latest(folder) == STEPS
    assert_same_bits(checkpoint_arrays(folder, STEPS), checkpoint_arrays(straight, STEPS))
    assert rows(folder) == rows(straight)
    models = (file_hashes(run / "model")["checksums.json"] for run in (folder, straight))
    assert len(set(models)) == 1


def test_sigterm_stops_with_a_checkpoint_and_the_same_run_goes_on(straight, tmp_path, capsys):
    process = start(command("scratch", tmp_path, **FIELDS))
    wait_for_checkpoint(tmp_path, process)
    process.send_signal(signal.SIGTERM)
    ended = finish(process)
    assert ended.code == 143, ended
    assert "SIGTERM: finishing this step" in ended.err and "Traceback" not in ended.err
    assert "the same command goes on from there" in ended.out
    stopped = latest(tmp_path)
    assert 0 < stopped < STEPS and f"stopped before step {stopped};" in ended.out
    assert [row[0] for row in rows(tmp_path)] == list(range(stopped))
    assert not (tmp_path / "model").exists()
    loop.run(tiny_config("scratch", **FIELDS), tmp_path)
    assert f"resuming at step {stopped}" in capsys.readouterr().out
    assert_ends_like(tmp_path, straight)


def test_kill_at_a_random_moment_and_restart(straight, tmp_path):
    process = start(command("scratch", tmp_path, **FIELDS))
    wait_for_checkpoint(tmp_path, process)
    time.sleep(random.uniform(0, 0.5))
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL and latest(tmp_path) < STEPS
    loop.run(tiny_config("scratch", **FIELDS), tmp_path)
    assert_ends_like(tmp_path, straight)


# --- in this process: short runs ------------------------------------------------------------------

SHORT = {"optim__warmup_steps": 1, "checkpoint__keep_last": 9}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return pathlib.Path(save_teacher(tmp_path_factory.mktemp("teacher")))


@pytest.fixture(scope="module")
def half_way(tmp_path_factory, teacher):
    """A distillation of 6 steps, as it was after its checkpoint at step 3."""
    folder = tmp_path_factory.mktemp("half_way")
    loop.run(short(teacher), folder)
    for path in ("checkpoints/6", "model"):
        shutil.rmtree(folder / path)
    (folder / "result.json").unlink()
    return folder


def short(teacher, **fields):
    given = {"task__teacher": str(teacher), "steps": 6, "checkpoint__every": 3, **SHORT, **fields}
    return tiny_config("attention_distill", **given)


@pytest.fixture
def workdir(half_way, tmp_path):
    return shutil.copytree(half_way, tmp_path / "workdir")


def test_resumes_on_another_number_of_devices(workdir, half_way, teacher, monkeypatch):
    expected = losses(half_way)
    monkeypatch.setattr(loop, "make_mesh", one_device_mesh)
    assert loop.run(short(teacher), workdir)["finished"]
    assert len(expected) == 6
    np.testing.assert_allclose(losses(workdir), expected, rtol=0, atol=1e-5)
    assert losses(workdir)[:3] == expected[:3]


def test_resumes_on_another_mesh_and_with_another_cadence(workdir, half_way, teacher, capsys):
    fields = {"mesh__data": 1, "mesh__fsdp": 8, "mesh__fsdp_min_elements": 1, "log__every": 2}
    loop.run(short(teacher, **fields), workdir)
    out = capsys.readouterr().out
    assert "resuming with changed settings: " in out and "log.every: 1 → 2" in out
    assert "resuming at step 3" in out
    steps = [step for step, kind, _ in rows(workdir) if kind == "train"]
    assert steps == [0, 1, 2, 4, 5]
    np.testing.assert_allclose(losses(workdir)[-1], losses(half_way)[-1], atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seed": 5}, "workdir: .* other settings .seed: 0 → 5"),
        ({"optim__lr": 0.5}, "optim.lr: 0.001 → 0.5"),
        ({"data__per_class": 3}, "data.per_class: 5 → 3"),
        ({"model__width": 32}, "model.width: 16 → 32"),
        ({"task__layers": (0,)}, "task.layers: None → .0."),
        ({"task__teacher_dtype": "bfloat16"}, "task.teacher_dtype: '' → 'bfloat16'"),
        ({"steps": 2}, "steps: .* is at step 3 already, past 2"),
        ({"mesh__data": 3}, "mesh: data=3"),
    ],
)
def test_a_run_with_other_settings_is_refused_and_nothing_touched(
    fields, message, workdir, teacher
):
    before = file_hashes(workdir)
    with pytest.raises(ValueError, match=message):
        loop.run(short(teacher, **fields), workdir)
    assert file_hashes(workdir) == before


def test_another_teacher_under_the_same_name_is_refused(workdir, teacher, tmp_path_factory):
    other = save_teacher(tmp_path_factory.mktemp("other"), seed=9)
    kept = teacher.rename(teacher.with_name("kept"))
    before = file_hashes(workdir)
    try:
        shutil.copytree(other, teacher)
        with pytest.raises(ValueError, match="task.teacher: it is not the one with which"):
            loop.run(short(teacher, log__every=2), workdir)
    finally:
        shutil.rmtree(teacher)
        kept.rename(teacher)
    assert file_hashes(workdir) == before


def test_a_checkpoint_of_another_model_is_refused(workdir, teacher):
    # The config is the first guard. Past it, as after a copy by hand, stand the arrays themselves.
    config = workdir / "config.json"
    config.write_text(config.read_text().replace('"ema": 0.0', '"ema": 0.5'))
    before = file_hashes(workdir)
    with pytest.raises(ValueError, match="holds another model: .* arrays differ"):
        loop.run(short(teacher, optim__ema=0.5), workdir)
    assert file_hashes(workdir) == before


def test_a_finished_run_again_changes_no_figure(workdir, teacher):
    first = loop.run(short(teacher), workdir)
    again = loop.run(short(teacher), workdir)
    assert again["finished"] and again["metrics"] == first["metrics"]
    assert again["seconds"] >= first["seconds"] * 0.5


def test_momentum_statistics_and_repeats_go_on_bit_for_bit(tmp_path, monkeypatch):
    """What no other run here has: LARS, a probe's batch norm, repeated images, a rising average."""
    fields = {
        "steps": 4,
        "checkpoint__every": 2,
        "checkpoint__keep_last": 9,
        "optim__name": "lars",
        "optim__ema": 0.9,
        "optim__ema_start": "tensorflow",
        "optim__cosine_from": "start",
        "model__batch_norm": True,
        "data__repeats": 3,
        "mix__mixup": 0.8,
        "mix__group": 4,
        "task__loss": "binary",
    }
    monkeypatch.setattr(loop, "make_mesh", one_device_mesh)
    straight = tmp_path / "straight"
    loop.run(tiny_config("scratch", **fields), straight)
    stopped = runs.half_way(straight, tmp_path / "stopped", 2)
    loop.run(tiny_config("scratch", **fields), stopped)
    arrays = checkpoint_arrays(straight, 4)
    assert any("trace" in name for name in arrays)
    assert any("head_batch_norm/mean" in name for name in arrays)
    assert_same_bits(checkpoint_arrays(stopped, 4), arrays)
    assert rows(stopped) == rows(straight)

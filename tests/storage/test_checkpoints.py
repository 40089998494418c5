"""Checkpoints: bit-exact on any mesh, complete or invisible, clear errors."""

import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from tests.storage.small_states import (
    abstract,
    assert_same_bits,
    flip_one_bit,
    make_state,
    mesh_of,
    place,
)
from vit_jax_xfer.storage import checkpoints
from vit_jax_xfer.storage.checkpoints import CheckpointError, Checkpoints
from vit_jax_xfer.storage.ranking import best_first, lower_is_better

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize("asynchronous", [True, False])
@pytest.mark.parametrize(("written_on", "read_on"), [(8, 1), (1, 8), (8, 8), (4, 8)])
def test_restores_bit_for_bit_on_any_mesh(tmp_path, written_on, read_on, asynchronous):
    state = place(make_state(), written_on)
    with Checkpoints(tmp_path / "ckpt", asynchronous=asynchronous) as ckpt:
        assert ckpt.latest_step() is None
        assert ckpt.save(3, state, {"position": 96, "clock": {"elapsed": 1.5}})
    with Checkpoints(tmp_path / "ckpt") as ckpt:
        assert ckpt.latest_step() == 3
        restored, extra = ckpt.restore(abstract(state, read_on))
    assert extra == {"position": 96, "clock": {"elapsed": 1.5}}
    assert_same_bits(restored, state)
    assert restored.params["body"]["kernel"].sharding == NamedSharding(
        mesh_of(read_on), PartitionSpec("data")
    )


def test_state_may_be_donated_right_after_save(tmp_path):
    step = jax.jit(lambda tree: jax.tree.map(lambda x: x * -5 + 1, tree), donate_argnums=0)
    params = place(make_state(width=1 << 14), 8).params
    before = jax.tree.map(lambda x: np.array(x, copy=True), params)
    with Checkpoints(tmp_path) as ckpt:
        with jax.transfer_guard("disallow"):
            ckpt.save(0, params, {})
        for _ in range(5):
            params = step(params)
        restored, _ = ckpt.restore(abstract(params, 8))
    assert_same_bits(restored, before)


def test_existing_step_is_left_alone(tmp_path):
    state = place(make_state(), 8)
    with Checkpoints(tmp_path) as ckpt:
        assert ckpt.save(5, state, {"first": True})
        assert not ckpt.save(5, place(make_state(seed=1), 8), {"first": False})
        restored, extra = ckpt.restore(abstract(state, 8), step=5)
    assert extra == {"first": True}
    assert_same_bits(restored, state)


def test_keeps_the_last_and_the_best(tmp_path):
    state = {"x": jnp.arange(4.0)}
    scores = {1: 0.3, 2: 0.9, 3: float("nan"), 4: 0.8, 5: None, 6: 0.1, 7: 0.2}
    for step, score in scores.items():  # a new process each time: ranks are read back from disk
        with Checkpoints(tmp_path, keep_last=2, keep_best=2, best_metric="top1") as ckpt:
            ckpt.save(step, state, {}, None if score is None else {"top1": score, "loss": 1.0})
    with Checkpoints(tmp_path, best_metric="top1") as ckpt:
        assert ckpt.steps() == [2, 4, 6, 7]
        assert ckpt.best_step() == 2
        with pytest.raises(ValueError, match="top1"):
            ckpt.save(8, state, {}, {"top5": 1.0})


def test_metrics_that_come_later_rank_a_checkpoint(tmp_path):
    state = {"x": jnp.arange(4.0)}
    for step, top1 in {2: 0.3, 4: None, 6: 0.4}.items():  # the run was stopped before step 4
        with Checkpoints(tmp_path, best_metric="top1") as ckpt:
            if step == 6:
                ckpt.rate(4, {"top1": 0.9})  # and evaluated that state when it went on
            assert ckpt.save(step, state, {})
            if top1 is not None:
                ckpt.rate(step, {"top1": top1})
    with Checkpoints(tmp_path, best_metric="top1") as ckpt:
        assert (ckpt.steps(), ckpt.best_step()) == ([4, 6], 4)
        ckpt.rate(6, {"top1": 1.0})
        assert (ckpt.steps(), ckpt.best_step()) == ([6], 6)
        with pytest.raises(ValueError, match="lack best_metric='top1'"):
            ckpt.rate(6, {"loss": 1.0})
        ckpt.rate(5, {"top1": 1.0})
        with pytest.raises(CheckpointError, match="5/metrics"):
            ckpt.wait()
        (tmp_path / "6" / "metrics" / "metrics").write_text('{"top1"')
        with pytest.raises(CheckpointError, match="6/metrics/metrics is damaged"):
            ckpt.best_step()


@pytest.mark.parametrize("waits", [False, True])
def test_a_checkpoint_of_a_bad_state_gives_its_place_back(waits, tmp_path):
    state = {"x": jnp.arange(4.0)}
    with Checkpoints(tmp_path) as ckpt:
        assert ckpt.discard(1) is None  # none at all
        ckpt.save(1, state, {})
        assert ckpt.discard(1) == 1  # the only one
        ckpt.save(2, state, {})  # would replace it at the next call that waits
        ckpt.rate(2, {"loss": 1.0})
        assert ckpt.discard(3) == 2  # not there
        if waits:
            ckpt.wait()
        assert ckpt.discard(2) == (2 if waits else 1)
    with Checkpoints(tmp_path) as ckpt:
        assert ckpt.steps() == [2 if waits else 1]


@pytest.mark.parametrize("metric", ["loss", "ema_loss", "real/teacher_loss"])
def test_of_a_loss_the_lowest_is_the_best(tmp_path, metric):
    with Checkpoints(tmp_path, best_metric=metric) as ckpt:
        for step, loss in {1: 2.0, 2: 0.5, 3: float("nan"), 4: 0.7}.items():
            ckpt.save(step, {"x": jnp.ones(3)}, {}, {metric: loss})
        assert (ckpt.steps(), ckpt.best_step()) == ([2, 4], 2)


def test_of_what_was_evaluated_otherwise_nothing_competes(tmp_path):
    def save(evaluation, **figures):
        with Checkpoints(tmp_path, best_metric="top1", evaluation=evaluation) as ckpt:
            for step, top1 in figures.items():
                ckpt.save(int(step[1:]), {"x": jnp.ones(3)}, {})
                ckpt.rate(int(step[1:]), {"top1": top1})
            return ckpt.steps(), ckpt.best_step()

    assert save("a", _1=0.9, _2=0.8) == ([1, 2], 1)
    with Checkpoints(tmp_path, best_metric="top1", evaluation="b") as ckpt:
        ckpt.save(3, {"x": jnp.ones(3)}, {})
        # Kept as long as there is none of this evaluation, and not taken for its best.
        assert (ckpt.steps(), ckpt.best_step()) == ([1, 3], None)
    assert save("b", _4=0.2, _5=0.1) == ([4, 5], 4)
    assert Checkpoints(tmp_path, best_metric="top1").best_step() == 4  # who doesn't say, takes all


def test_which_way_a_metric_goes():
    lower = {"loss", "ema_label_loss", "sketch/loss", "ema_real/loss", "mean_error"}
    higher = {"top1", "ema_top5", "real/top1", "willow/PCK@0.1", "loss_scale", "davis/J&F"}
    assert {name for name in lower | higher if lower_is_better(name)} == lower
    assert best_first({1: {"top1": 0.5}, 3: {"top1": 0.5}, 2: {}}, "top1") == [3, 1]


@pytest.mark.parametrize("fields", [{"keep_last": 0}, {"keep_best": -1}])
def test_numbers_that_keep_nothing_are_refused(fields, tmp_path):
    with pytest.raises(ValueError, match=next(iter(fields))):
        Checkpoints(tmp_path, **fields)


def test_keeps_only_the_last_without_a_metric(tmp_path):
    with Checkpoints(tmp_path) as ckpt:
        for step in (1, 2, 3):
            ckpt.save(step, {"x": jnp.ones(3)}, {}, {"top1": -float(step)})
        assert ckpt.steps() == [3]
        assert ckpt.best_step() is None


def test_reading_changes_nothing_on_disk(tmp_path):
    with Checkpoints(tmp_path / "missing") as ckpt:
        assert ckpt.latest_step() is None
        with pytest.raises(FileNotFoundError, match="missing"):
            ckpt.restore({})
    assert not (tmp_path / "missing").exists()
    unfinished = tmp_path / "run" / "4.orbax-checkpoint-tmp"
    unfinished.mkdir(parents=True)
    with Checkpoints(tmp_path / "run") as ckpt:
        assert ckpt.latest_step() is None
        assert unfinished.exists()  # perhaps another process is writing it
        ckpt.save(5, {"x": jnp.ones(3)}, {})
        assert ckpt.steps() == [5]
    assert not unfinished.exists()


def test_other_model_is_one_clear_error(tmp_path):
    with Checkpoints(tmp_path) as ckpt:
        ckpt.save(2, place(make_state(), 8), {})
        with pytest.raises(ValueError) as caught:
            ckpt.restore(abstract(make_state(width=32), 8))
    message = str(caught.value)
    assert f"{tmp_path / '2'} holds another model: 3 of 9 arrays differ" in message
    assert "params/body/kernel: (16, 16) float32 in the file, (16, 32) float32 wanted" in message
    assert len(message.splitlines()) == 4


def test_other_tree_or_dtype_is_one_clear_error(tmp_path):
    names = [f"w{i}" for i in range(9)]
    with Checkpoints(tmp_path) as ckpt:
        ckpt.save(2, {name: jnp.ones(2) for name in names}, {})
        wanted = {"w0": jnp.ones(2, jnp.bfloat16), "bias": jnp.ones(2)}
        with pytest.raises(ValueError) as caught:
            ckpt.restore(wanted)
    message = str(caught.value)
    assert "w0: (2,) float32 in the file, (2,) bfloat16 wanted" in message
    assert "bias: not in the file, (2,) float32 wanted" in message
    assert "w1: (2,) float32 in the file, not wanted" in message
    assert message.endswith("... and 5 more")


def test_every_leaf_needs_a_sharding(tmp_path):
    with Checkpoints(tmp_path) as ckpt:
        ckpt.save(1, {"x": jnp.ones(2)}, {})
        with pytest.raises(ValueError, match="sharding"):
            ckpt.restore({"x": jax.ShapeDtypeStruct((2,), jnp.float32)})


def data_files(step_directory: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in (step_directory / "state").rglob("d/*") if path.is_file())


def truncate(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_bits(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    for i in range(0, len(content), 64):
        content[i] ^= 0xFF
    path.write_bytes(content)


def damage_each(step: pathlib.Path, damage) -> None:
    for path in data_files(step):
        damage(path)


DAMAGES = {
    "truncated data": lambda step: damage_each(step, truncate),
    "flipped data": lambda step: damage_each(step, flip_bits),
    "empty data": lambda step: damage_each(step, lambda path: path.write_bytes(b"")),
    "one flipped bit": lambda step: flip_one_bit(
        max(data_files(step), key=lambda p: p.stat().st_size)
    ),
    "no data": lambda step: damage_each(step, lambda path: path.unlink()),
    "no manifest": lambda step: (step / "state" / "manifest.ocdbt").unlink(),
    "broken metadata": lambda step: truncate(step / "state" / "_METADATA"),
    "no metadata": lambda step: (step / "state" / "_METADATA").unlink(),
    "no state": lambda step: shutil.rmtree(step / "state"),
    "broken extra": lambda step: truncate(step / "extra" / "metadata"),
    "empty directory": lambda step: (shutil.rmtree(step), step.mkdir()),
}


# Orbax closes its event loop while other reads of the same checkpoint are still failing.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_checkpoint_is_named_and_not_replaced_silently(tmp_path, damage):
    state = {"x": jax.random.normal(jax.random.key(0), (64, 64)), "n": jnp.int32(1)}
    with Checkpoints(tmp_path, keep_last=2) as ckpt:
        ckpt.save(1, state, {"a": 1})
        ckpt.save(2, state, {"a": 2})
    damage(tmp_path / "2")
    with Checkpoints(tmp_path, keep_last=2) as ckpt:
        assert ckpt.latest_step() == 2
        with pytest.raises(CheckpointError) as caught:
            ckpt.restore(state)
        message = str(caught.value)
        assert str(tmp_path / "2") in message and "damaged" in message
        assert "to go on from step 1, remove" in message
        assert len(message.splitlines()) == 1
        restored, extra = ckpt.restore(state, step=1)
    assert extra == {"a": 1}
    assert_same_bits(restored, state)


def test_directories_that_hold_no_checkpoints(tmp_path):
    file = tmp_path / "file"
    file.write_text("text")
    with pytest.raises(NotADirectoryError, match="file"):
        Checkpoints(file)
    for name in ("0", "1"):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "cat.jpg").write_bytes(b"jpeg")
    with Checkpoints(tmp_path / "images") as ckpt:
        with pytest.raises(CheckpointError, match="images/0 is no checkpoint"):
            ckpt.save(2, {"x": jnp.ones(2)}, {})
        with pytest.raises(CheckpointError, match="images/1 is damaged or is no checkpoint"):
            ckpt.restore({"x": jnp.ones(2)})
    assert (tmp_path / "images" / "0" / "cat.jpg").exists()


def test_a_removal_that_was_cut_short_does_not_stand_in_the_way(tmp_path):
    state = {"x": jnp.arange(3.0)}
    with Checkpoints(tmp_path, keep_last=2) as ckpt:
        for step in (1, 2):
            ckpt.save(step, state, {})
    for name in ("state", "checksums"):
        shutil.rmtree(tmp_path / "1" / name)
    with Checkpoints(tmp_path, keep_last=2) as ckpt:
        assert ckpt.save(3, state, {})
        assert ckpt.steps() == [2, 3]
        assert_same_bits(ckpt.restore(state)[0], state)


@pytest.mark.parametrize("asynchronous", [True, False])
def test_full_disk_is_one_error_and_harms_nothing(tmp_path, asynchronous, capfd):
    state = {"x": jax.random.normal(jax.random.key(0), (512, 512))}
    ckpt = Checkpoints(tmp_path, asynchronous=asynchronous)
    ckpt.save(1, state, {})
    ckpt.wait()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(CheckpointError) as caught:  # noqa: PT012
            ckpt.save(2, state, {})
            ckpt.save(3, state, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(tmp_path) in str(caught.value)
    assert "complete checkpoints there: [1]" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert "Traceback" not in capfd.readouterr().err
    restored, _ = ckpt.restore(state)
    assert_same_bits(restored, state)
    # Once there is room again the run can go on, and the remains are gone.
    assert ckpt.save(3, state, {})
    ckpt.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3"]


def test_the_cause_amid_a_long_message_is_said(tmp_path, monkeypatch):
    """Tensorstore puts what the system said between an array's name and pages of its spec."""
    long = f'Error writing "{"opt_state." * 20}" [OS error 28: No space left on device] {"x" * 400}'

    def fail(*given, **more):
        raise ValueError(long)

    with Checkpoints(tmp_path) as ckpt:
        monkeypatch.setattr(checkpoints.ocp.CheckpointManager, "save", fail)
        with pytest.raises(CheckpointError, match=r"Error writing .* \.\.\. No space left on devi"):
            ckpt.save(1, {"x": jnp.ones(2)}, {})


def test_a_failed_save_takes_its_metrics_along(tmp_path, capfd):
    ckpt = Checkpoints(tmp_path, best_metric="top1")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match="complete checkpoints there: none"):  # noqa: PT012
            ckpt.save(2, {"x": jax.random.normal(jax.random.key(0), (512, 512))}, {})
            ckpt.rate(2, {"top1": 0.5})
            ckpt.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    ckpt.close()  # and no word of metrics that have no place


def test_extra_must_be_json(tmp_path):
    with Checkpoints(tmp_path / "ckpt") as ckpt, pytest.raises(TypeError, match="JSON"):
        ckpt.save(1, {"x": jnp.ones(2)}, {"position": jnp.ones(2)})
    assert not (tmp_path / "ckpt").exists()


WRITER = """
import sys, jax, jax.numpy as jnp
from vit_jax_xfer.storage.checkpoints import Checkpoints, save_model
make = jax.jit(lambda i: {f"w{k}": jnp.full((128, 1024), i + k, jnp.float32) for k in range(12)})
ckpt = Checkpoints(sys.argv[1] + "/ckpt", keep_last=1)
start = (ckpt.latest_step() or 0) + 1
for step in range(start, 100000):
    ckpt.save(step, make(step), {"step": step})
    save_model(sys.argv[1] + "/model", make(step), {"step": step})
    if step == start:
        ckpt.wait()
        print("running", flush=True)
"""


def test_kill_in_the_middle_of_saves_leaves_whole_checkpoints(tmp_path):
    environment = dict(os.environ, PYTHONPATH=str(ROOT), JAX_NUM_CPU_DEVICES="2")
    wanted = {f"w{k}": jnp.zeros((128, 1024)) for k in range(12)}
    last = unfinished = 0
    for delay in (0.0, 0.071, 0.133):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "running\n"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        unfinished += len(list(tmp_path.rglob("*-tmp"))) + len(list(tmp_path.glob(".model.*")))
        with Checkpoints(tmp_path / "ckpt") as ckpt:
            step = ckpt.latest_step()
            restored, extra = ckpt.restore(wanted)
        assert extra == {"step": step} and step > last
        last = step
        variables, description = checkpoints.load_model(tmp_path / "model")
        for tree, number in ((restored, step), (variables, description["step"])):
            for k in range(12):
                np.testing.assert_array_equal(np.asarray(tree[f"w{k}"]), number + k)
    assert unfinished  # else no kill came in the middle of a save, and this has shown nothing

"""Tiny runs for tests: the shipped configs shrunk to seconds, in this process or in others."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import operator
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import unittest.mock
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

ROOT = pathlib.Path(__file__).parent.parent
# Configs whose images have boxes or masks, which no small variant's have; see tiny_dense.
DENSE = ("detection", "segmentation")
CONFIGS = sorted({path.stem for path in (ROOT / "configs").glob("*.py")} - set(DENSE))

# Every field that makes a digits config tiny; the model's are the same for teacher and student.
TINY: dict[str, Any] = {
    "model.width": 16,
    "model.depth": 2,
    "model.num_heads": 2,
    "steps": 3,
    "batch_size": 16,
    "eval.batch_size": 32,
    "eval.split": "test[:80]",
    "optim.warmup_steps": 1,
    "log.every": 1,
    "log.tensorboard": False,
    "log.progress_seconds": 1000.0,
}
# The runs that must be the same on every mesh and across a kill: with drop path, because its draws
# must not hang on the devices either. Their programs are in every cache after the first test.
HALF, STEPS = 2, 4
LENGTH = {"steps": STEPS, "checkpoint__every": HALF, "checkpoint__keep_last": 9}
TRANSFERS: dict[str, dict[str, Any]] = {
    "scratch": {"model__drop_path": 0.3, "optim__ema": 0.9, **LENGTH},
    "attention_copy": {"optim__accumulate": 2, **LENGTH},
    "attention_distill": {"model__drop_path": 0.3, "model__scan": True, **LENGTH},
}
FILTERS = ("choice_transfer", "dropout_vit", "filter_vit")
UPSAMPLERS = ("convex_lift", "lift")  # their sizes are the backbone's
TINY_DECODER = {"model.decoder_width": 16, "model.decoder_depth": 1, "model.decoder_num_heads": 2}


def load_config(name: str, arg: str | None = "digits"):
    """What configs/NAME.py gives for an argument, as the command gets it."""
    from vit_jax_xfer.experiments import config_files

    return config_files.load_config(name, arg)


def tiny_fields(name: str, **fields: Any) -> dict[str, Any]:
    """Overrides of a config for a tiny run; in `fields` "__" stands for a dot."""
    given = {key.replace("__", "."): value for key, value in fields.items()}
    tiny = {**TINY, **(TINY_DECODER if name == "masked_pretraining" else {})}
    if name in FILTERS:  # their micro network is what it is; dropout takes long to compile
        tiny = {key: value for key, value in tiny.items() if not key.startswith("model.")}
        tiny["model.dropout"] = 0.0
    if name in UPSAMPLERS:
        tiny = {key: value for key, value in tiny.items() if not key.startswith("model.")}
    if name == "ensemble":
        tiny = {
            key: value
            for key, value in tiny.items()
            if key.split(".")[0] in ("eval", "log", "batch_size")
            and key not in ("eval.every", "log.every", "log.progress_seconds")
        }
    return {**tiny, **given}


def tiny_config(name: str, arg: str = "digits", **fields: Any):
    """A config of configs/ for a tiny run in this process."""
    config = load_config(name, arg)
    for field, value in tiny_fields(name, **fields).items():
        *sections, last = field.split(".")
        functools.reduce(operator.getitem, sections, config)[last] = value
    return config


def tiny_dense(name: str, source: str, form: str = "coco128", **fields: Any):
    """A small form of a config of DENSE for a tiny run on a source, images of 16 pixels.

    A ViT of two blocks on patches of 4 pixels; one device's batches.
    """
    config = load_config(name, form)
    tiny = {key: x for key, x in TINY.items() if key.split(".")[0] not in ("eval", "batch_size")}
    tiny |= {"model.backbone": "vit_micro_patch4", "model.image_size": 16, "batch_size": 8}
    tiny |= {"data.source": source, "eval.batch_size": 8, "eval.split": "val"}
    tiny |= {"data.pipeline": "flip|normalize", "eval.pipeline": "resize_pad(16)|normalize"}
    tiny |= {"data.threads": 0, "eval.every": 0, "model.window_size": None}
    given = {key.replace("__", "."): value for key, value in fields.items()}
    for field, value in {**tiny, **given}.items():
        *sections, last = field.split(".")
        functools.reduce(operator.getitem, sections, config)[last] = value
    return config


def save_teacher(folder: Any, seed: int = 0) -> str:
    """The model folder of a tiny masked autoencoder that was drawn, far from uniform maps.

    Networks, preprocessing and files are those that a run of configs/masked_pretraining.py leaves,
    without its programs to trace. Returns the path, `folder`/model.
    """
    from vit_jax_xfer.pretrained.description import describe
    from vit_jax_xfer.storage.checkpoints import save_model
    from vit_jax_xfer.tasks.build import build_task
    from vit_jax_xfer.train.preparation import with_preparation

    config = tiny_config("masked_pretraining")
    task = build_task(config, (8, 8, 3), 10)
    model = with_preparation(task.model, config.eval.pipeline, (8, 8, 3))
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    rng = np.random.default_rng(seed)
    drawn = jax.tree.map(lambda x: (0.3 * rng.standard_normal(x.shape)).astype(x.dtype), shapes)
    path = pathlib.Path(folder) / "model"
    save_model(path, drawn, describe(model))
    return str(path)


def command(name: str, workdir: Any, arg: str = "digits", **fields: Any) -> list[str]:
    """The command line of a tiny run."""
    flags = [f"--config.{key}={value}" for key, value in tiny_fields(name, **fields).items()]
    config = f"--config={ROOT / 'configs' / name}.py:{arg}"
    return [sys.executable, "-m", "vit_jax_xfer.main", config, f"--workdir={workdir}", *flags]


def start(arguments: list[str], devices: int = 8) -> subprocess.Popen:
    """Starts a command on its own fake devices, both outputs piped as text."""
    env = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), "PYTHONUNBUFFERED": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(arguments, stdout=pipe, stderr=pipe, text=True, env=env, cwd=ROOT)


@dataclasses.dataclass
class Ended:
    """What a process left."""

    code: int
    out: str
    err: str


def finish(process: subprocess.Popen, timeout: float = 120) -> Ended:
    """Waits for a process of `start`; kills it where it hangs."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        try:
            out, err = process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            out, err = "", "a process that it has left holds its outputs"
        raise AssertionError(f"no end after {timeout} s:\n{out}\n{err}") from None
    return Ended(process.returncode, out, err)


@contextlib.contextmanager
def pair_of(arguments: Callable[[str, int], list[str]]) -> Iterator[list[subprocess.Popen]]:
    """Two processes with two devices each, killed at the end where they are still there.

    arguments: (address of the first, 0 or 1) → a command line.
    """
    with socket.socket() as server:
        server.bind(("localhost", 0))
        address = f"localhost:{server.getsockname()[1]}"
    pair = [start(arguments(address, index), devices=2) for index in range(2)]
    try:
        yield pair
    finally:
        for process in pair:
            process.kill()
            process.wait()


def one_device_mesh(*sizes: int) -> jax.sharding.Mesh:
    """In place of `make_mesh`: the first device alone, whatever is asked for."""
    axis_types = (jax.sharding.AxisType.Auto,) * 3
    devices = np.array(jax.devices()[:1]).reshape(1, 1, 1)
    return jax.sharding.Mesh(devices, ("data", "fsdp", "tensor"), axis_types=axis_types)


@contextlib.contextmanager
def shared_program() -> Iterator[None]:
    """Within it, runs that differ in nothing that is in the step trace and compile it once.

    Of the config only `optim.ema`, `optim.skip_nonfinite` and `data.pipeline` may differ between
    the runs, beside what the loop alone reads.
    """
    from vit_jax_xfer.train import loop
    from vit_jax_xfer.train.compile import Program

    trace, compile_step, made = loop.trace_step, Program.compile, {}

    def traced(task: Any, config: Any, *given: Any) -> Program:
        key = config.optim.ema, config.optim.skip_nonfinite, config.data.pipeline
        if key not in made:
            program = trace(task, config, *given)
            made[key] = program, compile_step(program)
        return made[key][0]

    def compiled(program: Program) -> jax.stages.Compiled:
        return next(step for known, step in made.values() if known is program)

    patch = unittest.mock.patch.object
    with patch(loop, "trace_step", traced), patch(Program, "compile", compiled):
        yield


def checkpoint_arrays(workdir: Any, step: int) -> dict[str, np.ndarray]:
    """Every array of a checkpoint by name: parameters, moments, averages, counters."""
    path = pathlib.Path(workdir).absolute() / "checkpoints" / str(step) / "state"
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        found = checkpointer.metadata(path).item_metadata.tree
        args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), found)
        tree = checkpointer.restore(path, ocp.args.PyTreeRestore(item=found, restore_args=args))
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def assert_same_bits(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    """The same arrays under the same names, bit for bit."""
    assert left.keys() == right.keys()
    assert any("opt_state" in name for name in left) and any("params" in name for name in left)
    for name, array in left.items():
        assert array.dtype == right[name].dtype and array.tobytes() == right[name].tobytes(), name


def assert_close_rows(left: Any, right: Any, tolerance: float = 1e-5) -> None:
    """Two work folders with the same rows of metrics, up to rounding."""
    for (step, kind, values), (other, other_kind, wanted) in zip(
        rows(left), rows(right), strict=True
    ):
        assert (step, kind, values.keys()) == (other, other_kind, wanted.keys())
        for name, value in wanted.items():
            close = abs(values[name] - value) <= tolerance * max(1, abs(value))
            assert close, (step, kind, name, values[name], value)


def assert_close_runs(left: Any, right: Any, step: int, tolerance: float = 1e-5) -> None:
    """`assert_close_rows`, and the same for every array of the checkpoints at a step."""
    assert_close_rows(left, right, tolerance)
    arrays, others = (checkpoint_arrays(workdir, step) for workdir in (left, right))
    assert arrays.keys() == others.keys() and any("params" in name for name in others)
    for name, array in others.items():
        found = arrays[name]
        if name.endswith("attention/qkv/bias"):
            # Nothing but rounding moves the keys' part: added to all scores, it changes no softmax.
            # Adam makes steps of the learning rate even of that.
            found, array = found[..., [0, 2], :, :], array[..., [0, 2], :, :]
        np.testing.assert_allclose(found, array, rtol=0, atol=tolerance, err_msg=name)


def half_way(workdir: Any, copy: Any, step: int) -> Any:
    """A copy of a finished run's folder as it would be, had a kill come after `step`'s checkpoint.

    Returns its path. Rows of metrics.jsonl past the checkpoint stay, as they would.
    """
    copy = pathlib.Path(shutil.copytree(workdir, copy))
    for path in copy.glob("checkpoints/*"):
        if path.name.isdigit() and int(path.name) > step:
            shutil.rmtree(path)
    assert (copy / "checkpoints" / str(step)).is_dir()
    for path in copy.glob("model*"):
        shutil.rmtree(path)
    (copy / "result.json").unlink()
    return copy


def rows(workdir: Any) -> list[tuple[int, str, dict[str, float]]]:
    """The rows of metrics.jsonl without their times; each must be there once."""
    text = (pathlib.Path(workdir) / "metrics.jsonl").read_text()
    found = [json.loads(line) for line in text.splitlines()]
    keys = [(row["step"], row["kind"]) for row in found]
    assert len(set(keys)) == len(keys)
    return [(row["step"], row["kind"], row["values"]) for row in found]


def losses(workdir: Any) -> list[float]:
    """The training loss of every step."""
    return [values["loss"] for _, kind, values in rows(workdir) if kind == "train"]


def file_hashes(folder: Any) -> dict[str, str]:
    """Every file under a folder by name, with a digest of its bytes."""
    folder = pathlib.Path(folder)
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }

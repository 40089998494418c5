"""The small job in processes of its own, each forked from one that has everything imported.

A fork is as real as any process: a number, a group, signals, an end. It only spares the seconds of
imports, which is why nothing here may ask JAX for a device before the fork.
"""

import atexit
import contextlib
import ctypes
import hashlib
import json
import os
import pathlib
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint  # noqa: F401
from absl import app

from tests.runs import Ended
from vit_jax_xfer import main
from vit_jax_xfer.command_line.config_flag import parse_flags
from vit_jax_xfer.models import registry
from vit_jax_xfer.models.protocol import Network
from vit_jax_xfer.storage.checkpoints import load_model
from vit_jax_xfer.train import loop  # noqa: F401

CONFIG = pathlib.Path(__file__).with_name("small_config.py")
KILLED = -signal.SIGKILL


class OneMatrix(Network):
    """Pixels times one matrix: it is traced in a moment, and all around it is as ever."""

    image_size: int = 8
    num_classes: int = 10
    class_names: tuple[str, ...] | None = None
    dtype: Any = jnp.float32

    @property
    def encoder(self) -> "OneMatrix":
        return self

    def num_tokens(self, image_shape: tuple[int, ...]) -> int:
        return 1

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        return nn.Dense(self.num_classes, name="head")(images.reshape(len(images), -1))


class Result(NamedTuple):
    """What a finished run has: a digest of its model's arrays, and every step's loss."""

    parameters: str
    losses: tuple[float, ...]


def command(workdir: pathlib.Path, fields: dict[str, Any], *flags: str) -> list[str]:
    """The command line of the job; "__" in a field's name stands for a dot."""
    given = [f"--config.{name.replace('__', '.')}={value}" for name, value in fields.items()]
    return ["main", f"--config={CONFIG}", f"--workdir={workdir}", *given, *flags]


class Process:
    """A run in a process, a group and a session of its own.

    folder: where its output goes, and its `Result` where it finished. before: called in the process
    first; stdout, stderr: file descriptors in place of the folder's files.
    """

    def __init__(
        self,
        arguments: list[str],
        folder: pathlib.Path,
        before: Callable[[], None] = lambda: None,
        stdout: int | None = None,
        stderr: int | None = None,
    ):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._code = folder, None
        files = [folder / "out", folder / "err"]
        self.pid = os.fork()
        if self.pid == 0:
            _become(arguments, folder, before, files, (stdout, stderr))

    def poll(self) -> int | None:
        """The exit status, negative where a signal ended it; None while it runs."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def send(self, number: int, group: bool = False) -> None:
        """Sends a signal to the process or its group, where it is still there."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number) if group else os.kill(self.pid, number)

    def wait(self, timeout: float = 120) -> Ended:
        """Its end. AssertionError, and the process is killed, where there is none in time."""
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                said = self.said()
                self.send(signal.SIGKILL, group=True)
                self.wait()
                raise AssertionError(f"no end after {timeout:g} s: {said}")
            time.sleep(0.005)
        return self.said()

    def said(self) -> Ended:
        """Its status and what it printed so far."""
        texts = [(self.folder / name) for name in ("out", "err")]
        out, err = (path.read_text(errors="replace") if path.exists() else "" for path in texts)
        return Ended(-1 if self._code is None else self._code, out, err)

    def relatives(self) -> list[int]:
        """The other processes of its session that still run."""
        found = []
        for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
                if int(session) == self.pid and state != "Z":
                    found.append(int(path.parent.name))
        return [pid for pid in found if pid != self.pid]

    def workers(self) -> list[int]:
        """Those of them that prepare images."""
        return [pid for pid in self.relatives() if b"worker_processes" in _command_line(pid)]


def _command_line(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def read_result(folder: pathlib.Path) -> Result:
    """What a process that ended with 0 left in its folder."""
    found = json.loads((folder / "result").read_text())
    return Result(found["parameters"], tuple(found["losses"]))


def _become(
    arguments: list[str],
    folder: pathlib.Path,
    before: Callable[[], None],
    files: list[pathlib.Path],
    given: tuple[int | None, int | None],
) -> None:
    """Runs the command in this process, which is a fork, and ends it as Python would."""
    code = 1
    try:
        os.setsid()
        # Its parent may be killed, and then nobody waits for it.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, path, descriptor in zip((1, 2), files, given, strict=True):
            target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(target if descriptor is None else descriptor, number)
            if descriptor is not None:
                os.close(descriptor)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        registry.ENTRIES["one_matrix"] = (OneMatrix, {})
        before()
        sys.argv = arguments
        try:
            app.run(main.job, argv=arguments, flags_parser=parse_flags)
        except SystemExit as ended:
            code = int(ended.code or 0)
        if code == 0:
            result = result_of(pathlib.Path(arguments[2].removeprefix("--workdir=")))
            (folder / "result").write_text(json.dumps(result._asdict()))
        threading._shutdown()
        atexit._run_exitfuncs()
    except KeyboardInterrupt:
        traceback.print_exc()
        code = 130
    except BaseException:
        traceback.print_exc()
        code = 1
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def result_of(workdir: pathlib.Path, model: bool = True) -> Result:
    """Read back from a work folder, checksums and all; model: False where it isn't finished."""
    digest = hashlib.sha256()
    if model:
        variables, _ = load_model(workdir / "model")
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
            name = jax.tree_util.keystr(path)
            digest.update(name.encode() + np.ascontiguousarray(leaf).tobytes())
    # As they stand in the file: `read_metrics` would hide a row that is there twice.
    lines = (workdir / "metrics.jsonl").read_text().split("\n")[:-1]
    rows = [row for row in map(json.loads, lines) if row["kind"] == "train"]
    return Result(digest.hexdigest(), tuple(row["values"]["loss"] for row in rows))

"""A contender in a process of its own, which builds when told to and takes steps when told to."""

import contextlib
import multiprocessing
import os
import resource
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.step_case import PRODUCTS, RUNTIMES, Case, Contender, Skipped

# Both frameworks' threads wait actively for a while, which would slow the next contender.
REST_S = 0.05


class Worker:
    """A contender's process; it holds its step ready while others run. A context manager."""

    def __init__(self, case: Case, contender: Contender, threads: int, folder: str = "") -> None:
        """folder: where networks lie that contenders read from files."""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        given = theirs, case, contender, threads, folder
        self._process = context.Process(target=_serve, args=given)
        self._process.start()
        theirs.close()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join(timeout=10)
        self._process.kill()
        self._process.join()

    def about(self, timeout: float | None = None) -> dict[str, Any]:
        """What the build tells. Skipped, with the reason, where there was none in that time."""
        return self._receive(timeout)

    def step(self, timeout: float | None = None) -> tuple[float, float]:
        """(its seconds, its value: see the step's `__call__`). Skipped where it failed."""
        self._pipe.send("step")
        found = self._receive(timeout)
        time.sleep(REST_S)
        return found

    def peak_bytes(self) -> int | None:
        """The most memory that its steps took; see `_serve`."""
        self._pipe.send("peak")
        return self._receive()

    def _receive(self, timeout: float | None = None) -> Any:
        try:
            if timeout is not None and not self._pipe.poll(max(timeout, 0.0)):
                raise Skipped(f"was not ready in {max(timeout, 0):.0f} s, all that was left")
            found = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join(timeout=10)
            raise Skipped(f"its process ended with code {self._process.exitcode}") from None
        if isinstance(found, Skipped):
            raise found
        return found


def _serve(pipe: Connection, case: Case, contender: Contender, threads: int, folder: str) -> None:
    """Builds, says what it built, then answers "step" and "peak" until the pipe closes."""
    try:
        with contextlib.suppress(EOFError, BrokenPipeError):
            step = _build(case, contender, threads, folder)
            pipe.send(step.about)
            _forget_peak()
            while True:
                if pipe.recv() == "peak":
                    own = step.peak_bytes()
                    pipe.send(_peak_of_process() if own is None else own)
                    continue
                begin = time.perf_counter()
                value = step()
                seconds = time.perf_counter() - begin
                # One that times itself says how long it took.
                pipe.send((getattr(step, "seconds", seconds), value))
    except Exception as error:  # any failure of one contender is a row with its reason
        lines = str(error).strip().splitlines() or [type(error).__name__]
        with contextlib.suppress(BrokenPipeError):
            pipe.send(Skipped(lines[0][:200]))


def _build(case: Case, contender: Contender, threads: int, folder: str) -> Any:
    # XLA's pool is as large as the process's set of cores when the backend starts.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    _limit_memory()
    if "torch" in (contender.framework, contender.of):
        _set_up_torch(threads)
    if contender.framework in RUNTIMES:
        import jax

        jax.config.update("jax_platforms", "cpu")
        from benchmarks.step_runtimes import RuntimeStep

        return RuntimeStep(case, contender, threads, Path(folder))
    # Several processes share a GPU, each with what it needs.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if contender.framework == PRODUCTS:
        from benchmarks.step_products import ProductsStep

        return ProductsStep(case, contender)
    if contender.framework == "torch":
        from benchmarks.step_torch import TorchStep

        return TorchStep(case, contender)
    from benchmarks.step_ours import OurStep

    step = OurStep(case, contender)
    available = _available_bytes()
    if step.about["device"] == "cpu" and available and step.bytes_needed() > available:
        step.about["skipped"] = (
            f"takes {step.bytes_needed() / 2**30:.1f} GiB of {available / 2**30:.1f} GiB"
        )
    return step


def _set_up_torch(threads: int) -> None:
    try:
        import torch
    except ModuleNotFoundError:
        raise Skipped("PyTorch is not installed: pip install 'vit_jax_xfer[torch]'") from None
    torch.set_num_threads(threads)
    import jax

    jax.config.update("jax_platforms", "cpu")  # ours only draws the weights there


def _limit_memory() -> None:
    """Makes a step that takes too much fail by itself, before the machine ends any process."""
    available = _available_bytes()
    if available and not Path("/dev/nvidiactl").exists():  # whose driver maps more than it takes
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (available, hard))


def _available_bytes() -> int | None:
    return _bytes_in("/proc/meminfo", "MemAvailable")


def _forget_peak() -> None:
    """Starts the peak of the process's memory anew, past what building took."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_of_process() -> int | None:
    """The process's largest resident memory since `_forget_peak`."""
    return _bytes_in("/proc/self/status", "VmHWM")


def _bytes_in(path: str, field: str) -> int | None:
    """A field of one of Linux's tables of memory; None elsewhere."""
    if not Path(path).exists():
        return None
    fields = dict(line.split(":", 1) for line in Path(path).read_text().splitlines())
    return int(fields[field].split()[0]) * 1024

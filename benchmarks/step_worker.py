"""A contender in a process of its own, which builds when told to and takes steps when told to."""

import contextlib
import multiprocessing
import os
import resource
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks import process_memory
from benchmarks.asked_process import ask, reason
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
        return ask(self._pipe, self._process, timeout=timeout)

    def step(self, timeout: float | None = None) -> tuple[float, float]:
        """(its seconds, its value: see the step's `__call__`). Skipped where it failed."""
        found = ask(self._pipe, self._process, "step", timeout)
        time.sleep(REST_S)
        return found

    def peak_bytes(self) -> int | None:
        """The most memory that its steps took; see `_serve`. Skipped where it failed."""
        return ask(self._pipe, self._process, "peak")


def _serve(pipe: Connection, case: Case, contender: Contender, threads: int, folder: str) -> None:
    """Builds, says what it built, then answers "step" and "peak" until the pipe closes."""
    try:
        with contextlib.suppress(EOFError, BrokenPipeError):
            step = _build(case, contender, threads, folder)
            pipe.send(step.about)
            process_memory.forget_peak()
            while True:
                if pipe.recv() == "peak":
                    own = step.peak_bytes()
                    pipe.send(process_memory.counted().get("VmHWM") if own is None else own)
                    continue
                begin = time.perf_counter()
                value = step()
                seconds = time.perf_counter() - begin
                # One that times itself says how long it took.
                pipe.send((getattr(step, "seconds", seconds), value))
    except Exception as error:  # any failure of one contender is a row with its reason
        with contextlib.suppress(BrokenPipeError):
            pipe.send(reason(error))


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
    available = process_memory.available()
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
    available = process_memory.available()
    if available and not Path("/dev/nvidiactl").exists():  # whose driver maps more than it takes
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (available, hard))

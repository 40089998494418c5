"""From a comparison to its report, as commands do it: what is said, and how it ends."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from vit_jax_xfer.memory_errors import out_of_memory
from vit_jax_xfer.terminal import STOPPED, occupy, settle, show

if TYPE_CHECKING:  # JAX is imported late, so that --help answers at once
    from vit_jax_xfer.compare.arm_report import ReportTexts
    from vit_jax_xfer.compare.comparison import Comparison


def run_to_report(
    comparison: "Comparison", texts: "ReportTexts", command: str, at_once: int = 1
) -> dict[str, str]:
    """Runs all arms, prints the table and writes the report; returns the runs that failed alone.

    at_once: runs beside each other. results.json has what there is after each run.
    Raises Stopped, with the table so far printed.
    """
    from vit_jax_xfer.compare.arm_report import (
        arm_figures,
        summary_table,
        write_report,
        write_results,
    )
    from vit_jax_xfer.compare.arm_runs import Stopped, run_arms
    from vit_jax_xfer.compare.compiled_once import compiled_once

    there = {}

    def done(results: dict) -> None:
        there.update(results)
        write_results(comparison, results, {}, command)

    with compiled_once():
        try:
            results, failed = run_arms(comparison, done, at_once=at_once)
        except (Stopped, KeyboardInterrupt):
            if there:
                show("\n".join(summary_table(arm_figures(there))))
            raise
        if any(results.values()):
            table = write_report(comparison, results, failed, texts, command)
            show("\n".join(table))
            show(f"report: {comparison.root / 'report.md'}")
    return failed


def run_stoppable(action: Callable[[], dict[str, str]]) -> int:
    """The exit status of an action that runs arms: 0, 1 with a line for what is wrong, STOPPED.

    action: returns the runs that failed alone, each with its reason. Outputs may be closed.
    """
    occupy()
    try:
        return _status(action)
    finally:
        settle()


def _status(action: Callable[[], dict[str, str]]) -> int:
    from vit_jax_xfer.compare.arm_runs import Stopped
    from vit_jax_xfer.pretrained.loading_notes import notes_on_stderr
    from vit_jax_xfer.storage.checkpoints import CheckpointError
    from vit_jax_xfer.train.memory_end import OutOfMemory
    from vit_jax_xfer.train.stopping import NonFiniteLoss

    begin = time.perf_counter()
    try:
        with notes_on_stderr():
            failed = action()
    except (ValueError, OSError, ImportError, CheckpointError, NonFiniteLoss) as error:
        show(f"error: {error}", name="stderr")
        return 1
    except (Stopped, KeyboardInterrupt):
        show("stopped; the same command goes on from there")
        return STOPPED
    except (MemoryError, RuntimeError) as error:
        if not (why := out_of_memory(error)):
            raise
        told = error if isinstance(error, OutOfMemory) else f"out of memory ({why})"
        show(f"error: {told}", name="stderr")
        return 1
    show(f"{time.perf_counter() - begin:.0f} s in all")
    for name, reason in failed.items():
        show(f"error: {name}: {reason}", name="stderr")
    return 1 if failed else 0

"""Everything that is open about one GPU, in under 12 minutes: python -m benchmarks.card

    python -m benchmarks.card --json runs/card.json
    python -m benchmarks.card --dry-run               # on a CPU, tiny, in a minute

Rows, the most important first: each kernel of attention and each form of the distillation's loss,
against float64 and timed; then training steps (scratch, copy, distill) of ViT-S, B, L at 224, 384
and 896 pixels, ours with and without maps and with the fused loss beside PyTorch eager in float32
and compiled in bfloat16 with its own choice of attention and with cuDNN's. What there is no time
for is dropped and said so; a row that fails says why and costs nothing else. jax, flax, optax and
PyTorch are all it needs, and PyTorch's absence costs its own rows.

The JSON file (and the table, as .md beside it) is written after every step of the way: "rows",
"dropped", "about". errors: the largest over the largest value, of the result and each gradient;
agrees: within what the type allows. × NAME: how many times as long PyTorch takes.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from benchmarks.card import step_wave
from benchmarks.card.guarded_process import GuardedProcess
from benchmarks.card.kernel_row import kernel_row
from benchmarks.card.rows_in_order import Kernels, all_items, dry_items
from benchmarks.machine_state import machine
from benchmarks.rounds import markdown
from benchmarks.step_case import Skipped
from vit_jax_xfer.whole_files import write_whole

COLUMNS = {
    "kernels": ("part", "form", "dtype", "tokens", "dim", "batch", "took", "errors", "agrees"),
    "steps": ("step", "model", "pixels", "batch", "contender", "images/s", "ms", "rounds"),
}
COLUMNS["kernels"] += ("ms", "min_ms", "temporary MiB", "compile_s", "skipped")
COLUMNS["steps"] += ("× eager float32", "× compiled bfloat16", "× compiled bfloat16 cudnn")
COLUMNS["steps"] += ("TFLOP/s", "MFU %", "temporary MiB", "peak MiB", "compile_s", "agrees")
COLUMNS["steps"] += ("alone", "mark", "skipped")
ENDING = 50.0  # seconds kept for ending processes

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures until the time is over, and prints both tables."""
    chosen = parse(arguments)
    left = step_wave.seconds_left(60 * chosen.minutes - ENDING)
    jax.config.update("jax_platforms", "cpu")  # this process must not hold an accelerator
    run = Run(chosen, left)
    with GuardedProcess() as process:
        try:
            run.about = process.call(machine, timeout=left())
        except Skipped as reason:
            raise SystemExit(f"error: the device can't be asked what it is: {reason}") from None
        if not chosen.dry_run and run.about["device"] == "cpu":
            raise SystemExit("error: no accelerator is here; --dry-run shows the rows on a CPU")
        run.all_of(dry_items() if chosen.dry_run else all_items(), process)
    print("\n" + run.tables())
    print(f"{len(run.rows)} rows, {len(run.dropped)} dropped: {chosen.json}")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    first, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        "benchmarks.card",
        description=first,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", default="runs/card.json", help="the file of results")
    parser.add_argument("--minutes", type=float, default=11.8, help="all of it takes no longer")
    parser.add_argument("--rounds", type=int, default=10, help="timed steps, or calls of a kernel")
    parser.add_argument("--dry-run", action="store_true", help="tiny rows on a CPU")
    return parser.parse_args(arguments)


class Run:
    """Rows so far, and what was left out."""

    def __init__(self, chosen: argparse.Namespace, left: step_wave.Left) -> None:
        self.about: Row = {}
        self.rows: list[Row] = []
        self.dropped: list[str] = []
        self._chosen, self._left = chosen, left
        self._begin = time.monotonic()
        # How much longer items of a kind take than estimated, once some have run.
        self._slower: dict[type, float] = {}

    def all_of(self, items: list[Any], process: GuardedProcess) -> None:
        """One item after the other, and those tried again; each is dropped that has no time left.

        A later, shorter one may still have its turn.
        """
        times: dict[type, tuple[float, float]] = {}  # estimated, taken
        items = list(items)
        while items:
            item = items.pop(0)
            if self._expected(item) > self._left():
                self.dropped.append(item.name)
                say(f"dropped, too little time is left: {item.name}")
                continue
            self._report(item, items)
            begin = time.monotonic()
            items += self._measure(item, process)
            estimated, taken = times.get(type(item), (0.0, 0.0))
            estimated, taken = estimated + item.seconds(), taken + time.monotonic() - begin
            times[type(item)] = estimated, taken
            self._slower[type(item)] = max(0.5, taken / estimated)  # later ones may be harder
            self.write()

    def _expected(self, item: Any) -> float:
        """Seconds that an item will take."""
        return self._slower.get(type(item), 1.0) * item.seconds()

    def _report(self, item: Any, later: list[Any]) -> None:
        rest = max(0.0, min(sum(map(self._expected, (item, *later))), self._left()))
        gone = time.monotonic() - self._begin
        say(f"{gone:4.0f} s, about {rest:.0f} s to go, {len(self.rows)} rows: {item.name}")

    def _measure(self, item: Any, process: GuardedProcess) -> list[step_wave.Wave]:
        """Adds an item's rows; returns what is worth another try."""
        if isinstance(item, Kernels):
            for case in item.cases:
                row = dict(case.fields)
                given = kernel_row, case, self._chosen.rounds, self._chosen.dry_run
                try:
                    row |= process.call(*given, timeout=self._left())
                except Skipped as reason:
                    row["skipped"] = str(reason)
                self.rows.append(row)
            return []
        process.close()  # the card is the wave's
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
        rows, again = step_wave.measure(item, self._chosen.rounds, threads, self._left)
        self.rows += rows
        return again

    def tables(self) -> str:
        """Both tables, and what was dropped, in Markdown."""
        parts = []
        for kind, columns in COLUMNS.items():
            rows = [row for row in self.rows if columns[0] in row]
            shown = [name for name in columns if any(name in row for row in rows)]
            parts += [f"## {kind}\n\n{markdown(rows, shown)}"] if rows else []
        parts += ["## dropped, for want of time\n"] if self.dropped else []
        return "\n\n".join(parts) + "".join(f"\n* {name}" for name in self.dropped) + "\n"

    def write(self) -> None:
        """What is known so far, a whole file each time."""
        path = Path(self._chosen.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        seconds = round(time.monotonic() - self._begin)
        found = {"about": self.about, "seconds": seconds, "rows": self.rows}
        write_whole(path, json.dumps({**found, "dropped": self.dropped}, indent=1) + "\n")
        write_whole(path.with_suffix(".md"), self.tables())


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

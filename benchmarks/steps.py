"""Training steps and inference of ours beside plain PyTorch, in one run.

    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 python -m benchmarks.steps --json runs/steps.jsonl

Every step (inference, scratch, copy, distill) of every network, size and batch is taken by every
contender, each in a process of its own; on a CPU by turns, on an accelerator one after the other.
Contenders: "ours float32|bfloat16 [maps] [remat|dots|scan|defaults]" and "torch eager|compiled
float32|bfloat16": eager is as published, compiled is the best that PyTorch's users would do
(fused attention, torch.compile, a fused optimizer). The same weights go in, and losses must agree.

Prints a JSON object a contender and a table. step_ms: median, with the 10th and 90th of a hundred.
× eager, × compiled: how many times as long PyTorch takes. MFU: of what the data sheet says, where
that is known; products of the networks alone. temporary: by XLA's compiler; peak: by the device, on
a CPU the process's resident memory. Rows that can't run say why. Needs an idle machine.
"""

import argparse
import contextlib
import json
import math
import multiprocessing
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from benchmarks.filter_rounds import machine, markdown, summary
from benchmarks.step_case import WHATS, Case, Contender, contender, peak_tflops
from benchmarks.step_worker import Skipped, Worker

COLUMNS = ("step", "model", "pixels", "batch", "contender", "images/s", "step_ms", "p10", "p90")
COLUMNS += ("× eager", "× compiled", "GFLOPs", "GFLOP/s", "MFU %", "temporary MiB", "peak MiB")
COLUMNS += ("compile_s", "skipped")
CPU = ("ours float32", "ours float32 maps", "torch eager float32", "torch compiled float32")
ACCELERATOR = (
    *("ours bfloat16", "ours bfloat16 maps", "ours float32"),
    *("torch eager float32", "torch compiled bfloat16"),
)
# How far a contender's first values may be from those of our float32.
TOLERANCES = {"float32": 1e-3, "bfloat16": 5e-2}

Row = dict[str, Any]


def main() -> None:
    """Measures case after case and prints the table at the end."""
    arguments = parse()
    about = in_a_process(machine)
    # This process counts operations, and must not hold an accelerator meanwhile.
    jax.config.update("jax_platforms", "cpu")
    cpu = about["device"] == "cpu"
    names = arguments.contenders or (CPU if cpu else ACCELERATOR)
    cases = [
        Case(what, model, size, arguments.batch or default_batch(cpu, size))
        for size in arguments.sizes
        for model in arguments.models
        for what in arguments.steps
    ]
    try:
        contenders = [contender(name) for name in names]
        rows = run(cases, contenders, arguments, about, by_turns=cpu)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
    print("\n" + markdown(rows, [name for name in COLUMNS if any(name in row for row in rows)]))


def run(
    cases: Sequence[Case],
    contenders: Sequence[Contender],
    arguments: argparse.Namespace,
    about: Row,
    by_turns: bool,
) -> list[Row]:
    """All rows, each printed, and written to the file of JSON lines, as soon as it is known."""
    rates: dict[str, float] = {}
    rows: list[Row] = []
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open_json(arguments.json))
        write(about, file)
        for number, case in enumerate(cases, start=1):
            where = f"{case.what}, {case.model}, {case.size} pixels, {case.batch} images"
            print(f"case {number}/{len(cases)}: {where}", file=sys.stderr, flush=True)
            found = measure(case, contenders, rates, arguments, by_turns)
            for row in found:
                write(row, file)
            rows += found
    return rows


def parse() -> argparse.Namespace:
    """The command line."""
    first, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=first, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["vit_small_patch16"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[224], help="pixels")
    parser.add_argument("--batch", type=int, default=0, help="0 = by the device and the size")
    parser.add_argument("--steps", nargs="+", default=list(WHATS), choices=WHATS)
    parser.add_argument("--contenders", nargs="+", help="default: by the device")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2, help="of either framework, on a CPU")
    parser.add_argument(
        "--limit", type=float, default=60.0, help="seconds; longer steps are only compiled"
    )
    parser.add_argument("--json", help="a file for the JSON lines")
    return parser.parse_args()


def in_a_process(function: Any) -> Any:
    """A function's result from another process, so that this one never holds an accelerator."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function)


def default_batch(cpu: bool, size: int) -> int:
    """About as many tokens at every size."""
    return max(1, (8 if cpu else 256) * 224**2 // size**2)


def open_json(path: str | None) -> Any:
    """The new file of JSON lines; nothing without a path."""
    if not path:
        return contextlib.nullcontext()
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return Path(path).open("w")


def write(row: Row, file: Any) -> None:
    """One more line, printed, and in the file."""
    line = json.dumps(row)
    print(line, flush=True)
    if file:
        file.write(line + "\n")
        file.flush()


def measure(
    case: Case,
    contenders: Sequence[Contender],
    rates: dict[str, float],
    arguments: argparse.Namespace,
    by_turns: bool,
) -> list[Row]:
    """A row for each contender. rates: GFLOP/s of contenders so far, which tell a step's time."""
    chosen = [one for one in contenders if one.takes(case)]
    groups = [chosen] if by_turns else [[one] for one in chosen]
    gflops = case.gflops()
    rows: dict[str, Row] = {}
    for group in groups:
        with contextlib.ExitStack() as stack:
            ready: dict[str, Worker] = {}
            for one in group:
                row = rows[one.name] = {
                    **{"step": case.what, "model": case.model, "pixels": case.size},
                    **{"batch": case.batch, "contender": one.name, "GFLOPs": round(gflops, 1)},
                }
                worker = stack.enter_context(Worker(case, one, arguments.threads))
                seconds = gflops / rates[one.name] if one.name in rates else 0.0
                if build(one, worker, row, seconds, arguments.limit):
                    ready[one.name] = worker
            take_turns(ready, rows, arguments.rounds)
    for one in chosen:
        finish(rows[one.name], one, case, gflops, rates)
    compare(list(rows.values()))
    return list(rows.values())


def build(one: Contender, worker: Worker, row: Row, seconds: float, limit: float) -> bool:
    """Waits for a contender's build, notes what it tells; whether its steps can be taken."""
    if seconds > limit and one.framework == "torch":
        row["skipped"] = f"about {seconds:.0f} s a step; --limit={limit:g}"
        return False
    try:
        about = worker.about()
    except Skipped as reason:
        row["skipped"] = str(reason)
        return False
    row |= {name.replace("_MiB", " MiB"): value for name, value in about.items()}
    if seconds > limit:
        row["skipped"] = f"compiled only: about {seconds:.0f} s a step; --limit={limit:g}"
    return "skipped" not in row


def take_turns(ready: dict[str, Worker], rows: dict[str, Row], rounds: int) -> None:
    """Steps by turns, three to warm up, whose values are kept to be compared."""
    times: dict[str, list[float]] = {name: [] for name in ready}
    values: dict[str, list[float]] = {name: [] for name in ready}
    for turn in range(rounds + 3):
        names = list(times)
        for name in names if turn % 2 else reversed(names):
            try:
                seconds, value = ready[name].step()
            except Skipped as reason:
                rows[name]["skipped"] = str(reason)
                del times[name]
                continue
            if turn < 3:
                values[name].append(value)
            else:
                times[name].append(1e3 * seconds)
    for name, found in times.items():
        figures = summary(found)
        rows[name] |= {"step_ms": figures["median_ms"], "n": figures["n"]}
        rows[name] |= {"p10": figures["p10_ms"], "p90": figures["p90_ms"]}
        rows[name]["first values"] = [round(value, 5) for value in values[name]]
        peak = ready[name].peak_bytes()
        rows[name]["peak MiB"] = None if peak is None else round(peak / 2**20)


def finish(row: Row, one: Contender, case: Case, gflops: float, rates: dict[str, float]) -> None:
    """Rates of a row that was measured."""
    if "step_ms" not in row:
        return
    rate = rates[one.name] = 1e3 * gflops / row["step_ms"]
    row["GFLOP/s"] = round(rate, 1)
    row["images/s"] = float(f"{1e3 * case.batch / row['step_ms']:.3g}")
    peak = peak_tflops(row["device"], one.dtype)
    if peak:
        row["MFU %"] = round(0.1 * rate / peak, 1)


def compare(rows: list[Row]) -> None:
    """Adds PyTorch's times over ours. ValueError where first values part: no times then."""
    measured = [row for row in rows if "step_ms" in row]
    for row in measured:
        for word in ("eager", "compiled"):
            others = [r for r in measured if r["contender"].startswith(f"torch {word}")]
            if others and row["contender"].startswith("ours"):
                fastest = min(other["step_ms"] for other in others)
                row[f"× {word}"] = round(fastest / row["step_ms"], 2)
    exact = [row for row in measured if "float32" in row["contender"]]
    for row in measured if exact else ():
        tolerance = TOLERANCES["bfloat16" if "bfloat16" in row["contender"] else "float32"]
        pairs = zip(row["first values"], exact[0]["first values"], strict=True)
        if not all(math.isclose(*pair, rel_tol=tolerance) for pair in pairs):
            raise ValueError(
                f"{row['step']}, {row['model']}: first values of {row['contender']} "
                f"{row['first values']} and {exact[0]['contender']} {exact[0]['first values']} part"
            )


if __name__ == "__main__":
    main()

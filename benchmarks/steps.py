"""Training steps and inference of ours beside plain PyTorch and runtimes, in one run.

    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 python -m benchmarks.steps --quick --json runs/steps.jsonl

Every step (inference, scratch, copy, distill) of every network, size and batch is taken by every
contender, each in a process of its own; on a CPU by turns, on an accelerator one after the other.
Contenders: "ours float32|bfloat16|bfloat16-products [maps] [remat|dots|scan|defaults]", "torch
eager|compiled float32|bfloat16" and, of inference, "onnxruntime float32", "openvino
float32|bfloat16": eager is as published, compiled is the best that PyTorch's users would do (fused
attention, torch.compile, a fused optimizer), its bfloat16 is torch.autocast's; bfloat16-products is
our model.product_dtype; runtimes get our network as an ONNX file. The same weights go in, and
losses must agree. "products jax|torch" are the network's products alone (product_rate.py).

Prints a JSON object a contender and a table. step_ms: median, with the 10th and 90th of a hundred.
× eager, × compiled, × onnxruntime, × openvino: how many times as long that takes, its products in
the same type where there is such a contender, with the spread of the rounds' ratios. share %: what
part of the time the products alone take at the better framework's rate, in the type that it
multiplies in. others %: of all cores' time, taken by other processes. mark: a spread over --widest,
or too few rounds. MFU: of what the data sheet says, where that is known; products of the networks
alone. temporary: by XLA's compiler; peak: by the device, on a CPU the process's resident memory.
Rows that can't run say why. Needs an idle machine; --beside shows it beside one busy process too.
"""

import argparse
import contextlib
import itertools
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import jax

from benchmarks import step_choice
from benchmarks.machine_state import in_state
from benchmarks.measured_rows import Report, about_machine, product_share
from benchmarks.rounds import Row, Spread, Times, mark, ratio, spread
from benchmarks.shared_flags import states
from benchmarks.step_case import PRODUCTS, RUNTIMES, Case, Contender, Skipped, peak_tflops
from benchmarks.step_turns import Ready, agree, peak, take_turns, warm_up
from benchmarks.step_worker import Worker

COLUMNS = ("step", "model", "pixels", "batch", "state", "contender", "images/s", "step_ms")
OTHERS = ("eager", "compiled", *RUNTIMES)  # contenders that ours are held against
COLUMNS += tuple(f"× {word}" for word in OTHERS)
COLUMNS += ("GFLOPs", "GFLOP/s", "share %", "MFU %", "temporary MiB", "peak MiB", "compile_s")
COLUMNS += ("others %", "mark", "skipped")


def main() -> None:
    """Measures case after case and prints the table at the end."""
    arguments = step_choice.parser(__doc__ or "").parse_args()
    about = in_a_process(about_machine, arguments)
    # This process counts operations, and must not hold an accelerator meanwhile.
    jax.config.update("jax_platforms", "cpu")
    cpu = about["device"] == "cpu"
    try:
        contenders = step_choice.contenders(arguments, cpu)
        with Report(arguments, COLUMNS) as report:
            report.about(about)
            run(step_choice.cases(arguments, cpu), contenders, report, by_turns=cpu)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None


def run(
    cases: Sequence[Case], contenders: Sequence[Contender], report: Report, by_turns: bool
) -> None:
    """All rows, each printed, and written to the file of JSON lines, as soon as it is known."""
    rates: dict[str, float] = {}
    end = time.monotonic() + 60 * step_choice.minutes(report.arguments)
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate(cases, start=1):
            where = f"{case.what}, {case.model}, {case.size} pixels, {case.batch} images"
            print(f"case {number}/{len(cases)}: {where}", file=sys.stderr, flush=True)
            if time.monotonic() > end:
                report.add(_named(case) | {"skipped": "no time left: --minutes"})
                continue
            for row in measure(case, contenders, rates, report.arguments, by_turns, folder):
                report.add(row)


def in_a_process(function: Any, *given: Any) -> Any:
    """A function's result from another process, so that this one never holds an accelerator."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, given)


def _named(case: Case) -> Row:
    return {"step": case.what, "model": case.model, "pixels": case.size, "batch": case.batch}


def measure(
    case: Case,
    contenders: Sequence[Contender],
    rates: dict[str, float],
    arguments: argparse.Namespace,
    by_turns: bool,
    folder: str = "",
) -> list[Row]:
    """A row for each contender and state of the machine.

    rates: GFLOP/s of contenders so far, which tell a step's time. folder: for networks as files.
    """
    chosen = [one for one in contenders if one.takes(case)]
    groups = [chosen] if by_turns else [[one] for one in chosen]
    gflops = case.gflops()
    built: dict[str, Row] = {}
    times: dict[str, Times] = {state: {} for state in states(arguments)}
    busy: dict[tuple[str, str], float | None] = {}
    for group in groups:
        with contextlib.ExitStack() as stack:
            ready: Ready = {}
            for one in group:
                about = {"contender": one.name, "GFLOPs": round(gflops, 1)}
                row = built[one.name] = {**_named(case), **about}
                worker = stack.enter_context(Worker(case, one, arguments.threads, folder))
                seconds = gflops / rates[one.name] if one.name in rates else 0.0
                if build(one, worker, row, seconds, arguments.limit):
                    ready[one.name] = worker
            warm_up(ready, built)
            for state in times:
                with in_state(state) as others:
                    times[state] |= take_turns(ready, built, arguments.rounds)
                busy |= {(state, one.name): others.percent for one in group}
            for one in group:
                if one.name in ready and one.framework in ("ours", "torch"):
                    built[one.name] |= peak(ready[one.name])
    rows = []
    for state, found in times.items():
        known = {one.name: one for one in chosen if one.name in found}
        for one in chosen:
            row = built[one.name] | {"state": state}
            if one.name in found:
                row |= judged(one, known, found, arguments.widest)
                row |= rated(row, case, gflops) | {"others %": busy[state, one.name]}
                rates.setdefault(one.name, row["GFLOP/s"])
            if "skipped" not in row or state == states(arguments)[0]:
                rows.append(row)
    check(rows)
    return rows


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


def judged(one: Contender, known: dict[str, Contender], times: Times, widest: float) -> Row:
    """A contender's time, its ratios and its share, and what is wrong with them."""
    own = times[one.name]
    found = spread(own)
    row: Row = {"step_ms": found.median, "step_ms_p10": found.low, "step_ms_p90": found.high}
    row = {name: round(value, 2) for name, value in row.items()} | {"n": found.rounds}
    row["ms"] = [round(value, 2) for value in own]
    figures: dict[str, Spread] = {}
    for word in OTHERS if one.framework == "ours" else ():
        other = opponent(word, one, known, times)
        if other:
            figures[f"× {word}"] = ratio(times[other], own)
    alike = [name for name, there in known.items() if there.multiplies_in == one.multiplies_in]
    share = product_share(times, one.name, [n for n in alike if known[n].framework == PRODUCTS])
    if share:
        figures["share %"] = share
    for name, value in figures.items():
        row |= value.fields(name)
    said = mark(figures or {"step_ms": found}, widest)
    return row | ({"mark": said} if said else {})


def opponent(word: str, one: Contender, known: dict[str, Contender], times: Times) -> str | None:
    """Who of a kind ours is held against: of its own type where there is one, and the fastest."""
    of_kind = [name for name in known if word in name.split() and known[name].framework != "ours"]
    alike = [name for name in of_kind if known[name].multiplies_in == one.multiplies_in]
    return min(alike or of_kind, key=lambda name: spread(times[name]).median, default=None)


def rated(row: Row, case: Case, gflops: float) -> Row:
    """Rates of a row that was measured."""
    rate = 1e3 * gflops / row["step_ms"]
    found: Row = {"GFLOP/s": round(rate, 1)}
    found["images/s"] = float(f"{1e3 * case.batch / row['step_ms']:.3g}")
    peak = peak_tflops(row["device"], "bfloat16" if "bfloat16" in row["contender"] else "float32")
    return found | ({"MFU %": round(0.1 * rate / peak, 1)} if peak else {})


def check(rows: list[Row]) -> None:
    """ValueError where first values part: no times then."""
    measured = [
        row for row in rows if "step_ms" in row and PRODUCTS not in row["contender"].split()
    ]
    exact = [row for row in measured if "float32" in row["contender"]]
    for row in measured if exact else ():
        both = ((one["contender"], one["first values"]) for one in (row, exact[0]))
        if not agree(*itertools.chain(*both)):
            raise ValueError(
                f"{row['step']}, {row['model']}: first values of {row['contender']} "
                f"{row['first values']} and {exact[0]['contender']} {exact[0]['first values']} part"
            )


if __name__ == "__main__":
    main()

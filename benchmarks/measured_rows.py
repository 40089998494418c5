"""What every benchmark of speed says in a row, and how: figures, JSON lines, the table.

A row has the contender's median time, its ratio to another's with the spread of all rounds, the
share of the machine's own rate of products that it reaches (product_rate.py, the better of both
frameworks, measured in the same rounds), how busy other processes kept the machine meanwhile
("others %", of all cores), and under "mark" what makes it no figure to rely on.
"""

import argparse
import json
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from benchmarks.machine_state import in_state, machine
from benchmarks.product_rate import ProductRate
from benchmarks.product_shapes import products
from benchmarks.rounds import (
    Row,
    Spread,
    Times,
    alternate,
    mark,
    markdown,
    ratio,
    spread,
    summary,
)
from benchmarks.shared_flags import states

# Of any table, after what its own benchmark says.
SHARED = ("state", "median_ms", "p10_ms", "p90_ms", "images_s", "ratio", "GFLOP_s", "share %")
SHARED += ("others %", "mark")
PRODUCTS = {"jax": "products alone, JAX", "torch": "products alone, PyTorch"}

Contenders = dict[str, Callable[[], Any]]


class Report:
    """Rows, printed as they come, and at the end their table. A context manager."""

    def __init__(self, arguments: argparse.Namespace, columns: Collection[str]) -> None:
        self.rows: list[Row] = []
        self.arguments = arguments
        self._columns = columns
        self._file: TextIO | None = None

    def __enter__(self) -> "Report":
        if self.arguments.json:
            self._file = _new(self.arguments.json)
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        """Prints the table of what there is. SystemExit with 1 for --refuse."""
        if self._file:
            self._file.close()
        columns = [name for name in self._columns if any(name in row for row in self.rows)]
        table = markdown(self.rows, columns)
        print("\n" + table)
        if self.arguments.table:
            with _new(self.arguments.table) as file:
                file.write(table + "\n")
        if kind is None and self.arguments.refuse:
            refuse(self.rows)

    def about(self, line: Row) -> None:
        """The machine's line, ahead of all rows."""
        self._write(line)

    def add(self, row: Row) -> None:
        """One more row."""
        self.rows.append(row)
        self._write(row)

    def _write(self, line: Row) -> None:
        text = json.dumps(line)
        print(text, flush=True)
        if self._file:
            self._file.write(text + "\n")
            self._file.flush()


def refuse(rows: Collection[Row]) -> None:
    """SystemExit with 1, and why, where a row is marked or was skipped."""
    wrong = [reason for row in rows for name in ("mark", "skipped") if (reason := row.get(name))]
    if wrong:
        print(f"refused: {len(wrong)} of {len(rows)} rows: {wrong[0]}", file=sys.stderr)
        raise SystemExit(1)


def _new(path: str) -> TextIO:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return Path(path).open("w")


def about_machine(arguments: argparse.Namespace, **more: Any) -> Row:
    """The machine's line, with the bound of a row's spread."""
    return {**machine(getattr(arguments, "threads", None)), **more, "widest": arguments.widest}


def network_products(
    model: Any, what: str, image_size: int | None = None, batch: int = 1
) -> dict[str, ProductRate]:
    """The network's products alone, as contenders: {name: …} in both frameworks, float32."""
    found = products(model, image_size, batch)
    return {label: ProductRate(found, what, name) for name, label in PRODUCTS.items()}


def product_share(times: Times, name: str, alone: Collection[str]) -> Spread | None:
    """What part of a contender's time the products alone take, round by round, in percent.

    alone: names of the products' contenders; the one with the lower median counts. None without.
    """
    there = [one for one in alone if one in times]
    if not there:
        return None
    fastest = min(there, key=lambda one: spread(times[one]).median)
    found = ratio(times[fastest], times[name])
    return Spread(*(100 * value for value in found[:3]), found.rounds)


def take(
    found: Contenders, arguments: argparse.Namespace
) -> Iterator[tuple[str, float | None, Times]]:
    """(state, what others took in percent, times) of each state that is asked for."""
    for state in states(arguments):
        with in_state(state) as others:
            times = alternate(found, arguments.rounds)
        yield state, others.percent, times


def figures(
    times: Times,
    name: str,
    ratios: dict[str, Spread],
    widest: float,
    alone: Collection[str],
    gflops: float | None = None,
    batch: int = 0,
) -> Row:
    """A row's figures. ratios: {field: spread}. alone: see `product_share`. gflops: of one call."""
    row: Row = summary(times[name])
    judged = dict(ratios)
    for field, found in ratios.items():
        row |= found.fields(field)
    if batch:
        row["images_s"] = round(1e3 * batch / row["median_ms"], 2)
    if gflops:
        row["GFLOP_s"] = round(1e3 * gflops / row["median_ms"], 1)
    share = product_share(times, name, alone)
    if share:
        row |= share.fields("share %")
        judged["share"] = share
    said = mark(judged or {"median_ms": spread(times[name])}, widest)
    return row | ({"mark": said} if said else {})


def compare(
    report: Report,
    found: Contenders,
    ours: str,
    about: Row,
    gflops: float | None = None,
    batch: int = 0,
    different: Collection[str] = (),
    more: Mapping[str, Row] | None = None,
) -> None:
    """Rounds of contenders in every state, a row for each: how many times as long as ours it takes.

    about: what their rows begin with. gflops: of one call. different: contenders that compute
    something else than ours, so that `found`'s products alone aren't theirs. more: {name: what its
    rows also say}.
    """
    for state, others, times in take(found, report.arguments):
        for name, contender in found.items():
            row = {**about, "contender": name, "state": state, **(more or {}).get(name, {})}
            own = {"alone": (), "gflops": None}
            if name not in different:
                own = {"alone": PRODUCTS.values(), "gflops": getattr(contender, "gflops", gflops)}
            ratios = {"ratio": ratio(times[name], times[ours])}
            row |= figures(times, name, ratios, report.arguments.widest, batch=batch, **own)
            report.add(row | {"others %": others})

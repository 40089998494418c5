"""Flags that the benchmarks of speed have in common. Imports nothing heavy."""

import argparse

WIDEST = 0.15  # of a spread, over its median
FEWEST = 10  # rounds
ALONE, BESIDE = "alone", "beside"  # states of the machine; the second is one busy process beside


def add_flags(parser: argparse.ArgumentParser, rounds: int = FEWEST, threads: bool = True) -> None:
    """Adds them. threads: whether the benchmark itself says how many."""
    parser.add_argument("--rounds", type=int, default=rounds, help=f"under {FEWEST}: rows say so")
    if threads:
        parser.add_argument("--threads", type=int, default=2, help="of either framework, on a CPU")
    parser.add_argument(
        "--beside", action="store_true", help="every round also beside one busy process"
    )
    parser.add_argument(
        "--widest",
        type=float,
        default=WIDEST,
        help="a ratio's or a share's spread, 10th to 90th percentile over the median; rows over "
        "it are marked (default: %(default)s)",
    )
    parser.add_argument(
        "--refuse", action="store_true", help="exit with 1 where a row is marked or is missing"
    )
    parser.add_argument("--json", help="a file for the JSON lines")
    parser.add_argument("--table", help="a file for the table, in markdown")


def states(arguments: argparse.Namespace) -> tuple[str, ...]:
    """In which states of the machine rounds are taken."""
    return (ALONE, BESIDE) if arguments.beside else (ALONE,)

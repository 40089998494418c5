"""The command: feature extractors compared by keypoint correspondence."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vit_jax_xfer.command_line.flag_errors import naming_flag, positive, run_command
from vit_jax_xfer.command_line.out_places import require_different
from vit_jax_xfer.features.command import comparison_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; 0, or 1 with one line on stderr."""
    options = _parser().parse_args(arguments)

    def action() -> None:
        from vit_jax_xfer.evaluate.compare import compare
        from vit_jax_xfer.evaluate.correspondence.correspondence_benchmark import (
            open_correspondence,
        )
        from vit_jax_xfer.features.command import extractors_from, input_side, out_path

        out, pairs = out_path(options), out_path(options, "pairs_csv")
        require_different({"--out": out, "--pairs-csv": pairs})
        table = _table(pairs)
        extractors = extractors_from(options)
        size = input_side(options, extractors)
        with naming_flag("--data", options):
            benchmark = open_correspondence(
                options.data, size, options.limit, options.pairs_per_category
            )
        if table is None:
            compare(options, benchmark, extractors, "pairs")
            return
        benchmark.pair_scored = table
        try:
            compare(options, benchmark, extractors, "pairs")
        finally:
            # What is scored isn't lost with what comes after it.
            table.write(pairs)

    return run_command(action)


def _table(pairs: Path | None) -> Any:
    """What --pairs-csv collects, None without it."""
    if pairs is None:
        return None
    from vit_jax_xfer.evaluate.correspondence.pair_table import PairTable

    return PairTable()


def _parser() -> argparse.ArgumentParser:
    parser = comparison_parser(
        "vit_jax_xfer.evaluate.correspondence",
        "Keypoint correspondence: the share of keypoints that arrive within 0.1, 0.05 and 0.01 of\n"
        "the longer side of the target's box (PCK, in percent), mean over categories. Photographs\n"
        "are turned as their EXIF orientation says and letterboxed to --image-size; 'input ×2'\n"
        "gets them twice as large.",
        "--data willow:pf_willow --model runs/dino/model --lift runs/lift/model --image-size 224",
    )
    add = parser.add_argument
    add(
        "--data",
        required=True,
        metavar="LAYOUT:PATH",
        help="spair:FOLDER (with PairAnnotation and JPEGImages; its test pairs), willow:FOLDER "
        "(PF-WILLOW, all ordered pairs of a sub-class, or those of a test_pairs.csv in it) or "
        "pfpascal:FOLDER (PF-PASCAL, the pairs of test_pairs_pf_pascal.csv; distances are parts of "
        "the target's longer side)",
    )
    add(
        "--pairs-per-category",
        type=positive,
        metavar="N",
        help="drawn without replacement, always the same (default all; LiFT's authors drew 100 "
        "with replacement)",
    )
    add("--pairs-csv", metavar="FILE.csv",
        help="write each pair's own PCK, a line a pair and feature extractor")  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""The command: feature extractors compared by keypoint correspondence."""

import argparse
import sys
from collections.abc import Sequence

from vit_jax_xfer.features.command import comparison_parser
from vit_jax_xfer.flag_errors import naming_flag, positive, run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; 0, or 1 with one line on stderr."""
    options = _parser().parse_args(arguments)

    def action() -> None:
        from vit_jax_xfer.evaluate.compare import compare
        from vit_jax_xfer.evaluate.correspondence.correspondence_benchmark import (
            open_correspondence,
        )
        from vit_jax_xfer.features.command import extractors_from, out_path

        out_path(options)
        with naming_flag("--data", options):
            benchmark = open_correspondence(
                options.data, options.size, options.limit, options.pairs_per_category
            )
        compare(options, benchmark, extractors_from(options), "pairs")

    return run_command(action)


def _parser() -> argparse.ArgumentParser:
    parser = comparison_parser(
        "vit_jax_xfer.evaluate.correspondence",
        "Keypoint correspondence: the share of keypoints that arrive within 0.1, 0.05 and 0.01 of\n"
        "the longer side of the target's box (PCK, in percent), mean over categories. Photographs\n"
        "are letterboxed to --image-size; 'input ×2' gets them twice as large.",
        "--data willow:pf_willow --model runs/dino/model --lift runs/lift/model --image-size 224",
    )
    add = parser.add_argument
    add(
        "--data",
        required=True,
        metavar="LAYOUT:PATH",
        help="spair:FOLDER (with PairAnnotation and JPEGImages; its test pairs) or willow:FOLDER "
        "(PF-WILLOW, all ordered pairs of a sub-class, or those of a test_pairs.csv in it)",
    )
    add(
        "--pairs-per-category",
        type=positive,
        metavar="N",
        help="drawn without replacement, always the same (default all; LiFT's authors drew 100 "
        "with replacement)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Semantic segmentation by a linear probe: python -m vit_jax_xfer.evaluate.segmentation …

For each feature extractor a linear classifier of cells is trained on frozen features and scored on
other images: mean IoU over the classes that occur, and the share of pixels that are right.
Features are standardised by the training images' mean and deviation; logits are interpolated to
the labels' size; Adam with a cosine schedule, 16 images a step, the same ones for every extractor.
Images and masks are squashed to --image-size. Classes that no training image has count with an IoU
of 0; a set of one class is refused. Photographs are turned as their EXIF orientation says, and
must then have their masks' sizes.

The data:
  voc:PATH              SegmentationClass; ImageSets/Segmentation/train.txt trains, val is scored
  coco128:PATH          images and semantic_segmentation/masks, train2017 and val2017
  masks:IMAGES:MASKS    photographs, and PNGs of class ids (palette, grey, or equal
                        channels; TIFF, BMP or PNM where no mask is a PNG) with
                        the same names; with sub-folders
                        train and val, or else every fourth is scored and the others train
"""

import argparse
import sys
from collections.abc import Sequence

from vit_jax_xfer.command_line.flag_errors import above_zero, naming_flag, positive, run_command
from vit_jax_xfer.features.command import comparison_parser, extractors_from, input_side, out_path
from vit_jax_xfer.terminal import show

_STEPS, _LR, _MEMORY = 500, 1e-2, 2.0  # as segmentation_benchmark.py has them, slow to import


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; 0, or 1 with one line on stderr for what is wrong."""
    options = _parser().parse_args(arguments)
    return run_command(lambda: _compare(options))


def _compare(options: argparse.Namespace) -> None:
    # Imported late, so that --help answers at once.
    from vit_jax_xfer.evaluate.compare import compare
    from vit_jax_xfer.evaluate.segmentation.segmentation_benchmark import open_segmentation

    out_path(options)
    extractors = extractors_from(options)
    size = input_side(options, extractors)
    with naming_flag("--data", options):
        benchmark = open_segmentation(
            options.data,
            size,
            options.limit,
            options.ignore,
            options.probe_steps,
            options.probe_lr,
            options.memory,
        )
        benchmark.check_classes()
    data = benchmark.data
    show(
        f"{benchmark.trained} classes; the probe is trained on {len(data.train)} images and scored "
        f"on {len(data.val)}",
        name="stderr",
    )
    compare(options, benchmark, extractors)


def _parser() -> argparse.ArgumentParser:
    parser = comparison_parser(
        "vit_jax_xfer.evaluate.segmentation",
        __doc__.split("\n\n", 1)[1],
        "--data voc:VOCdevkit/VOC2012 --model runs/mae/model --lift runs/lift/model",
    )
    add = parser.add_argument
    add("--data", required=True, metavar="LAYOUT:PATH", help="see above")
    add("--ignore", type=_ids, metavar="ID,…",
        help="ids in masks that are no class (default 255, for coco128 0; '' = none)")  # fmt: skip
    add("--probe-steps", type=positive, default=_STEPS, metavar="N",
        help=f"training steps of the classifier (default {_STEPS})")  # fmt: skip
    add("--probe-lr", type=above_zero, default=_LR, metavar="RATE",
        help=f"its peak learning rate (default {_LR:g})")  # fmt: skip
    add("--memory", type=above_zero, default=_MEMORY, metavar="GB",
        help="of features kept in memory; others are computed again in each step, which is slow "
        f"(default {_MEMORY:g})")  # fmt: skip
    return parser


def _ids(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected ids with commas, as 0,255")
    return tuple(map(int, parts))


if __name__ == "__main__":
    sys.exit(main())

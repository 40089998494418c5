"""Ways to learn from one teacher on your images: python -m vit_jax_xfer.compare --data IMAGES …

Trains each arm once a seed and writes OUT/report.md with a table (top-1 and its deviation, share of
the gap between scratch and fine-tuning that is closed, seconds), learning curves and pictures of
what teacher and students look at, and OUT/results.json with every number. Stopped or killed, the
same command goes on; what is finished is not run again. No state is chosen by the evaluation's
images: what is told is the last one's.

Arms: scratch, finetune, probe, copy, distill, feature_distill; of the fine-tuned model
logit_distill, finetuned_teacher and, of it and the distilled student, ensemble. Settings of one arm
stand behind colons: distill:mode=distill_q. Those of all: --config.FIELD=VALUE.
"""

import argparse
import sys
from collections.abc import Sequence

from vit_jax_xfer.command_line.command_parser import (
    CommandParser,
    add_image_size,
    command_line_of,
    command_parser,
)
from vit_jax_xfer.command_line.flag_errors import from_zero, positive
from vit_jax_xfer.compare.to_report import run_stoppable, run_to_report
from vit_jax_xfer.local_paths import local_path

DEFAULT_ARMS = "scratch,finetune,probe,copy,distill,ensemble"
_FIELD = "--config."


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all arms and writes the report: 0, 1 with one line on stderr, or 143 when stopped."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    unknown = [one for one in rest if not (one.startswith(_FIELD) and "=" in one)]
    if unknown:
        near = parser.did_you_mean(unknown[0])
        parser.error(
            f"{unknown[0]}: no such argument{near}; fields are given as --config.FIELD=VALUE"
        )
    fields = [one.removeprefix(_FIELD) for one in rest]
    if any(one.partition("=")[0] in ("steps", "epochs") for one in fields):
        parser.error("--config.steps, --config.epochs: give --steps, which moves warm-up and "
                     "evaluations with it")  # fmt: skip
    given = sys.argv[1:] if arguments is None else arguments
    command = command_line_of("vit_jax_xfer.compare", given)
    return run_stoppable(lambda: _compare(options, fields, command))


def _compare(options: argparse.Namespace, fields: Sequence[str], command: str) -> dict[str, str]:
    # Imported late, so that --help answers at once.
    from vit_jax_xfer.compare.arm_report import ReportTexts, times
    from vit_jax_xfer.compare.arms import parse_arms
    from vit_jax_xfer.compare.comparison import ComparedImages, Comparison

    comparison = Comparison(
        local_path(options.out, "--out"),
        parse_arms(options.arms),
        options.seeds,
        ComparedImages(options.data, options.labels, options.size),
        options.teacher,
        options.steps,
        tuple(fields),
    )
    labels = f"{options.labels} labelled" if options.labels else "all labelled"
    often = times(options.seeds, options.labels)
    texts = ReportTexts(
        f"{options.data}: what this comparison measured",
        [f"Teacher: {options.teacher}. Images a class: {labels}. Trained {often}."],
        [
            "*gap closed*: 0 % is training from scratch, 100 % is fine-tuning the teacher's "
            "weights. ± is the standard deviation over seeds. All figures are of the state after "
            "the last step, on images by which nothing was chosen."
        ],
    )
    return run_to_report(comparison, texts, command, options.at_once)


def _parser() -> CommandParser:
    parser = command_parser(
        "vit_jax_xfer.compare",
        __doc__,
        allow_abbrev=False,
        epilog="--config.FIELD=VALUE  sets a field of all arms' configs, as in the job.",
    )
    parser.add_argument(
        "--data",
        required=True,
        metavar="IMAGES",
        help="a folder with a folder of images for each class, or with train/ and validation/ of "
        "such; or digits, fashion, cifar10",
    )
    parser.add_argument(
        "--teacher",
        required=True,
        help="a run's model folder, a published checkpoint, or hf:ORG/NAME",
    )
    parser.add_argument("--arms", default=DEFAULT_ARMS, help=f"default: {DEFAULT_ARMS}")
    parser.add_argument("--seeds", type=positive, default=3, help="runs of each arm; default: 3")
    parser.add_argument(
        "--out", default="runs/compare", help="where runs and report go; default: runs/compare"
    )
    parser.add_argument(
        "--labels", type=from_zero, default=0, help="labelled images a class; 0, the default: all"
    )
    add_image_size(
        parser,
        type=positive,
        default=0,
        metavar="PIXELS",
        help="of an image's side; default: the configs'",
    )
    parser.add_argument(
        "--steps", type=positive, default=0, help="of each training; default: by how many images"
    )
    parser.add_argument(
        "--at-once",
        type=positive,
        default=1,
        metavar="RUNS",
        help="runs beside each other on a CPU, each on its share of the processors, which gains "
        "most for small networks; default: 1",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

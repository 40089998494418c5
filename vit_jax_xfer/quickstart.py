"""The whole idea in a few minutes: python -m vit_jax_xfer.quickstart

Pre-trains a small teacher on images without labels, gives its attention to students that have a few
labels, and writes `report.md` with what was measured and pictures of what they look at. Images:
the digits of UCI, 1,297 for training and 500 for testing.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from vit_jax_xfer.command_line.command_parser import command_line_of, command_parser
from vit_jax_xfer.command_line.flag_errors import from_zero, positive
from vit_jax_xfer.compare.to_report import run_stoppable, run_to_report
from vit_jax_xfer.local_paths import local_path

ARMS = "scratch,finetune,copy,distill,ensemble"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all arms; what is finished already, from an earlier call, is not run again."""
    options = _parser().parse_args(arguments)
    given = sys.argv[1:] if arguments is None else arguments
    command = command_line_of("vit_jax_xfer.quickstart", given)
    return run_stoppable(lambda: _quickstart(options, command))


def _quickstart(options: argparse.Namespace, command: str) -> dict[str, str]:
    # Imported late, so that --help answers at once.
    from vit_jax_xfer.compare.arm_report import ReportTexts, times
    from vit_jax_xfer.compare.arm_runs import Stopped
    from vit_jax_xfer.compare.arms import parse_arms
    from vit_jax_xfer.compare.comparison import ComparedImages, Comparison
    from vit_jax_xfer.compare.run_processes import usual_number

    root = local_path(options.workdir, "--workdir")
    overrides = {"steps": options.teacher_steps, "checkpoint.every": 500}
    teacher = run_arm("masked_pretraining.py", "digits", root / "teacher", overrides)
    if teacher is None:
        raise Stopped
    comparison = Comparison(
        root,
        parse_arms(ARMS),
        options.seeds,
        ComparedImages("digits", options.labels),
        str(root / "teacher" / "model"),
        options.student_steps,
    )
    texts = ReportTexts(
        "Quickstart: what this run measured",
        [
            f"A vision transformer was pre-trained for {options.teacher_steps} steps on 1,297 "
            "images of digits without their labels. Then students of the same shape were trained "
            f"for {options.student_steps} steps on {options.labels} labelled images a class, "
            f"{times(options.seeds, options.labels)}. Test: 500 images."
        ],
        [
            "*gap closed*: 0 % is training from scratch, 100 % is fine-tuning the teacher's "
            f"weights. The teacher's pre-training took {teacher['seconds']:.0f} s.",
            "A student from scratch learns from the labelled images alone; everything else here "
            "knows the teacher, which has seen all 1,297 images. Digits of 8 × 8 pixels show that "
            "the mechanism works. They say nothing of how much it brings on photographs: for that "
            "see the paper (2411.09702).",
        ],
    )
    return run_to_report(comparison, texts, command, options.at_once or usual_number())


def run_arm(
    config_file: str, argument: str, folder: pathlib.Path, overrides: dict[str, Any]
) -> dict[str, Any] | None:
    """One run as the command would run it, or the result of an earlier one; None if stopped."""
    from vit_jax_xfer.compare.arm_runs import run_or_read

    config = load_config(config_file, argument)
    config.update_from_flattened_dict(overrides)
    return run_or_read(config, folder, folder.name, f"configs/{config_file}:{argument}")


def load_config(file: str, argument: str) -> Any:
    """The config of a file in configs/, as `--config=configs/FILE:ARGUMENT` gives it."""
    from vit_jax_xfer.experiments import config_files

    return config_files.load_config(file, argument)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("vit_jax_xfer.quickstart", __doc__)
    add = parser.add_argument
    add("--workdir", default="runs/quickstart",
        help="where runs and report go; default: %(default)s")  # fmt: skip
    add("--labels", type=from_zero, default=5, help="labelled images a class; default: %(default)s")
    add("--seeds", type=positive, default=2,
        help="repetitions of every student; default: %(default)s")  # fmt: skip
    add("--teacher-steps", type=positive, default=500, help="of pre-training; default: %(default)s")
    add("--student-steps", type=positive, default=300,
        help="of each student's training; default: %(default)s")  # fmt: skip
    beside = "trainings of students beside each other; default: up to 4 by the CPU's cores"
    add("--at-once", type=positive, metavar="RUNS", help=beside)
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""The whole idea in a few minutes: python -m vit_jax_xfer.quickstart

Pre-trains a small teacher on images without labels, gives its attention to students that have a few
labels, and writes `report.md` with what was measured and pictures of what they look at. Images:
scikit-learn's digits, 1,297 for training and 500 for testing.
"""

import argparse
import json
import pathlib
import sys
import time
from typing import Any

from vit_jax_xfer.flag_errors import positive
from vit_jax_xfer.local_paths import local_path
from vit_jax_xfer.terminal import show

CONFIGS = pathlib.Path(__file__).parent.parent / "configs"


def main() -> int:
    """Runs all arms; what is finished already, from an earlier call, is not run again."""
    arguments = _parser().parse_args()
    if not CONFIGS.is_dir():
        show(f"error: run this from a checkout of the project: no {CONFIGS}", name="stderr")
        return 1
    # Imported late, so that --help answers at once.
    from vit_jax_xfer.quickstart_report import write_report
    from vit_jax_xfer.storage.checkpoints import CheckpointError
    from vit_jax_xfer.train.console import say
    from vit_jax_xfer.train.stopping import NonFiniteLoss

    begin = time.perf_counter()
    try:
        root = local_path(arguments.workdir, "--workdir")
        results = run_arms(root, arguments)
    except (ValueError, OSError, CheckpointError, NonFiniteLoss) as error:
        show(f"error: {error}", name="stderr")
        return 1
    if results is None:
        say("stopped; the same command goes on from there")
        return 143
    say(write_report(root, results, vars(arguments)))
    say(f"report: {root / 'report.md'}  ({time.perf_counter() - begin:.0f} s in all)")
    return 0


def run_arms(root: pathlib.Path, arguments: argparse.Namespace) -> dict[str, Any] | None:
    """{"teacher": result, arm: [result of each seed]}; None when asked to stop."""
    teacher = root / "teacher"
    overrides = {"steps": arguments.teacher_steps, "checkpoint.every": 500}
    result = run_arm("masked_pretraining.py", "digits", teacher, overrides)
    if result is None:
        return None
    model = str(teacher / "model")
    results: dict[str, Any] = {"teacher": result}
    arms = {
        "scratch": ("scratch.py", {}),
        "fine-tune": ("finetune.py", {"init_from": model}),
        "attention copy": ("attention_copy.py", {"task.teacher": model}),
        "attention distill": ("attention_distill.py", {"task.teacher": model}),
    }
    for seed in range(arguments.seeds):
        argument = f"digits,labels={arguments.labels},seed={seed}"
        for arm, (config, extra) in arms.items():
            overrides = {"steps": arguments.student_steps, **extra}
            result = run_arm(config, argument, arm_folder(root, arm, seed), overrides)
            if result is None:
                return None
            results.setdefault(arm, []).append(result)
        members = (
            str(arm_folder(root, "attention distill", seed)),
            str(arm_folder(root, "fine-tune", seed)),
        )
        result = run_arm(
            "ensemble.py", "digits", arm_folder(root, "ensemble", seed), {"task.members": members}
        )
        results.setdefault("ensemble", []).append(result)
    return results


def arm_folder(root: pathlib.Path, arm: str, seed: int) -> pathlib.Path:
    """The work folder of one run of an arm."""
    return root / f"{arm.replace(' ', '_')}_seed{seed}"


def run_arm(
    config_file: str, argument: str, folder: pathlib.Path, overrides: dict[str, Any]
) -> dict[str, Any] | None:
    """One run as the command would run it, or the result of an earlier one; None if stopped."""
    from vit_jax_xfer.train.console import say
    from vit_jax_xfer.train.loop import run
    from vit_jax_xfer.train.workdir import changed_fields

    config = load_config(config_file, argument)
    config.update_from_flattened_dict(overrides)
    earlier = folder / "config.json"
    if earlier.is_file() and (changed := changed_fields(earlier, config)):
        raise ValueError(
            f"--workdir: {folder} was made with other arguments ({changed[0][1]}); repeat those, "
            "or choose another"
        )
    if (folder / "result.json").is_file():
        say(f"--- {folder.name}: finished already")
        return json.loads((folder / "result.json").read_text())
    say(f"--- {folder.name}: configs/{config_file}:{argument}")
    result = run(config, folder)
    return result if result["finished"] else None


def load_config(file: str, argument: str) -> Any:
    """The config of a file in configs/, as `--config=configs/FILE:ARGUMENT` gives it."""
    from importlib import util

    spec = util.spec_from_file_location(file.removesuffix(".py"), CONFIGS / file)
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(argument)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vit_jax_xfer.quickstart",
        description=__doc__.split("\n\n", 1)[1],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--workdir", default="runs/quickstart", help="where runs and report go")
    parser.add_argument("--labels", type=int, default=5, help="labelled images a class")
    parser.add_argument("--seeds", type=positive, default=2, help="repetitions of every student")
    parser.add_argument("--teacher-steps", type=positive, default=1000, help="of pre-training")
    parser.add_argument(
        "--student-steps", type=positive, default=500, help="of each student's training"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

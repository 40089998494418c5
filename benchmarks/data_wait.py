"""How long a training waits for its images: the small forms of configs, each run for some steps.

    python -m benchmarks.data_wait [FORM …] [--steps 300] [--seeds 3] [--workers 0]

A form is CONFIG:ARGUMENT as for --config, "scratch:digits,labels=5"; without any, quickstart's and
others of the digits, and of Fashion-MNIST and CIFAR-10 where runs/data has them (docs/results.md).
Waiting is what a progress line calls "data wait": the time between asking for a batch and having
it, as a share of all the time from the second batch on; the first evaluation comes after. A teacher
is pre-trained for 20 steps, which costs what a longer training's does. Prints a JSON object a run,
then a table with the median of the seeds and their range. On a busy machine the figures say little:
its load stands beside them.
"""

import argparse
import json
import os
import pathlib
import statistics
import tempfile
import time
from typing import Any

from benchmarks.machine_state import machine
from benchmarks.rounds import markdown

FORMS = (
    "masked_pretraining:digits",
    "scratch:digits,labels=5",
    "finetune:digits,labels=5",
    "attention_copy:digits,labels=5",
    "attention_distill:digits,labels=5",
    "scratch:digits,labels=0",
    "scratch:fashion,labels=0",
    "attention_distill:fashion,labels=0",
    "scratch:cifar10,labels=0",
    "attention_distill:cifar10,labels=0",
)
COLUMNS = ("form", "ms a step", "images/s", "data wait, %", "least", "most", "load")


def main() -> None:
    """Runs every form with every seed, by turns."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("forms", nargs="*", metavar="FORM", help="CONFIG:ARGUMENT; none = all")
    parser.add_argument("--steps", type=int, default=300, help="of each run")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each form")
    parser.add_argument("--workers", type=int, default=0, help="data.workers")
    arguments = parser.parse_args()
    print(json.dumps(machine()))
    forms = arguments.forms or [form for form in FORMS if is_here(form)]
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.seeds):
            for form in forms:
                runs.append(measure(form, seed, arguments, pathlib.Path(folder)))
                print(json.dumps(runs[-1]), flush=True)
    print("\n" + markdown([summary(form, runs) for form in forms], COLUMNS))


def is_here(form: str) -> bool:
    """Whether the data of a form are there."""
    source = config_of(form).data.source
    return not source.startswith("npz:") or pathlib.Path(source.removeprefix("npz:")).is_file()


def config_of(form: str) -> Any:
    """The config of CONFIG:ARGUMENT."""
    from vit_jax_xfer.quickstart import load_config

    name, _, argument = form.partition(":")
    return load_config(f"{name}.py", argument)


def measure(
    form: str, seed: int, arguments: argparse.Namespace, folder: pathlib.Path
) -> dict[str, Any]:
    """One run of a form: its milliseconds a step, and percent of them waited."""
    config = config_of(form)
    config.seed, config.epochs, config.steps = seed, None, arguments.steps
    config.optim.warmup_epochs, config.optim.warmup_steps = None, 10
    config.data.workers = arguments.workers
    config.log.tensorboard, config.eval.every = False, 0
    pretrained = folder / f"teacher_{form.partition(':')[2].partition(',')[0]}"
    if "teacher" in config.task:
        config.task.teacher = _pretrained(form, pretrained)
    if form.startswith("finetune"):
        config.init_from = _pretrained(form, pretrained)
    spans = _run(config, folder / f"{form.replace(':', '_')}_{seed}")
    seconds = spans[-1][1] - spans[1][0]
    waited = sum(end - begin for begin, end in spans[1:])
    milliseconds = 1e3 * seconds / (len(spans) - 1)
    return {
        "form": form,
        "seed": seed,
        "ms a step": round(milliseconds, 2),
        "images/s": round(1e3 * config.batch_size / milliseconds),
        "data wait, %": round(100 * waited / seconds, 1),
        "load": round(os.getloadavg()[0], 1),
    }


def _pretrained(form: str, folder: pathlib.Path) -> str:
    """The folder of a model of the form's data, pre-trained for a few steps."""
    if not (folder / "model").is_dir():
        config = config_of(f"masked_pretraining:{form.partition(':')[2].partition(',')[0]}")
        config.epochs, config.steps = None, 20
        config.optim.warmup_epochs, config.optim.warmup_steps = None, 10
        _run(config, folder)
    return str(folder / "model")


def _run(config: Any, folder: pathlib.Path) -> list[tuple[float, float]]:
    """Runs a config; when each of its batches was asked for and came, in seconds."""
    from vit_jax_xfer.train import inputs, loop

    spans, following = [], inputs.TrainBatches.__next__

    def timed(batches: inputs.TrainBatches) -> Any:
        begin = time.perf_counter()
        batch = following(batches)
        spans.append((begin, time.perf_counter()))
        return batch

    inputs.TrainBatches.__next__ = timed
    try:
        loop.run(config, folder)
    finally:
        inputs.TrainBatches.__next__ = following
    return spans


def summary(form: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of a form's runs, and the range of their waits."""
    own = [run for run in runs if run["form"] == form]
    waits = [run["data wait, %"] for run in own]
    middle = {
        name: statistics.median(run[name] for run in own)
        for name in COLUMNS
        if name in own[0] and name != "form"
    }
    return {"form": form, **middle, "least": min(waits), "most": max(waits)}


if __name__ == "__main__":
    main()

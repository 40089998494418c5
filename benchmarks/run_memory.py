"""Memory of training steps on a CPU: what a plan tells, and what a process takes (Linux).

    python -m benchmarks.run_memory [CASE …]

Compiles each case's step in a process of its own as `vit-jax-xfer plan` does, then makes a state
and takes three steps on blank images. Told: the plan's arguments and temporaries, whose sum the
overview of a run shows as well. Taken: the resident memory of the arguments, and the most in these
steps, beyond what the process had before the state: Python, its libraries, and compiled programs,
which is "process". Exit status: 1 where a case failed.
"""

import argparse
import ctypes
import gc
import json
import subprocess
import sys
from typing import Any, NamedTuple

from benchmarks.process_memory import counted, forget_peak


class Case(NamedTuple):
    """A config by its short name, the side of its images, and fields of it."""

    config: str
    size: int
    fields: dict[str, Any]


_SMALL = {"model.name": "vit_small_patch16", "batch_size": 32, "mix.group": 0}
_TEACHER = {**_SMALL, "batch_size": 16, "task.teacher": "", "task.layers": tuple(range(12))}
CASES = {
    "scratch": Case("scratch", 96, _SMALL),
    "accumulate": Case("scratch", 96, {**_SMALL, "optim.accumulate": 4}),
    "remat": Case("scratch", 96, {**_SMALL, "model.remat": "full", "model.scan": True}),
    "bfloat16": Case("scratch", 96, {**_SMALL, "model.dtype": "bfloat16"}),
    "distill": Case("attention_distill", 96, _TEACHER),
    "filter": Case("filter_vit", 128, {"batch_size": 16, "mix.group": 0}),
    "lift": Case(
        "lift", 64, {"batch_size": 16, "mix.group": 0, "task.backbone": "vit_small_patch16"}
    ),
}
_MIB = 2**20


def main() -> None:
    """Runs the cases, each in a process of its own, and prints a line of JSON for each."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], epilog=f"cases: {', '.join(CASES)}"
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help="default: all")
    parser.add_argument("--here", action="store_true", help="the one case, in this process")
    options = parser.parse_args()
    if unknown := [name for name in options.cases if name not in CASES]:
        parser.error(f"CASE: {unknown[0]!r} is none of {', '.join(CASES)}")
    if options.here:
        if len(options.cases) != 1:
            parser.error("--here: takes one case")
        print(json.dumps(measure(CASES[options.cases[0]])), flush=True)
        return
    failed = False
    for name in options.cases or CASES:
        command = [sys.executable, "-m", "benchmarks.run_memory", name, "--here"]
        ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        failed = failed or ended.returncode != 0
        row = {"failed": ended.returncode}
        if ended.returncode == 0:
            row = json.loads(ended.stdout.splitlines()[-1])  # warnings may come before
        print(json.dumps({"case": name, **row}), flush=True)
    raise SystemExit(int(failed))


def measure(case: Case) -> dict[str, float]:
    """A case's figures in this process, on one device, in MiB, and taken/told of all."""
    import jax
    import numpy as np

    jax.config.update("jax_platforms", "cpu")
    from vit_jax_xfer.command_line.config_flag import set_fields
    from vit_jax_xfer.experiments.config_files import load_config
    from vit_jax_xfer.train.run_plan import compile_planned, step_memory
    from vit_jax_xfer.train.sharding import batch_sharding
    from vit_jax_xfer.train.state import step_key

    config = load_config(case.config)
    set_fields(config, [f"{name}={value}" for name, value in case.fields.items()])
    planned = compile_planned(config, jax.devices()[:1], 1000, case.size)
    program, step = planned.program, planned.compiled
    told = step_memory(program, planned.batch, step)
    temporaries = told.pop("temporaries")
    arguments = sum(told.values())
    init = jax.jit(program.init, out_shardings=program.shardings)
    init = init.lower(jax.random.key(0), program.loaded).compile()
    key = jax.block_until_ready(jax.random.key(0))
    before = _resident()
    state = init(key, program.loaded)
    numbers = jax.device_put(step_key(0), program.shardings.step)
    frozen, batch = (
        jax.device_put(jax.tree.map(lambda x: np.ones(x.shape, x.dtype), shapes), places)
        for shapes, places in (
            (program.frozen_shapes, program.frozen_shardings),
            (planned.batch, batch_sharding(program.shardings.step.mesh)),
        )
    )
    jax.block_until_ready((state, frozen, batch, numbers))
    held = _resident() - before
    forget_peak()
    for _ in range(3):
        state, metrics = step(state, frozen, batch, numbers)
        jax.block_until_ready((state, metrics))
    taken = counted()["VmHWM"] - before
    figures = {
        "process": before,
        "told arguments": arguments,
        "taken by arguments": held,
        "told temporaries": temporaries,
        "told": arguments + temporaries,
        "taken": taken,
    }
    rounded = {name: round(size / _MIB, 1) for name, size in figures.items()}
    return {**rounded, "taken/told": round(taken / (arguments + temporaries), 3)}


def _resident() -> int:
    """Bytes that this process has, of which nothing is to be had again."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return counted()["VmRSS"]


if __name__ == "__main__":
    main()

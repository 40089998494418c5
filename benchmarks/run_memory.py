"""Memory of training steps on a CPU: what a plan tells, and what a process takes.

    python -m benchmarks.run_memory [CASE …]

Compiles each case's step in a process of its own as `vit-jax-xfer plan` does, then makes a state
and takes three steps on blank images. Told: the plan's total, which the overview of a run shows as
well. Taken: the most resident memory in these steps beyond what the process had before the state.
"""

import argparse
import ctypes
import gc
import json
import pathlib
import subprocess
import sys
from typing import Any, NamedTuple


class Case(NamedTuple):
    """A config by its short name, the side of its images, and fields of it."""

    config: str
    size: int
    fields: dict[str, Any]


_SMALL = {"model.name": "vit_small_patch16", "batch_size": 32, "mix.group": 0}
_TEACHER = {**_SMALL, "batch_size": 16, "task.teacher": ""}
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
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], default=[])
    parser.add_argument("--here", action="store_true", help="the one case, in this process")
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure(CASES[options.cases[0]])), flush=True)
        return
    for name in options.cases or CASES:
        command = [sys.executable, "-m", "benchmarks.run_memory", name, "--here"]
        ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        row = json.loads(ended.stdout) if ended.returncode == 0 else {"failed": ended.returncode}
        print(json.dumps({"case": name, **row}), flush=True)


def measure(case: Case) -> dict[str, float]:
    """{"told_MiB", "taken_MiB", "taken/told"} of a case in this process, on one device."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    from vit_jax_xfer.command_line import set_fields
    from vit_jax_xfer.config_files import load_config
    from vit_jax_xfer.train.run_plan import compile_planned, step_memory

    config = load_config(case.config)
    set_fields(config, [f"{name}={value}" for name, value in case.fields.items()])
    planned = compile_planned(config, jax.devices()[:1], 1000, case.size)
    program, step = planned.program, planned.compiled
    told = sum(step_memory(program, planned.batch, step).values())
    # Of all that is drawn and traced before, nothing is to be had again.
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = _status("VmRSS")
    state = jax.jit(program.init, out_shardings=program.shardings)(
        jax.random.key(0), program.loaded
    )
    frozen = jax.tree.map(
        lambda leaf, place: jax.device_put(jax.numpy.zeros(leaf.shape, leaf.dtype), place),
        program.frozen_shapes,
        program.frozen_shardings,
    )
    batch = {name: jax.numpy.ones(x.shape, x.dtype) for name, x in planned.batch.items()}
    jax.block_until_ready((state, frozen, batch))
    ctypes.CDLL(None).malloc_trim(0)
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    for _ in range(3):
        state, metrics = step(state, frozen, batch)
        jax.block_until_ready((state, metrics))
    taken = _status("VmHWM") - before
    return {
        "told_MiB": round(told / _MIB, 1),
        "taken_MiB": round(taken / _MIB, 1),
        "taken/told": round(taken / told, 3),
    }


def _status(field: str) -> int:
    """Bytes of this process, by Linux."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    main()

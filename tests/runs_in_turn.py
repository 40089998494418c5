"""Tiny runs one after the other in one process of a group, because each start costs seconds.

python -m tests.runs_in_turn COORDINATOR PROCESSES PROCESS JSON, a list of {"name", "workdir",
"fields"}. With "kill_at" in the last of them the process kills itself before that step.
"""

import json
import os
import signal
import sys
from typing import Any

from tests.runs import tiny_config
from vit_jax_xfer.train import loop
from vit_jax_xfer.train.launch import connect


def main(coordinator: str, processes: str, process: str, text: str) -> None:
    """Joins the group, then runs what the JSON lists."""
    connect(coordinator, int(processes), int(process))
    for entry in json.loads(text):
        if "kill_at" in entry:
            die_at(entry["kill_at"])
        loop.run(tiny_config(entry["name"], **entry["fields"]), entry["workdir"])


def die_at(step: int) -> None:
    """From here on a training step of this number is preceded by SIGKILL."""
    after_step_of_the_loop = loop.StepLog.after_step

    def after_step(self: Any, done: int, metrics: Any) -> None:
        after_step_of_the_loop(self, done, metrics)
        if done + 1 == step:
            os.kill(os.getpid(), signal.SIGKILL)

    loop.StepLog.after_step = after_step


if __name__ == "__main__":
    main(*sys.argv[1:])

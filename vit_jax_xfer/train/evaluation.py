"""A data set through a task: sums over images on the device, divided once at the end."""

from collections.abc import Iterable

import jax
import numpy as np
from jax.sharding import Mesh

from vit_jax_xfer.tasks.task import Batch, Task, Variables
from vit_jax_xfer.train.inputs import Inputs
from vit_jax_xfer.train.sharding import replicated, to_device
from vit_jax_xfer.train.state import TrainState


class Evaluator:
    """Runs `task.evaluate` over batches on a mesh; compiled at the first call."""

    def __init__(self, task: Task, mesh: Mesh):
        self._mesh = mesh

        def sums(variables: Variables, frozen: Variables, batch: Batch) -> dict[str, jax.Array]:
            return task.evaluate(variables, frozen, batch)

        self._sums = jax.jit(sums, out_shardings=replicated(mesh))

    def trace(self, variables: Variables, frozen: Variables, batch: Batch) -> jax.stages.Traced:
        """The program for one batch, before any compiler saw it; shapes with shardings will do."""
        with jax.set_mesh(self._mesh):  # for models/transformer/batch_axes.py
            return self._sums.trace(variables, frozen, batch)

    def __call__(
        self, variables: Variables, frozen: Variables, batches: Iterable[dict[str, np.ndarray]]
    ) -> dict[str, float]:
        """Each sum divided by the number of images, as floats.

        batches: this process's rows, padded to one size, with "mask" false on padding.
        """
        totals = []
        for number, rows in enumerate(batches):
            local = len(rows["mask"])
            start = (number * jax.process_count() + jax.process_index()) * local
            rows = {**rows, "index": np.arange(start, start + local, dtype=np.int32)}
            placed = to_device(rows, self._mesh)
            with jax.set_mesh(self._mesh):
                totals.append(self._sums(variables, frozen, placed))
            # Two batches in flight keep the device busy; more would pile up in its memory.
            jax.block_until_ready(totals[-2:-1])
        # Batches are added up in float64: a float32 total loses digits over a large data set.
        host = [jax.device_get(sums) for sums in totals]
        added = {name: sum(float(sums[name]) for sums in host) for name in host[0]}
        count = added.pop("count")
        return {name: value / count for name, value in added.items()}


def evaluate_state(
    evaluator: Evaluator, state: TrainState, frozen: Variables, inputs: Inputs
) -> dict[str, float]:
    """The evaluation set through a state's parameters, and through their average ("ema_…")."""
    results = {}
    for prefix, ema in (("", False), ("ema_", True)):
        if ema and not state.ema:
            continue
        with inputs.eval_stream() as batches:
            found = evaluator(state.variables(ema), frozen, batches)
        results.update({prefix + name: value for name, value in found.items()})
    return results


def show(results: dict[str, float]) -> str:
    """Metrics on one line."""
    return "  ".join(f"{name} {value:.4g}" for name, value in results.items())

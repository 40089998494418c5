"""A run that ends before its last step, because evaluations get no better."""

import math
from collections.abc import Mapping
from typing import Any

from vit_jax_xfer.storage.ranking import lower_is_better


class Patience:
    """Counts evaluations since the best one.

    limit: so many without a better metric end the run; 0 = none do. state: of an earlier part of
    the run, as `state` gave it, of which nothing counts if that went by another metric; {} = a
    fresh run.
    """

    def __init__(self, limit: int, metric: str, state: Mapping[str, Any]) -> None:
        self._limit, self._metric = limit, metric
        if state.get("metric", metric) != metric:
            state = {}
        self._step, self._best = state.get("step", -1), state.get("best")
        self._without = state.get("without", 0)

    def ends(self, step: int, results: Mapping[str, float]) -> bool:
        """Takes the figures of a step; whether the run ends with it.

        A figure as good as the best is no better, nor is NaN. A step that was counted already, as
        after a stop, isn't counted again.
        """
        if not self._limit:
            return False
        if step > self._step:
            self._step = step
            value = results.get(self._metric, math.nan)
            if self._is_better(value):
                self._best, self._without = float(value), 0
            else:
                self._without += 1
        return self._without >= self._limit

    def _is_better(self, value: float) -> bool:
        if self._best is None:
            return not math.isnan(value)
        return value < self._best if lower_is_better(self._metric) else value > self._best

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        counted = {"step": self._step, "best": self._best, "without": self._without}
        return {"metric": self._metric, **counted}

"""The best evaluation of a run so far, and the end of a run whose evaluations get no better."""

import math
from collections.abc import Mapping
from typing import Any

from vit_jax_xfer.storage.ranking import lower_is_better


class Patience:
    """Counts evaluations since the best one.

    limit: so many without a better metric end the run; 0 = none do. state: of an earlier part of
    the run, as `state` gave it, of which nothing counts if that went by another metric, or
    evaluated otherwise; {} = a fresh run. evaluation: what tells one way to evaluate from another.
    improved: whether the figures that came last are better than all before.
    """

    def __init__(
        self, limit: int, metric: str, state: Mapping[str, Any], evaluation: str = ""
    ) -> None:
        self._limit, self.improved = limit, False
        self._goes_by = {"metric": metric, "evaluation": evaluation}
        if any(state.get(name, own) != own for name, own in self._goes_by.items()):
            state = {}
        self._step, self._best = state.get("step", -1), state.get("best")
        self._without = state.get("without", 0)

    def ends(self, step: int, results: Mapping[str, float]) -> bool:
        """Takes the figures of a step; whether the run ends with it.

        A figure as good as the best is no better, nor is NaN. A step that was counted already, as
        after a stop, isn't counted again.
        """
        self.improved = False
        if step > self._step:
            self._step = step
            value = results.get(self._goes_by["metric"], math.nan)
            self.improved = self._is_better(value)
            if self.improved:
                self._best, self._without = float(value), 0
            elif self._limit:
                self._without += 1
        return 0 < self._limit <= self._without

    def _is_better(self, value: float) -> bool:
        if self._best is None:
            return not math.isnan(value)
        lower = lower_is_better(self._goes_by["metric"])
        return value < self._best if lower else value > self._best

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        counted = {"step": self._step, "best": self._best, "without": self._without}
        return {**self._goes_by, **counted}

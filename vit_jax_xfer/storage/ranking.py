"""Which checkpoints of a run are the best, by a metric that is high or low for a good one."""

import math
import re
from collections.abc import Mapping

# The last words of metrics whose lowest value is the best; all others count upwards.
_LOWER_IS_BETTER = frozenset({"loss", "error"})

_EVALUATION = "evaluation"  # beside the metrics of a state, of which none has this name


def rating(metrics: Mapping[str, float], evaluation: str) -> dict[str, float | str]:
    """What is written of an evaluation. evaluation: how it was done; "" = that isn't told."""
    return {**metrics, **({_EVALUATION: evaluation} if evaluation else {})}


def evaluated_so(found: Mapping[str, float | str], evaluation: str) -> bool:
    """Whether a `rating` was made by this way to evaluate; True where one of them doesn't tell."""
    return not evaluation or found.get(_EVALUATION, evaluation) == evaluation


def lower_is_better(metric: str) -> bool:
    """Whether the lowest value of a metric is its best, by the last word of its name.

    So it is for "loss", "ema_loss" and "real/teacher_loss", but not for "top1" or "real/top5".
    """
    return re.split("[/_]", metric)[-1] in _LOWER_IS_BETTER


def best_first(results: Mapping[int, Mapping[str, float]], metric: str) -> list[int]:
    """The steps that have a value of a metric, from the best to the worst; of equals the newer.

    results: step → its metrics. A step without the metric, or with NaN, is none of them.
    """
    sign = -1 if lower_is_better(metric) else 1
    values = {step: sign * found.get(metric, math.nan) for step, found in results.items()}
    ranked = [step for step, value in values.items() if not math.isnan(value)]
    return sorted(ranked, key=lambda step: (values[step], step), reverse=True)

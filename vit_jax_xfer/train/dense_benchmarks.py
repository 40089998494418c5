"""Dense benchmarks while training: what the features are worth at every evaluation."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from vit_jax_xfer.data.transforms import normalisation_of
from vit_jax_xfer.evaluate.benchmark import ItemBenchmark, Result, Together, parts_of
from vit_jax_xfer.evaluate.open_benchmark import open_benchmark
from vit_jax_xfer.features.feature_extractor import FeatureExtractor
from vit_jax_xfer.tasks.task import Task, Variables
from vit_jax_xfer.train.agreement import of_every_process
from vit_jax_xfer.train.console import say
from vit_jax_xfer.train.sharding import whole_on_host
from vit_jax_xfer.train.stopping import StoppedMidway


class DenseBenchmarks:
    """The benchmarks of `config.eval.benchmarks`, opened; compiled at the first call.

    The first call also says what each of them leaves out, which is the same at every one.
    Every process measures a part of each one's items on its own first device, and all make the
    figures of all parts. before_item: called before each item with how many came before it, by all
    processes equally often; what it raises ends the benchmarks.
    ValueError, naming the field, for what is wrong with a benchmark, or for a network without
    dense features.
    """

    def __init__(
        self,
        task: Task,
        config: ConfigDict,
        image_shape: tuple[int, ...],
        before_item: Callable[[int], None] = lambda number: None,
    ):
        section = config.eval
        size = section.benchmark_size or min(image_shape[:2])
        self._benchmarks = _open(section.benchmarks, size, section.benchmark_limit)
        self._task, self._before_item = task, before_item
        self._extractor: FeatureExtractor | None = None  # without weights: what is compiled
        self._reported = False
        self._mean_std = normalisation_of(section.pipeline)
        if self._benchmarks:
            self._check()

    def __call__(self, variables: Variables, frozen: Variables) -> dict[str, float]:
        """{"willow/PCK@0.1": …}: every figure of every benchmark, after its name."""
        if not self._benchmarks:
            return {}
        weights = self._task.feature_extractor(
            whole_on_host(variables), whole_on_host(frozen), self._mean_std
        ).variables
        # To the device once, or they go there with every photograph.
        extractor = self._extractor.with_variables(jax.device_put(weights, jax.local_devices()[0]))
        results = {
            benchmark.name: self._run(benchmark, extractor) for benchmark in self._benchmarks
        }
        if not self._reported:
            for name, result in results.items():
                said = ", ".join(f"{number} {what}" for what, number in result.skipped.items())
                say(f"{name}: skipped {said}" if said else f"{name}: skipped nothing")
        self._reported = True
        figures = {
            f"{name}/{figure}": value
            for name, result in results.items()
            for figure, value in result.figures.items()
        }
        return {name: float(value) for name, value in figures.items()}

    def _run(self, benchmark: ItemBenchmark, extractor: FeatureExtractor) -> Result:
        if jax.process_count() == 1:
            self._before_item(0)
            return benchmark(extractor, lambda done, total: self._before_item(done))
        index, number = jax.process_index(), jax.process_count()
        benchmark = benchmark.among(Together(index, number, of_every_process))
        parts = parts_of(benchmark, number)
        most = 1 + max(benchmark.reports(part) for part in parts)
        asked = 0

        def ask(*report: int) -> None:
            nonlocal asked
            self._before_item(asked)
            asked += 1

        def exchange(found: Any) -> list[Any]:
            while asked < most:  # all ask as often as the one with the longest part
                ask()
            return of_every_process(found)

        def own() -> list[Any]:
            return jax.device_get(benchmark.outcomes(extractor, parts[index], ask))

        ask()
        try:
            outcomes = Together(index, number, exchange).gathered(own, through=(StoppedMidway,))
        except ValueError as error:
            raise ValueError(f"eval.benchmarks: {error}") from None
        return benchmark.result(outcomes)

    def _check(self) -> None:
        if not self._task.trains:
            raise ValueError("eval.benchmarks: only for a run that trains a network")
        if self._mean_std is None:
            raise ValueError(
                "eval.benchmarks: eval.pipeline normalises more than once, so it doesn't say how "
                "the benchmarks' images are to be normalised; normalise once"
            )
        shapes = jax.eval_shape(self._task.init, jax.random.key(0))
        try:
            self._extractor = self._task.feature_extractor(
                shapes, self._task.frozen, self._mean_std
            )
            for benchmark in self._benchmarks:
                for size in getattr(benchmark, "sizes", (benchmark.size,)):
                    self._extractor.grid(size)
        except ValueError as error:
            raise ValueError(f"eval.benchmarks: {error}") from None


def _open(specs: Sequence[str] | str, size: int, limit: int) -> list[ItemBenchmark]:
    listed = [specs] if isinstance(specs, str) else list(specs)
    try:
        found = [open_benchmark(spec, size, limit or None) for spec in listed if spec]
    except (ValueError, OSError) as error:
        raise ValueError(f"eval.benchmarks: {error}") from None
    names = [benchmark.name for benchmark in found]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"eval.benchmarks: two are called {twice}, which would be one metric")
    return found

"""Makes groups of rows from stream positions: the part of the stream that worker processes run."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vit_jax_xfer.data.batch_layout import BatchLayout
from vit_jax_xfer.data.sources import Source
from vit_jax_xfer.data.transforms import Pipeline


class PositionRng:
    """Random numbers that are a function of (seed, position) alone.

    One counter-based generator is moved from position to position, which costs 1.5 µs; a new
    generator for each costs 12. Not for use by two threads at once.
    """

    def __init__(self, seed: int):
        self._generator = np.random.Generator(np.random.Philox(key=seed))
        self._state = self._generator.bit_generator.state

    def at(self, position: int) -> np.random.Generator:
        """The generator, set to the start of this position's own 2^64 blocks of numbers."""
        self._state["state"]["counter"][1] = position
        self._generator.bit_generator.state = self._state
        return self._generator


@dataclass(frozen=True)
class Rows:
    """Called with a group's number, gives its rows: {"image", "label"} and, if padded, "mask".

    indices[position] is the source's index. Positions at or after `stop` are padding: zeros, and
    False in the mask. Without `stop` there is no padding and no mask.
    """

    source: Source
    pipeline: Pipeline
    layout: BatchLayout
    indices: Sequence[int]
    seed: int
    image_shape: tuple[int, int, int]
    stop: int | None = None

    def __call__(self, group: int) -> dict[str, np.ndarray]:
        positions = self.layout.positions(group)
        rng = PositionRng(self.seed)
        rows = {
            "image": np.zeros((len(positions), *self.image_shape), np.float32),
            "label": np.zeros(len(positions), np.int32),
        }
        if self.stop is not None:
            rows["mask"] = np.arange(positions.start, positions.stop) < self.stop
            positions = range(positions.start, min(positions.stop, self.stop))
        for row, position in enumerate(positions):
            example = prepare(self.source, self.pipeline, self.indices[position], rng.at(position))
            if example["image"].shape != self.image_shape:
                raise ValueError(
                    f"pipeline: {self.pipeline.text!r} gives images of different sizes, "
                    f"{self.image_shape} and {example['image'].shape}: end it with an op of fixed "
                    "size, resize((h, w)), center_crop(size) or random_resized_crop(size)"
                )
            rows["image"][row] = example["image"]
            rows["label"][row] = example["label"]
        return rows


def prepare(source: Source, pipeline: Pipeline, index: int, rng: np.random.Generator) -> dict:
    """One example of the source, through the pipeline."""
    return pipeline(source[index], rng)

"""Makes groups of rows from stream positions: the part of the stream that worker processes run."""

import contextlib
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field

import numpy as np

from vit_jax_xfer.data.broken_images import (
    BrokenImage,
    ImageOutOfReach,
    UnfitImage,
    check_broken,
)
from vit_jax_xfer.data.sources import Source
from vit_jax_xfer.data.sources.decode import undecoded
from vit_jax_xfer.data.sources.source import example_name
from vit_jax_xfer.data.target_arrays import PADDING
from vit_jax_xfer.data.transforms import Pipeline

_MOST_ATTEMPTS = 100
FIRST = 100  # examples at most are tried for a first one that can be read
_PAUSES = (1, 2, 4, 8, 16, 32)  # seconds


ArrayShapes = dict[str, tuple[tuple[int, ...], np.dtype]]  # shape and type by name


class PositionRng:
    """Random numbers that are a function of (seed, position, attempt) alone.

    One counter-based generator is moved from position to position, which costs 1.5 µs; a new
    generator for each costs 12. Not for use by two threads at once.
    """

    def __init__(self, seed: int):
        self._generator = np.random.Generator(np.random.Philox(key=seed))
        self._state = self._generator.bit_generator.state

    def at(self, position: int, attempt: int = 0) -> np.random.Generator:
        """The generator, set to the start of this position's own 2^64 blocks of numbers."""
        self._state["state"]["counter"][1:3] = position, attempt
        self._generator.bit_generator.state = self._state
        return self._generator


@dataclass(frozen=True)
class RowGroup:
    """Neighbouring rows of a batch: their positions in the stream, and the source's indices.

    There are fewer indices than positions where the last ones are padding.
    """

    positions: range
    indices: list[int]


@dataclass
class MadeRows:
    """A group's arrays by name, and what could not be read of it: name → reason."""

    arrays: dict[str, np.ndarray]
    broken: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rows:
    """Makes a group's rows: {"image", "label"}, targets as the pipeline's form says, and "mask"
    if masked, with targets "index" too, the example's place in the source.

    arrays: shape and type of each array of a prepared example. masked: the mask is False on padding
    and on what can't be read, both zeros. Without it another image, drawn by (seed, position),
    stands in the place of one that can't be read; so the rows hang on the files alone.
    TooManyBroken where one group has more than max_broken of these. draft: see `train_stream`.
    """

    source: Source
    pipeline: Pipeline
    seed: int
    arrays: ArrayShapes
    masked: bool
    max_broken: int
    draft: bool = False

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(h, w, 3) of a prepared image."""
        return self.arrays["image"][0]

    def empty(self, rows: int) -> dict[str, np.ndarray]:
        """Rows of zeros, as of padding alone."""
        found = self.arrays.items()
        arrays = {
            name: np.full((rows, *shape), PADDING.get(name, 0), kind)
            for name, (shape, kind) in found
        }
        arrays["label"] = np.zeros(rows, np.int32)
        if self.masked:
            arrays["mask"] = np.zeros(rows, np.bool_)
        if self.masked and self.pipeline.form is not None:
            arrays["index"] = np.full(rows, PADDING["index"], np.int32)
        return arrays

    def __call__(self, group: RowGroup, closing: threading.Event) -> MadeRows:
        """The group's rows; CancelledError between two of them once `closing` is set."""
        made = MadeRows(self.empty(len(group.positions)))
        rng = PositionRng(self.seed)
        for row, index in enumerate(group.indices):
            if closing.is_set():
                raise CancelledError
            example = self._example(index, group.positions[row], rng, made.broken)
            if example is None:
                continue
            if example["image"].shape != self.image_shape:
                name = example_name(self.source, index, example)
                raise ValueError(
                    f"pipeline: {self.pipeline.text!r} gives images of different sizes, "
                    f"{self.image_shape} and {example['image'].shape} of {name}: end it with an op "
                    "of fixed size, resize((h, w)), center_crop(size) or random_resized_crop(size)"
                )
            for name in self.arrays:
                made.arrays[name][row] = example[name]
            made.arrays["label"][row] = example["label"]
            if self.masked:
                made.arrays["mask"][row] = True
            if "index" in made.arrays:
                made.arrays["index"][row] = index
        return made

    def _example(
        self, index: int, position: int, rng: PositionRng, broken: dict[str, str]
    ) -> dict | None:
        """A position's example; None for one that is masked out instead."""
        for attempt in range(_MOST_ATTEMPTS):
            numbers = rng.at(position, attempt)
            if attempt:
                index = int(numbers.integers(len(self.source)))
            try:
                return prepare(self.source, self.pipeline, index, numbers, self.draft)
            except BrokenImage as error:
                broken[error.name] = error.reason
                check_broken(broken, self.max_broken)
            if self.masked:
                return None
        raise ValueError(
            f"{self.source.name}: of {_MOST_ATTEMPTS} images drawn at random none can be read, "
            f"among them {next(iter(broken))}"
        )


def make_patiently(rows: Rows, group: RowGroup, closing: threading.Event) -> MadeRows:
    """As `rows`; waits a minute, all in all, for files that are out of reach."""
    for seconds in _PAUSES:
        try:
            return rows(group, closing)
        except ImageOutOfReach:
            closing.wait(seconds)
    return rows(group, closing)


def prepare(
    source: Source,
    pipeline: Pipeline,
    index: int,
    rng: np.random.Generator,
    draft: bool = False,
) -> dict:
    """One example of the source, through the pipeline. BrokenImage, naming it, for none.

    draft: see `train_stream`.
    """
    with undecoded(draft):
        example = source[index]
    try:
        return pipeline(example, rng)
    except BrokenImage:
        raise
    except ValueError as error:
        raise UnfitImage(example_name(source, index, example), str(error)) from error


def first_arrays(
    source: Source, pipeline: Pipeline, indices: Sequence[int], rng: np.random.Generator
) -> ArrayShapes:
    """Shape and type of each array of a prepared example, by the first that can be read."""
    example = readable_example(source, pipeline, indices, rng)
    found = {name: value for name, value in example.items() if isinstance(value, np.ndarray)}
    return {name: (value.shape, value.dtype) for name, value in found.items()}


def readable_example(
    source: Source, pipeline: Pipeline, indices: Sequence[int], rng: np.random.Generator
) -> dict:
    """The first of these examples that can be read, through the pipeline.

    Raises BrokenImage for the last where none can.
    """
    for index in indices[:-1]:
        with contextlib.suppress(BrokenImage):
            return prepare(source, pipeline, index, rng)
    return prepare(source, pipeline, indices[-1], rng)

"""The data of a run as its config describes it: sources, their sizes, streams of batches."""

import dataclasses

import jax
import numpy as np
from ml_collections import ConfigDict

from vit_jax_xfer import data


@dataclasses.dataclass
class Inputs:
    """Opened data sets; streams are made from them when they are needed."""

    config: ConfigDict
    train: data.Source
    unlabeled: data.Source | None
    eval: data.Source

    @property
    def num_classes(self) -> int:
        """Classes of the training set."""
        return self.train.num_classes

    def steps_per_epoch(self) -> float:
        """Batches in one pass over the training images."""
        return len(self.train) / self.config.batch_size

    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, 3) of a prepared image."""
        return _shape(self.train, self.config.data.pipeline, "data.pipeline")

    def eval_shape(self) -> tuple[int, int, int]:
        """(H, W, 3) of an image prepared for evaluation."""
        return _shape(self.eval, self.config.eval.pipeline, "eval.pipeline")

    def batch_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """The global training batch."""
        return batch_shapes(self.config, self.image_shape())

    def train_stream(self, start_step: int) -> "TrainBatches":
        """This process's rows of every batch from a step on."""
        c = self.config
        streams = [
            data.train_stream(
                self.train, c.data.pipeline, batch_size=c.batch_size, **_place(c, start_step, 0)
            )
        ]
        if self.unlabeled is not None:
            streams.append(
                data.train_stream(
                    self.unlabeled,
                    c.unlabeled.pipeline or c.data.pipeline,
                    batch_size=c.unlabeled.batch_size,
                    **_place(c, start_step, 1),
                )
            )
        return TrainBatches(streams)

    def eval_stream(self) -> "data.streams.BatchStream":
        """This process's rows of the evaluation set, each image once, padded."""
        c = self.config
        return data.eval_batches(
            self.eval,
            c.eval.pipeline,
            batch_size=c.eval.batch_size or c.batch_size,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            workers=c.data.workers,
        )


class TrainBatches:
    """Labelled batches, with the images of a second stream under "unlabeled"."""

    def __init__(self, streams: list["data.streams.BatchStream"]):
        self._streams = streams

    def __next__(self) -> dict[str, np.ndarray]:
        batch = dict(next(self._streams[0]))
        if len(self._streams) > 1:
            batch["unlabeled"] = next(self._streams[1])["image"]
        return batch

    def __enter__(self) -> "TrainBatches":
        return self

    def __exit__(self, *error: object) -> None:
        for stream in self._streams:
            stream.close()


def batch_shapes(
    config: ConfigDict, image_shape: tuple[int, int, int]
) -> dict[str, jax.ShapeDtypeStruct]:
    """The global training batch of a config, for prepared images (H, W, 3)."""
    size = config.batch_size
    shapes = {
        "image": jax.ShapeDtypeStruct((size, *image_shape), np.float32),
        "label": jax.ShapeDtypeStruct((size,), np.int32),
    }
    if config.unlabeled.source:
        rows = config.unlabeled.batch_size
        shapes["unlabeled"] = jax.ShapeDtypeStruct((rows, *image_shape), np.float32)
    return shapes


def open_inputs(config: ConfigDict) -> Inputs:
    """Opens the data sets of a config; ValueError that names the field where one is amiss."""
    c = config
    classes = c.data.classes
    train = _open("data", c.data.source, c.data.split, c, classes, c.data.per_class)
    unlabeled = None
    if c.unlabeled.source:
        if c.unlabeled.batch_size < 1:
            raise ValueError("unlabeled.batch_size: expected 1 or more beside unlabeled.source")
        # Images of the classes that were left out must not come back in without their labels.
        same = classes if c.unlabeled.source == c.data.source else ""
        unlabeled = _open("unlabeled", c.unlabeled.source, c.unlabeled.split, c, same)
    evaluation = _open("eval", c.eval.source or c.data.source, c.eval.split, c, classes)
    return Inputs(c, train, unlabeled, evaluation)


def _open(
    field: str, spec: str, split: str, c: ConfigDict, classes: str, per_class: int = 0
) -> data.Source:
    try:
        return data.open_source(
            spec,
            split,
            classes=classes,
            per_class=per_class or None,
            subset_seed=c.data.subset_seed,
            data_dir=c.data.tfds_dir or None,
        )
    except (ValueError, FileNotFoundError) as error:
        where = "data." if str(error).startswith("classes: ") else f"{field}.source: "
        raise ValueError(f"{where}{error}") from None


def _shape(source: data.Source, pipeline: str, field: str) -> tuple[int, int, int]:
    try:
        prepared = data.parse_pipeline(pipeline)(source[0], np.random.default_rng(0))
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None
    return prepared["image"].shape


def _place(c: ConfigDict, start_step: int, stream: int) -> dict[str, int]:
    """The arguments by which every process reads its own rows of one stream."""
    return {
        # A second stream over the same images must not show them in the same order.
        "seed": c.seed + 1_000_003 * stream,
        "start_step": start_step,
        "process_index": jax.process_index(),
        "process_count": jax.process_count(),
        "workers": c.data.workers,
    }

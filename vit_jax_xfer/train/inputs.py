"""The data of a run as its config describes it: sources, their sizes, streams of batches."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
from ml_collections import ConfigDict

from vit_jax_xfer import data
from vit_jax_xfer.data.finish import Finish
from vit_jax_xfer.data.objects import NO_OBJECTS
from vit_jax_xfer.data.row_maker import FIRST, ArrayShapes, first_arrays
from vit_jax_xfer.data.sources.object_source import crowded_images
from vit_jax_xfer.data.sources.source import check_targets
from vit_jax_xfer.data.target_arrays import BOXES, TargetForm
from vit_jax_xfer.tasks.registration import find_task
from vit_jax_xfer.tasks.task import Batch
from vit_jax_xfer.train.console import say_anywhere
from vit_jax_xfer.train.evaluation_sets import (
    EvaluationSet,
    open_evaluation_sets,
    open_for,
    prepared_shape,
)

UNLABELED = "unlabeled"  # the second stream's images in a batch


@dataclasses.dataclass
class Inputs:
    """Opened data sets; streams are made from them when they are needed."""

    config: ConfigDict
    train: data.Source
    unlabeled: data.Source | None
    eval_sets: dict[str, EvaluationSet]  # by name, sorted

    @property
    def eval(self) -> data.Source:
        """The first evaluation set's source."""
        return next(iter(self.eval_sets.values())).source

    @property
    def num_classes(self) -> int:
        """Classes of the training set."""
        return self.train.num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """The training set's, and so the model's."""
        return self.train.class_names

    def steps_per_epoch(self) -> float:
        """Batches in one pass over the training images."""
        return len(self.train) / self.config.batch_size

    def sources(self) -> dict[str, data.Source]:
        """The training sets, by the field that names each."""
        sets = {"data.source": self.train, "unlabeled.source": self.unlabeled}
        return {field: source for field, source in sets.items() if source is not None}

    def sizes(self) -> dict[str, int]:
        """How many images each training set has, by the field that names it."""
        return {field: len(source) for field, source in self.sources().items()}

    def check_sizes(self, before: Mapping[str, int]) -> None:
        """ValueError where a training set has another size than `sizes` said when the run began.

        Which image a step draws hangs on how many there are.
        """
        for field, size in self.sizes().items():
            if size != before.get(field, size):
                raise ValueError(
                    f"{field}: has {size} images, and this run began with {before[field]}, so that "
                    "it would go on with others: put them back, or choose another --workdir"
                )

    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, 3) of a prepared image."""
        return prepared_shape(self.train, self.config.data.pipeline, "data.pipeline")

    def eval_shape(self) -> tuple[int, int, int]:
        """(H, W, 3) of an image prepared for the first evaluation set."""
        return next(iter(self.eval_sets.values())).image_shape()

    @property
    def eval_pipeline(self) -> str:
        """How the first evaluation set's images are prepared."""
        return next(iter(self.eval_sets.values())).pipeline

    def evaluation(self) -> str:
        """A digest that tells one way to evaluate from another: figures of two don't compare."""
        told = json.dumps([one.identity for one in self.eval_sets.values()])
        return hashlib.sha256(told.encode()).hexdigest()[:12]

    def batch_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """The global training batch."""
        rows, sources = {}, (self.train, self.unlabeled)
        for name, source in zip(_streams(self.config), sources, strict=False):
            first, rng = range(min(len(source), FIRST)), np.random.default_rng(0)
            form = target_form(self.config) if name == "image" else None
            pipeline = data.parse_pipeline(pipeline_of(self.config, name), form).in_bytes()
            rows[name] = first_arrays(source, pipeline, first, rng)
        return _batch_shapes(self.config, rows)

    def train_stream(
        self, start_step: int, broken: Sequence[Mapping[str, str]] = ()
    ) -> "TrainBatches":
        """This process's rows of every batch from a step on.

        broken: what `TrainBatches.broken` was before that step.
        """
        c = self.config
        streams = [
            data.train_stream(
                self.train,
                c.data.pipeline,
                batch_size=c.batch_size,
                repeats=c.data.repeats,
                parts=_mixing_groups(c),
                targets=target_form(c),
                **_place(c, start_step, 0),
            )
        ]
        if self.unlabeled is not None:
            streams.append(
                data.train_stream(
                    self.unlabeled,
                    pipeline_of(c, UNLABELED),
                    batch_size=c.unlabeled.batch_size,
                    **_place(c, start_step, 1),
                )
            )
        return TrainBatches(streams, broken)

    def eval_stream(self, name: str | None = None) -> "data.streams.BatchStream":
        """This process's rows of an evaluation set by name, None = the first; see `stream_of`."""
        return self.stream_of(self.eval_sets[next(iter(self.eval_sets)) if name is None else name])

    def stream_of(self, chosen: EvaluationSet) -> "data.streams.BatchStream":
        """This process's rows of an evaluation set: each image once, padded.

        Labels are the set's own; `EvaluationSet.match` makes the model's of them, and its `finish`
        floats of the images.
        """
        form = target_form(self.config)
        if form is not None and form.kind == BOXES:
            # The true objects are the source's, and what is found goes back to its photographs.
            form = dataclasses.replace(form, mask_size=0, whole=True)
        return data.eval_batches(
            chosen.source,
            chosen.pipeline,
            batch_size=chosen.batch_size,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            workers=self.config.data.workers,
            threads=self.config.data.threads,
            max_broken=self.config.data.max_broken,
            in_bytes=True,
            targets=form,
        )

    @staticmethod
    def tell_broken(batches: "data.streams.BatchStream") -> None:
        """Names the images of an evaluation that can't be read."""
        for image, reason in batches.broken.items():
            say_anywhere(f"cannot read image {image}: {reason}; it is in no figure")

    def overview(self, labelled: bool) -> str:
        """Images and classes of each set, and what of it was left out and why.

        labelled: whether the task uses labels, and so how the sets' classes match.
        """
        sets = [("train", self.train, "")]
        if self.unlabeled is not None:
            sets.append(("unlabeled", self.unlabeled, ""))
        for name, chosen in self.eval_sets.items():
            what = "eval" if name == "eval" else f"eval {name}"
            sets.append((what, chosen.source, chosen.said() if labelled else ""))
        lines = [line for one in sets for line in _told(*one)]
        form = target_form(self.config)
        if form is not None and form.kind == BOXES:
            crowded = crowded_images(self.train, form.max_boxes)
            if crowded:
                lines.append(f"train: {crowded} images have more than {form.max_boxes} objects, of "
                             "which the largest are kept (data.max_boxes)")  # fmt: skip
        return "\n".join(lines)


class TrainBatches:
    """Labelled batches, with the images of a second stream under "unlabeled"."""

    def __init__(
        self,
        streams: list["data.streams.BatchStream"],
        broken: Sequence[Mapping[str, str]] = (),
    ):
        self._streams = streams
        for stream, known in zip(streams, broken, strict=False):
            stream.broken |= known
        self._told = {name for known in broken for name in known}

    def __next__(self) -> dict[str, np.ndarray]:
        batch = dict(next(self._streams[0]))
        if len(self._streams) > 1:
            second = next(self._streams[1])
            batch |= {_named(what, UNLABELED): second[what] for what in second if what != "label"}
        self._tell()
        return batch

    @property
    def broken(self) -> list[dict[str, str]]:
        """For each stream, the images of its batches so far that can't be read: name → reason."""
        return [dict(stream.broken) for stream in self._streams]

    def counts(self) -> dict[str, int]:
        """{"broken": how many images of the batches so far can't be read}; {} without any."""
        return {"broken": len(self._told)} if self._told else {}

    def _tell(self) -> None:
        for stream in self._streams:
            for name, reason in stream.broken.items():
                if name not in self._told:
                    self._told.add(name)
                    say_anywhere(f"cannot read image {name}: {reason}; another stands in its place")

    def __enter__(self) -> "TrainBatches":
        return self

    def __exit__(self, *error: object) -> None:
        for stream in self._streams:
            stream.close()


def batch_shapes(
    config: ConfigDict, image_shape: tuple[int, int, int]
) -> dict[str, jax.ShapeDtypeStruct]:
    """The global training batch of a config, for images prepared to (H, W, 3), without a source."""
    rows = {}
    for name in _streams(config):
        form = target_form(config) if name == "image" else None
        left = data.parse_pipeline(pipeline_of(config, name), form).in_bytes()
        nothing = {"objects": NO_OBJECTS, "label_map": np.zeros(image_shape[:2], np.uint8)}
        picture = [{"image": np.zeros(image_shape, left.kind), **nothing}]
        only_left = dataclasses.replace(left, ops=())
        rows[name] = first_arrays(picture, only_left, [0], np.random.default_rng(0))
    return _batch_shapes(config, rows)


def _batch_shapes(
    config: ConfigDict, rows: Mapping[str, ArrayShapes]
) -> dict[str, jax.ShapeDtypeStruct]:
    """The global batch of rows with these arrays, by the name of their images."""
    sizes = {"image": config.batch_size, UNLABELED: config.unlabeled.batch_size}
    shapes = {"label": jax.ShapeDtypeStruct((config.batch_size,), np.int32)}
    for name, arrays in rows.items():
        for what, (shape, kind) in arrays.items():
            shapes[_named(what, name)] = jax.ShapeDtypeStruct((sizes[name], *shape), kind)
    return shapes


def open_inputs(config: ConfigDict) -> Inputs:
    """Opens the data sets of a config; ValueError that names the field where one is amiss."""
    c = config
    classes, form = c.data.classes, target_form(c)
    if not 1 <= c.data.repeats <= c.batch_size:
        raise ValueError(
            f"data.repeats: got {c.data.repeats}, expected from 1 to batch_size, {c.batch_size}"
        )
    train = open_for(
        "data", c.data.source, c.data.split, c, classes=classes, per_class=c.data.per_class
    )
    unlabeled = None
    if c.unlabeled.source:
        if c.unlabeled.batch_size < 1:
            raise ValueError("unlabeled.batch_size: expected 1 or more beside unlabeled.source")
        # Images of the classes that were left out must not come back in without their labels.
        same = classes if c.unlabeled.source == c.data.source else ""
        unlabeled = open_for("unlabeled", c.unlabeled.source, c.unlabeled.split, c, classes=same)
    inputs = Inputs(c, train, unlabeled, open_evaluation_sets(c, train.class_names))
    if form is not None:
        sources = {"data": train, **{one.field: one.source for one in inputs.eval_sets.values()}}
        for field, source in sources.items():
            try:
                check_targets(source, form)
            except ValueError as error:
                raise ValueError(f"{field}.{error}") from None
    return inputs


def target_form(config: ConfigDict) -> TargetForm | None:
    """The arrays of boxes, masks or maps in a batch of a config's task; None for labels alone."""
    most, side = config.data.max_boxes, config.data.mask_size
    try:
        form = TargetForm(BOXES, most, side)
    except ValueError as error:
        raise ValueError(f"data.{error}") from None
    kind = find_task(config.task["name"]).targets
    return dataclasses.replace(form, kind=kind) if kind else None


def _told(what: str, source: data.Source, more: str) -> list[str]:
    names = ", ".join(source.class_names[:4]) + (", …" if source.num_classes > 4 else "")
    classes = f"{source.num_classes} classes ({names})" if source.num_classes else "no labels"
    lines = [f"{what}: {len(source)} images, {classes}, {source.name}{more}"]
    return lines + [f"  left out: {text}" for text in source.left_out]


def _mixing_groups(c: ConfigDict) -> int:
    """Groups of rows that are mixed among themselves: the published run's GPUs."""
    mixed = c.mix.mixup or c.mix.cutmix
    return c.batch_size // (c.mix.group or c.batch_size) if mixed else 1


def _place(c: ConfigDict, start_step: int, stream: int) -> dict[str, int]:
    """The arguments by which every process reads its own rows of one stream."""
    return {
        # A second stream over the same images must not show them in the same order.
        "seed": c.seed + 1_000_003 * stream,
        "start_step": start_step,
        "process_index": jax.process_index(),
        "process_count": jax.process_count(),
        "workers": c.data.workers,
        "threads": c.data.threads,
        "draft": c.data.draft,
        "max_broken": c.data.max_broken,
        "in_bytes": True,
    }


def pipeline_of(config: ConfigDict, images: str) -> str:
    """The pipeline of a batch's "image" or "unlabeled"."""
    own = config.unlabeled.pipeline if images == UNLABELED else ""
    return own or config.data.pipeline


def _streams(config: ConfigDict) -> list[str]:
    """The names of the images in a batch."""
    return ["image", UNLABELED] if config.unlabeled.source else ["image"]


def finishing(config: ConfigDict) -> Callable[[Batch], Batch]:
    """What a step does first to a batch of a config: normalised floats of its bytes."""
    left = {name: Finish.of(pipeline_of(config, name)) for name in _streams(config)}

    def finished(batch: Batch) -> Batch:
        for name, finish in left.items():
            batch = finish(batch, name)
        return batch

    return finished


def _named(what: str, images: str) -> str:
    """The name in a batch of what stands beside an "image", for images of another name.

    What is not called after the image, such as its targets, stands under its own.
    """
    return images + what.removeprefix("image") if what.startswith("image") else what

"""What a run learns, as an object: the training loop knows nothing else about it."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from vit_jax_xfer.evaluate.classification import distribution
from vit_jax_xfer.features.backbone import backbone_of
from vit_jax_xfer.features.feature_extractor import FeatureExtractor
from vit_jax_xfer.models.protocol import Network

if TYPE_CHECKING:  # tasks import where there are no configs
    from ml_collections import ConfigDict

    from vit_jax_xfer.data.sources.class_match import ClassMatch
    from vit_jax_xfer.data.sources.source import Source

Variables = dict[str, Any]
Batch = Mapping[str, jax.Array]


@flax.struct.dataclass
class Aux:
    """What a loss gives beside its value.

    metrics: scalars of the batch, logged under their names. updates: collections other than
    `params` that the forward pass changed, such as batch-norm statistics. numbers: scalars float32,
    how many pixels, boxes, … those means are over that are not over images; of any names.
    """

    metrics: dict[str, jax.Array]
    updates: Variables = flax.struct.field(default_factory=dict)
    numbers: dict[str, jax.Array] = flax.struct.field(default_factory=dict)


class Shown(NamedTuple):
    """A network of a task, and what it is applied to.

    applied: (variables, frozen, images (B, H, W, 3)) → its own variables, and its images.
    """

    network: Network
    applied: Callable[[Variables, Variables, jax.Array], tuple[Variables, jax.Array]]


class Scorer(Protocol):
    """Makes figures of what a task tells of each image of an evaluation set."""

    def add(self, rows: Mapping[str, np.ndarray]) -> None:
        """Takes the rows of some images of all processes; "index" (B,) says which images."""

    def figures(self) -> dict[str, float]:
        """The figures of all images so far."""


class Task(abc.ABC):
    """A network and what it learns. Every method is pure, and traced under jit by the loop.

    `frozen` holds arrays that the run needs and never changes, such as a teacher's parameters. The
    loop shards them like parameters and keeps them out of the optimizer and the checkpoints.
    """

    # By which a config asks for it, and the dataclass of what `config.task` holds beside the name:
    # the fields of a dataclass in it lie flat in the config.
    name: ClassVar[str]
    settings_type: ClassVar[type[Any]]
    # Sections and fields of a config that it has no use for: a run refuses other values than the
    # defaults', and a comparison sets none.
    unused: ClassVar[tuple[str, ...]] = ()
    # What of its images' targets its batches hold: "boxes", "label_map", or "" for labels alone.
    targets: ClassVar[str] = ""
    # For describing and saving the result, and for layer decay.
    model: Network
    frozen: Variables
    # Parameters to start from instead of random ones, a tree like init's; None for a fresh start.
    initial: Variables | None = None
    # Whether a run needs labels, so that missing ones are reported before it starts.
    needs_labels: bool = True
    # Whether it can't be without a teacher, where its settings name one.
    needs_teacher: ClassVar[bool] = False
    # Whether there is anything to train.
    trains: bool = True
    # The field of the config that names where `frozen` comes from, for messages.
    frozen_field: str = "task.teacher"

    @classmethod
    def from_config(
        cls,
        config: ConfigDict,
        settings: Any,
        image_shape: tuple[int, int, int],
        num_classes: int,
        load: Callable[..., tuple[Network, Variables]],
    ) -> Task:
        """The task of a config, for images (H, W, 3) of `num_classes` classes.

        settings: those of `config.task`. load: where teachers and backbones come from, as
        `teachers.load_weights`. ValueError, naming the field, for whatever does not fit.
        """
        raise TypeError(f"{cls.__name__} is made from no config")

    @classmethod
    def copies(cls, mode: str) -> bool:
        """Whether `task.mode` makes a student that computes with its teacher, not without it."""
        return False

    @abc.abstractmethod
    def init(self, key: jax.Array) -> Variables:
        """Fresh variables: {"params": …} and whatever else the network keeps."""

    @abc.abstractmethod
    def loss(
        self, variables: Variables, frozen: Variables, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, Aux]:
        """The scalar to minimise on a batch, and what to log. float32.

        Where a mean in it is over other things than the batch's images, `Aux.numbers` says how many
        they are, and `loss_of_part` is there too.
        """

    def loss_of_part(
        self,
        variables: Variables,
        frozen: Variables,
        batch: Batch,
        key: jax.Array,
        numbers: Mapping[str, jax.Array],
    ) -> tuple[jax.Array, Aux]:
        """As `loss`, of a part of a batch: the parts' mean is the loss of all of it, metrics too.

        numbers: of the whole batch, named as in `Aux.numbers`, divided by the number of parts: what
        sums are divided by, in place of the part's own.
        """
        raise TypeError(f"{type(self).__name__} gives numbers, and has no `loss_of_part`")

    @abc.abstractmethod
    def evaluate(
        self, variables: Variables, frozen: Variables, batch: Batch
    ) -> dict[str, jax.Array]:
        """Sums over the batch's real images (`mask` true), with their number under "count".

        `scored`, (K,) bool where a set asks for it, says which classes can be predicted.
        The loop divides the sums of a whole data set by its count, so that no figure depends on
        the batch size or on the number of devices. Sums that are arrays go to `figures`, and what
        is told of each image, under "rows", {name: (B, …)}, to the task's `scorer`.
        """

    def figures(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
        """The figures of a whole data set from those of its sums that are arrays, float64."""
        raise TypeError(f"{type(self).__name__} sums up numbers alone")

    def scorer(self, source: Source, match: ClassMatch) -> Scorer | None:
        """What makes figures of the rows of an evaluation set; None where the task tells none.

        match: the set's classes to the model's. ValueError where what it needs is missing.
        """
        return None

    @property
    def metrics(self) -> tuple[str, ...] | None:
        """The names of an evaluation's figures; None = those of the sums."""
        return None

    def predict(self, variables: Variables, frozen: Variables, images: jax.Array) -> jax.Array:
        """Logits (B, K) float32 at evaluation."""
        raise TypeError(f"{type(self).__name__} makes no predictions of classes")

    def feature_extractor(
        self, variables: Variables, frozen: Variables, mean_std: Any
    ) -> FeatureExtractor:
        """The features that dense benchmarks see: keys of the network's last block.

        variables: on the host. mean_std: how the run normalises pixels in [0, 1]. ValueError where
        the network has none.
        """
        backbone, own = backbone_of(self.model, variables, "the model", mean_std=mean_std)
        return FeatureExtractor("the model", backbone, (own, {}))

    def networks_shown(self) -> dict[str, Shown]:
        """The networks that pictures of a run show: the trained "model", and perhaps a "teacher".

        ValueError where there is none that could be explained.
        """
        return {"model": Shown(self.model, lambda variables, frozen, images: (variables, images))}

    def networks_of_same_classes(self) -> dict[str, Network]:
        """Networks whose logits go together with the run's, by what a message calls them."""
        return {}

    def check_unlabeled(self) -> None:
        """ValueError, naming the fields, where images without labels would teach nothing."""
        raise ValueError("unlabeled.source: only a task with a teacher learns from such images")

    @abc.abstractmethod
    def check(self, image_shape: tuple[int, ...]) -> None:
        """ValueError for whatever would fail later on images (H, W, 3)."""


def binary_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Each class for itself against all others, the mean over them for each image, (B,) float32.

    targets: classes (B,), or shares of them (B, K), of which any above 0 counts as there, as DeiT
    III's authors train on mixed images (2204.07118).
    """
    there = distribution(targets, logits.shape[-1]) > 0
    losses = optax.sigmoid_binary_cross_entropy(logits.astype(jnp.float32), there)
    return losses.mean(axis=-1)


def smoothed_cross_entropy(logits: jax.Array, targets: jax.Array, smoothing: float) -> jax.Array:
    """Cross-entropy of each image, (B,) float32, with the targets smoothed over all classes.

    targets: classes (B,), or shares of them (B, K) as mixing of images makes them.
    """
    shares = optax.smooth_labels(distribution(targets, logits.shape[-1]), smoothing)
    return optax.softmax_cross_entropy(logits.astype(jnp.float32), shares)

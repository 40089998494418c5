"""What all tasks with a teacher share: its variables, unlabelled images, the sum of losses."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from vit_jax_xfer.evaluate.classification import classification_sums
from vit_jax_xfer.models.registry import STUDENT_LIKE
from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.tasks.configured_model import (
    build_model,
    initial_variables,
    load_like,
    model_fields,
)
from vit_jax_xfer.tasks.supervised import top1
from vit_jax_xfer.tasks.task import (
    Aux,
    Batch,
    Shown,
    Task,
    Variables,
    smoothed_cross_entropy,
)
from vit_jax_xfer.tasks.teacher_view import View, view_of
from vit_jax_xfer.tasks.teachers import Loader, build_student, load_teacher, run_like, scan_like

if TYPE_CHECKING:  # tasks import where there are no configs
    from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True)
class TeacherFields:
    """Where the teacher comes from, and how much it weighs: fields of every task with one."""

    teacher: str = ""  # a run's folder or checkpoint, or any file that load_pretrained reads
    teacher_family: str = ""  # of load_pretrained; "" = told from its names
    teacher_num_heads: int = 0  # where shapes can't tell and 64 channels a head is wrong
    teacher_dtype: str = ""  # bfloat16 | float32: kept and computing in it; "" = see teachers.py
    teacher_product_dtype: str = ""  # bfloat16 | float32: of its products; "" = the student's
    teacher_image_size: int = 0  # pixels; 0 = the student's, -1 = what gives the student's grid
    teacher_mean: tuple[float, ...] | None = None  # of pixels in [0, 1]; None = its own
    teacher_std: tuple[float, ...] | None = None  # preprocessing, where it has one, else ours
    weight: float = 1.0  # of the teacher's loss beside that of the labels
    unlabeled_weight: float = 1.0  # of an unlabelled image's loss beside a labelled one's


@dataclasses.dataclass(frozen=True)
class TeacherSettings(TeacherFields):
    """The fields of a task that learns the classes of images beside."""

    label_smoothing: float = 0.0


@dataclasses.dataclass
class TeachingTask(Task):
    """Cross-entropy on labelled images plus a teacher's loss on labelled and unlabelled ones.

    A subclass gives `teach`: the student's logits and the teacher's loss of each image.
    """

    model: VisionTransformer
    settings: Any
    teacher: VisionTransformer
    frozen: Variables  # the teacher's variables
    initial: Variables | None = None
    view: View = View()  # the teacher's images from the student's
    needs_teacher: ClassVar[bool] = True

    @classmethod
    def from_config(
        cls,
        config: "ConfigDict",
        settings: Any,
        image_shape: tuple[int, int, int],
        num_classes: int,
        load: Loader,
    ) -> "TeachingTask":
        teacher, frozen = load_teacher(settings, load)
        if config.model["name"] == STUDENT_LIKE:
            fields = model_fields(config.model, image_shape, num_classes)
            model = build_student(load_like(config, load) or teacher, fields)
        else:
            model = build_model(config.model, image_shape, num_classes)
        if "attention" not in model.collections:
            raise ValueError(
                f"model.name: {config.model['name']} is no vision transformer, so it has no place "
                "for a teacher's attention; choose a vit_*"
            )
        if model.batch_norm:
            raise ValueError(
                "model.batch_norm: is for a probe, whose other layers stand still; leave it out"
            )
        teacher = run_like(teacher, model, settings)
        teacher, frozen = scan_like(teacher, frozen, model)
        view = view_of(config, settings, model, teacher, image_shape)
        return cls(model, settings, teacher, frozen, initial_variables(config, model), view)

    def init(self, key: jax.Array) -> Variables:
        return self.model.init_variables(key)

    def teach(
        self,
        variables: Variables,
        frozen: Variables,
        images: jax.Array,
        train: bool,
        rngs: dict[str, jax.Array] | None,
    ) -> tuple[jax.Array, jax.Array]:
        """Logits (B, K) of the student and the teacher's loss of each image, (B,) float32."""
        raise TypeError("a teaching task says how it teaches")

    def teach_training(
        self,
        variables: Variables,
        frozen: Variables,
        images: jax.Array,
        train: bool,
        rngs: dict[str, jax.Array] | None,
    ) -> tuple[jax.Array, jax.Array, Variables]:
        """As `teach`, and the collections that the forward pass changed."""
        return *self.teach(variables, frozen, images, train, rngs), {}

    def teach_batch(
        self, variables: Variables, frozen: Variables, batch: Batch
    ) -> tuple[jax.Array, jax.Array]:
        """As `teach`, of a batch of an evaluation, of which `mask` says which rows are images."""
        return self.teach(variables, frozen, batch["image"], False, None)

    def loss(
        self, variables: Variables, frozen: Variables, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, Aux]:
        seen = TaughtImages.of(batch, self.settings.unlabeled_weight)
        rngs = {"dropout": key}
        logits, losses, updates = self.teach_training(variables, frozen, seen.images, True, rngs)
        logits = seen.labelled(logits)
        label_loss = smoothed_cross_entropy(
            logits, batch["label"], self.settings.label_smoothing
        ).mean()
        teacher_loss = seen.mean(losses)
        metrics = {
            "label_loss": label_loss,
            "teacher_loss": teacher_loss,
            "top1": top1(logits, batch["label"]),
        }
        return label_loss + self.settings.weight * teacher_loss, Aux(metrics, updates)

    def evaluate(
        self, variables: Variables, frozen: Variables, batch: Batch
    ) -> dict[str, jax.Array]:
        logits, losses = self.teach_batch(variables, frozen, batch)
        sums = classification_sums(logits, batch["label"], batch["mask"], batch.get("scored"))
        return {**sums, "teacher_loss": jnp.where(batch["mask"], losses, 0).sum()}

    def predict(self, variables: Variables, frozen: Variables, images: jax.Array) -> jax.Array:
        return self.model.apply(variables, images)

    def networks_shown(self) -> dict[str, Shown]:
        return {**super().networks_shown(), "teacher": shown_teacher(self.teacher, self.view)}

    def check_unlabeled(self) -> None:
        """They are what the teacher's loss is for."""

    def check(self, image_shape: tuple[int, ...]) -> None:
        self.model.num_tokens(image_shape)
        shape = self.view.shape(image_shape)
        try:
            self.teacher.grid_in(shape)
        except ValueError:
            raise ValueError(
                f"task.teacher_image_size: {shape[0]}×{shape[1]} pixels are not a whole number of "
                f"the teacher's {self.teacher.patch_size}-pixel patches; give another size, or -1"
            ) from None


def shown_teacher(teacher: VisionTransformer, view: View) -> Shown:
    """A teacher, whose variables are the frozen ones, on its view of the images."""
    return Shown(teacher, lambda variables, frozen, images: (frozen, view(images)))


class TaughtImages(NamedTuple):
    """The images of a batch that a teacher's loss is taken on, and what each of them weighs.

    images: (A + B, H, W, 3), the labelled and the unlabelled ones, see `join_rows`.
    """

    images: jax.Array
    weights: jax.Array
    numbers: tuple[int, int]

    @classmethod
    def of(cls, batch: Batch, unlabeled_weight: float) -> "TaughtImages":
        """Those of a batch; an unlabelled image weighs so much beside a labelled one."""
        images = batch["image"]
        weights = jnp.ones(images.shape[0])
        if "unlabeled" not in batch:
            return cls(images, weights, (images.shape[0], 0))
        numbers = images.shape[0], batch["unlabeled"].shape[0]
        extra = jnp.full(numbers[1], unlabeled_weight)
        joined = join_rows(images, batch["unlabeled"]), join_rows(weights, extra)
        return cls(*joined, numbers)

    def labelled(self, rows: jax.Array) -> jax.Array:
        """The labelled images' rows of what was made of all, (A + B, …) → (A, …)."""
        return first_rows(rows, *self.numbers) if self.numbers[1] else rows

    def mean(self, losses: jax.Array) -> jax.Array:
        """The mean of losses (A + B,), by weight."""
        return (losses * self.weights).sum() / self.weights.sum()


def join_rows(first: jax.Array, second: jax.Array) -> jax.Array:
    """Two batches (A, …), (B, …) as one (A + B, …), in an order that hangs on A and B alone.

    They are dealt out in as many groups as divide both, some rows of each, so that on any mesh that
    divides both a device joins its own rows and nothing travels.
    """
    groups = math.gcd(first.shape[0], second.shape[0])
    parts = (x.reshape(groups, -1, *x.shape[1:]) for x in (first, second))
    return jnp.concatenate(list(parts), axis=1).reshape(-1, *first.shape[1:])


def first_rows(joined: jax.Array, first: int, second: int) -> jax.Array:
    """The rows of the first of two batches of so many rows that `join_rows` made one."""
    groups = math.gcd(first, second)
    rows = joined.reshape(groups, -1, *joined.shape[1:])[:, : first // groups]
    return rows.reshape(first, *joined.shape[1:])

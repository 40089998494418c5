"""What detection and segmentation share: a head that learns, attention transfer beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp

from vit_jax_xfer.features.backbone import backbone_of
from vit_jax_xfer.features.feature_extractor import FeatureExtractor
from vit_jax_xfer.models.dense.counted_mean import CountedMean
from vit_jax_xfer.models.dense.dense_network import DenseNetwork
from vit_jax_xfer.models.lifting.feature_source import FeatureSource
from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.pretrained.loading_notes import note
from vit_jax_xfer.pretrained.warm_start import start_from
from vit_jax_xfer.tasks.attention_transfer import (
    check_pair,
    copying_student,
    refuse_unlabeled_copies,
)
from vit_jax_xfer.tasks.configured_model import build_model, check_predicts, initial_variables
from vit_jax_xfer.tasks.task import Aux, Batch, Shown, Task, Variables
from vit_jax_xfer.tasks.teacher_view import View, view_of
from vit_jax_xfer.tasks.teachers import Loader, load_teacher, run_like, scan_like
from vit_jax_xfer.tasks.teaching import TaughtImages, TeacherFields, shown_teacher
from vit_jax_xfer.transfer.forward import paired_forward
from vit_jax_xfer.transfer.spec import Transfer

if TYPE_CHECKING:  # tasks import where there are no configs
    from ml_collections import ConfigDict

Rngs = dict[str, jax.Array] | None
Maps = tuple[jax.Array, ...]


@dataclasses.dataclass(frozen=True)
class DenseSettings(TeacherFields):
    """The fields of `config.task` for tasks of detection and segmentation.

    Without a teacher the labels alone are learnt; with one its attention moves into the encoder.
    """

    transfer: Transfer = Transfer()  # its fields are fields of `config.task`
    share_drop_path: bool = False  # drop the encoder's branches in the teacher too
    # Weights of a trained LiFT or ConvexLiFT, that the network's own starts from; "" = it is fresh.
    lift_from: str = ""


@dataclasses.dataclass
class DenseTask(Task):
    """A dense network's loss plus λ times its encoder's attention loss, where there is a teacher.

    A subclass gives `learn`: the head's losses on the encoder's maps.
    """

    model: DenseNetwork
    settings: Any
    teacher: VisionTransformer | None = None
    frozen: Variables = dataclasses.field(default_factory=dict)  # the teacher's variables
    initial: Variables | None = None
    view: View = View()  # the teacher's images from the student's
    predicts: ClassVar[str] = ""  # what its networks predict

    @classmethod
    def from_config(
        cls,
        config: ConfigDict,
        settings: Any,
        image_shape: tuple[int, int, int],
        num_classes: int,
        load: Loader,
    ) -> DenseTask:
        model = build_model(config.model, image_shape, num_classes)
        check_predicts(config.model, model, cls.predicts)
        initial = initial_variables(config, model)
        if settings.lift_from:
            initial = _with_lift(initial or {}, model, settings.lift_from, load)
        if not settings.teacher:
            return cls(model, settings, initial=initial)
        encoder = model.encoder
        if "attention" not in encoder.collections:
            raise ValueError(
                f"model.backbone: {config.model['backbone']} is no vision transformer, so it has "
                "no place for a teacher's attention; leave task.teacher out"
            )
        teacher, frozen = load_teacher(settings, load)
        teacher = run_like(teacher, encoder, settings)
        teacher, frozen = scan_like(teacher, frozen, encoder)
        view = view_of(config, settings, encoder, teacher, image_shape)
        return cls(model, settings, teacher, frozen, initial, view)

    @classmethod
    def copies(cls, mode: str) -> bool:
        return Transfer(mode).copies

    def init(self, key: jax.Array) -> Variables:
        return self.model.init_variables(key)

    def learn(
        self,
        network: DenseNetwork,
        maps: Maps,
        batch: Batch,
        key: jax.Array,
    ) -> tuple[dict[str, CountedMean], dict[str, CountedMean]]:
        """Losses whose sum is minimised, and other metrics, of a batch.

        network: bound to its variables. maps: that its heads read.
        """
        raise TypeError("a dense task says what its heads learn")

    def loss(
        self, variables: Variables, frozen: Variables, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, Aux]:
        return self.loss_of_part(variables, frozen, batch, key, {})

    def loss_of_part(
        self,
        variables: Variables,
        frozen: Variables,
        batch: Batch,
        key: jax.Array,
        numbers: Mapping[str, jax.Array],
    ) -> tuple[jax.Array, Aux]:
        encoder_key, head_key, drawn = jax.random.split(key, 3)
        seen = TaughtImages.of(batch, self.settings.unlabeled_weight)
        maps = losses = None
        if self.teacher is not None:
            maps, losses = self.taught(
                variables, frozen, seen.images, True, {"dropout": encoder_key}
            )
            maps = tuple(seen.labelled(x) for x in maps)

        def forward(
            network: DenseNetwork,
        ) -> tuple[dict[str, CountedMean], dict[str, CountedMean]]:
            return self.learn(network, read(network, batch["image"], maps, True), batch, drawn)

        # Statistics of batch norm, which not every network keeps, move with each batch.
        moving = [name for name in ("batch_stats",) if name in variables]
        (found, others), updates = self.model.apply(
            variables, method=forward, rngs={"dropout": head_key}, mutable=moving
        )
        found = {f"{name}_loss": one for name, one in found.items()}
        counted = {**found, **others}
        metrics = {name: one.mean(numbers.get(name)) for name, one in counted.items()}
        total = sum((metrics[name] for name in found), jnp.zeros((), jnp.float32))
        if losses is not None and not self.settings.transfer.copies:
            metrics["teacher_loss"] = seen.mean(losses)
            total = total + self.settings.weight * metrics["teacher_loss"]
        return total, Aux(
            metrics, dict(updates), {name: one.number for name, one in counted.items()}
        )

    def taught(
        self,
        variables: Variables,
        frozen: Variables,
        images: jax.Array,
        train: bool = False,
        rngs: Rngs = None,
        counted: jax.Array | None = None,
    ) -> tuple[Maps, jax.Array]:
        """The encoder's maps of images, and the teacher's loss of each, (B,) float32."""
        layers = self.model.layers_read
        return paired_forward(
            self.settings.transfer,
            self.model.encoder,
            self.model.encoder_variables(variables),
            self.teacher,
            frozen,
            images,
            maps_of=(-1,) if layers is None else layers,
            train=train,
            rngs=rngs,
            share_drop_path=self.settings.share_drop_path,
            teacher_images=self.view(images),
            counted=counted,
        )

    def evaluated(
        self, variables: Variables, frozen: Variables, batch: Batch
    ) -> tuple[Maps | None, dict[str, jax.Array]]:
        """What an evaluation begins with: the encoder's maps as it was trained, and first sums.

        None for the maps of an encoder that stands by itself.
        """
        sums = {"count": batch["mask"].sum()}
        if self.teacher is None:
            return None, sums
        maps, losses = self.taught(variables, frozen, batch["image"], counted=batch["mask"])
        if self.settings.transfer.copies:
            # An encoder that computes with its teacher's attention needs the teacher for good.
            return maps, sums
        return maps, {**sums, "teacher_loss": jnp.where(batch["mask"], losses, 0).sum()}

    @property
    def metrics_of_teacher(self) -> tuple[str, ...]:
        """The figures of an evaluation that a teacher adds."""
        distils = self.teacher is not None and not self.settings.transfer.copies
        return ("teacher_loss",) if distils else ()

    def feature_extractor(
        self, variables: Variables, frozen: Variables, mean_std: Any
    ) -> FeatureExtractor:
        own = self.model.encoder_variables(variables)
        backbone, own = backbone_of(self.model.encoder, own, "the encoder", mean_std=mean_std)
        return FeatureExtractor("the encoder", backbone, (own, {}))

    def networks_shown(self) -> dict[str, Shown]:
        encoder, own_variables = self.model.encoder, self.model.encoder_variables
        if self.teacher is None:
            shown = Shown(encoder, lambda own, frozen, images: (own_variables(own), images))
            return {"model": shown}
        own = copying_student(self.settings.transfer, encoder, self.teacher, self.view)

        def applied(
            variables: Variables, frozen: Variables, images: jax.Array
        ) -> tuple[Variables, jax.Array]:
            return own.applied(own_variables(variables), frozen, images)

        teacher = shown_teacher(self.teacher, self.view)
        return {"model": Shown(encoder, applied), "teacher": teacher}

    def check_unlabeled(self) -> None:
        if self.teacher is None:
            super().check_unlabeled()
        refuse_unlabeled_copies(self.settings.transfer)

    def check(self, image_shape: tuple[int, ...]) -> None:
        self.model.num_tokens(image_shape)
        if self.teacher is not None:
            check_pair(self.settings, self.model.encoder, self.teacher, image_shape, self.view)


def read(network: DenseNetwork, images: jax.Array, maps: Maps | None, train: bool = False) -> Maps:
    """The maps that a bound network's heads read; maps: the encoder's own, where known already."""
    if maps is None:
        return network.encode(images, train)
    return network.doubled(maps, images, train)


def _with_lift(initial: Variables, model: DenseNetwork, path: str, load: Loader) -> Variables:
    """What the network starts from, with a trained lift's weights for its own. ValueError."""
    if model.lift is None:
        raise ValueError("task.lift_from: the network has no lift; set model.lift, or leave it out")
    source, variables = load("task.lift_from", path)
    try:
        if type(source) is type(model.lift) and source.patch_size != model.lift.patch_size:
            raise ValueError(
                f"it doubles features of {source.patch_size}-pixel patches, and the encoder's are "
                f"of {model.lift.patch_size}"
            )
        found = start_from(source, variables, model.lift)
    except ValueError as error:
        raise ValueError(f"task.lift_from: {path}: {error}") from None
    _tell_other_features(model, path, source.source)
    return {
        name: {**initial.get(name, {}), **({"lift": found[name]} if name in found else {})}
        for name in {**initial, **found}
    }


def _tell_other_features(model: DenseNetwork, path: str, learnt: FeatureSource | None) -> None:
    """Says where a lift was trained on other features than the network's maps; None: not known."""
    if learnt is None:
        return
    encoder = model.encoder
    read = {layer % encoder.depth for layer in model.layers_read or (-1,)}
    facet = "normed" if getattr(encoder, "final_norm", False) else "token"
    if learnt.facet != facet or read != {learnt.layer}:
        blocks = ", ".join(map(str, sorted(read)))
        note(
            f"task.lift_from: {path} was trained on {learnt.facet} of block {learnt.layer}, and is "
            f"given {facet} of block {blocks}; train one with task.facet={facet!r}"
        )

"""An ensemble: finished models whose class probabilities are averaged. Nothing is trained."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax_xfer.data.transforms import normalisation_of
from vit_jax_xfer.evaluate.classification import classification_sums
from vit_jax_xfer.models.registry import STUDENT_LIKE
from vit_jax_xfer.tasks.configured_model import tell_other_normalisation
from vit_jax_xfer.tasks.copying_runs import copying_run
from vit_jax_xfer.tasks.registration import build_task
from vit_jax_xfer.tasks.task import Aux, Batch, Task, Variables
from vit_jax_xfer.tasks.teachers import Loader, load_weights

if TYPE_CHECKING:  # tasks import where there are no configs
    from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True)
class EnsembleSettings:
    """The fields of `config.task` for "ensemble"."""

    members: tuple[str, ...] = ()  # work folders of runs, or files that load_pretrained reads


@dataclasses.dataclass(frozen=True)
class Member:
    """A finished model: predict(variables, images) → logits (B, K)."""

    name: str
    model: nn.Module
    variables: Variables
    predict: Callable[[Variables, jax.Array], jax.Array]


@dataclasses.dataclass
class Ensemble(Task):
    """The mean of the members' probabilities (2411.09702: the student with a fine-tuned model)."""

    members: Sequence[Member]
    settings: EnsembleSettings
    trains: bool = False
    frozen_field: str = "task.members"
    name: ClassVar[str] = "ensemble"
    settings_type: ClassVar[type[EnsembleSettings]] = EnsembleSettings
    unused: ClassVar[tuple[str, ...]] = (
        *("model", "init_from", "init_num_heads", "optim", "mix", "unlabeled"),
        *("epochs", "steps", "checkpoint", "explain", "log.every", "log.progress_seconds"),
        *("eval.every", "eval.patience", "eval.suites_every"),
        *("eval.benchmarks", "eval.benchmark_size", "eval.benchmark_limit"),
    )

    @classmethod
    def from_config(
        cls,
        config: "ConfigDict",
        settings: EnsembleSettings,
        image_shape: tuple[int, int, int],
        num_classes: int,
        load: Loader,
    ) -> "Ensemble":
        members = [load_member(path, image_shape, num_classes) for path in settings.members]
        for member in members:
            own, field = _normalisation(member), f"task.members: {member.name}"
            tell_other_normalisation(field, own, "eval.pipeline", config.eval.pipeline)
        return cls(members, settings)

    def __post_init__(self) -> None:
        if len(self.members) < 2:
            raise ValueError(f"task.members: expected two or more, got {len(self.members)}")
        for member in self.members:
            if member.model.predicts != "classes":
                raise ValueError(
                    f"task.members: {member.name} is a {member.model.kind}, which predicts "
                    f"{member.model.predicts}; choose networks that predict classes"
                )
        classes = {member.name: member.model.num_classes for member in self.members}
        if len(set(classes.values())) > 1:
            raise ValueError(f"task.members: numbers of classes differ: {classes}")
        self.model = self.members[0].model
        self.frozen = {f"member_{i}": member.variables for i, member in enumerate(self.members)}

    def init(self, key: jax.Array) -> Variables:
        return {"params": {}}

    def loss(
        self, variables: Variables, frozen: Variables, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, Aux]:
        raise ValueError("an ensemble trains nothing: set config.steps = 0")

    def evaluate(
        self, variables: Variables, frozen: Variables, batch: Batch
    ) -> dict[str, jax.Array]:
        logits = self.predict(variables, frozen, batch["image"])
        return classification_sums(logits, batch["label"], batch["mask"], batch.get("scored"))

    def predict(self, variables: Variables, frozen: Variables, images: jax.Array) -> jax.Array:
        """The log of the mean probability, (B, K)."""
        log_probs = [
            jax.nn.log_softmax(member.predict(frozen[f"member_{i}"], images).astype(jnp.float32))
            for i, member in enumerate(self.members)
        ]
        return jax.nn.logsumexp(jnp.stack(log_probs), axis=0) - jnp.log(len(log_probs))

    def networks_of_same_classes(self) -> dict[str, nn.Module]:
        return {f"task.members: {member.name}": member.model for member in self.members}

    def check(self, image_shape: tuple[int, ...]) -> None:
        for member in self.members:
            member.model.num_tokens(image_shape)


def load_member(path: str, image_shape: tuple[int, int, int], num_classes: int) -> Member:
    """A finished model for an ensemble: the work folder of a run, or a file of weights.

    ValueError for the model alone of a run whose student copies, which is another network.
    """
    folder = pathlib.Path(path).expanduser()
    if not (folder / "config.json").is_file():
        if (run := copying_run(path)) is not None:
            raise ValueError(
                f"task.members: {path} computes with its teacher's attention, which isn't in it; "
                f"give its run's folder, {run}"
            )
        model, variables = load_weights("task.members", path)
        return Member(path, model, variables, model.apply)
    task, variables = load_run(path, image_shape, num_classes)

    def predict(variables: Variables, images: jax.Array) -> jax.Array:
        return task.predict(variables["own"], variables["frozen"], images)

    return Member(path, task.model, {"own": variables, "frozen": task.frozen}, predict)


def _normalisation(member: Member) -> Any:
    """(mean, std) of the images that a member was trained on; None where nothing says."""
    written = pathlib.Path(member.name).expanduser() / "config.json"
    if written.is_file():
        return normalisation_of(json.loads(written.read_text())["data"]["pipeline"])
    prepared = member.model.encoder.preprocessing
    return (prepared.mean, prepared.std) if prepared else None


def load_run(
    workdir: str, image_shape: tuple[int, int, int], num_classes: int
) -> tuple[Task, Variables]:
    """The task of a finished run, and the variables that it ended with."""
    from ml_collections import ConfigDict

    folder = pathlib.Path(workdir).expanduser()
    config = ConfigDict(json.loads((folder / "config.json").read_text()))
    config.init_from = ""
    if config.model.name == STUDENT_LIKE:  # the finished model is like what it was like
        config.model.like = str(folder / "model")
    model, variables = load_weights("task.members", str(folder / "model"))
    task = build_task(config, image_shape, num_classes)
    task.model = task.model.clone(class_names=model.class_names)
    return task, variables

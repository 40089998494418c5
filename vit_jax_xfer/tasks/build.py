"""From a config to a task: the network, what it starts from, and its teacher."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from vit_jax_xfer.models.extract import encoder_of
from vit_jax_xfer.models.registry import create_model
from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.pretrained import load_pretrained
from vit_jax_xfer.pretrained.start import start_from
from vit_jax_xfer.tasks.attention_transfer import AttentionTransfer
from vit_jax_xfer.tasks.base import Task, Variables
from vit_jax_xfer.tasks.classification import Classification
from vit_jax_xfer.tasks.distillation import FeatureDistillation, LogitDistillation
from vit_jax_xfer.tasks.ensemble import Ensemble, Member
from vit_jax_xfer.tasks.masked_pretraining import MaskedPretraining
from vit_jax_xfer.tasks.settings import SETTINGS

TEACHING = {
    "attention_transfer": AttentionTransfer,
    "logit_distillation": LogitDistillation,
    "feature_distillation": FeatureDistillation,
}


def build_task(config: ConfigDict, image_shape: tuple[int, int, int], num_classes: int) -> Task:
    """The task of a config, for images (H, W, 3) of `num_classes` classes; loads what it needs.

    ValueError, naming the field, for whatever does not fit.
    """
    settings = task_settings(config.task)
    name = config.task["name"]
    if name == "ensemble":
        members = [load_member(path, image_shape, num_classes) for path in settings.members]
        task: Task = Ensemble(members, settings)
    else:
        model = build_model(config.model, image_shape, num_classes)
        initial = _initial(config, model)
        if name == "classification":
            task = Classification(model, settings, initial)
        elif name == "masked_pretraining":
            task = MaskedPretraining(model, settings, initial)
        else:
            teacher, frozen = _load_teacher(settings, model)
            task = TEACHING[name](model, settings, teacher, frozen, initial)
    task.check(image_shape)
    return task


def task_settings(config: Mapping[str, Any]) -> Any:
    """The settings object of `config.task`."""
    name, fields = config["name"], {key: config[key] for key in config if key != "name"}
    if name not in SETTINGS:
        raise ValueError(f"task.name: {name!r} is none of {', '.join(SETTINGS)}")
    known = [field.name for field in dataclasses.fields(SETTINGS[name])]
    if unknown := sorted(set(fields) - set(known)):
        raise ValueError(f"task.{unknown[0]}: {name} has no such field; choose a config file of it")
    return SETTINGS[name](**fields)


def build_model(
    config: Mapping[str, Any], image_shape: tuple[int, int, int], num_classes: int
) -> nn.Module:
    """The network of `config.model`; image size and classes come from the data where not given."""
    fields = {key: config[key] for key in config if key != "name" and config[key] is not None}
    height, width = image_shape[:2]
    fields.setdefault("image_size", height if height == width else (height, width))
    if not config["name"].startswith("mae_"):
        fields.setdefault("num_classes", num_classes)
    if "dtype" in fields:
        fields["dtype"] = jnp.dtype(fields["dtype"])
    return create_model(config["name"], **fields)


def load_member(path: str, image_shape: tuple[int, int, int], num_classes: int) -> Member:
    """A finished model for an ensemble: the work folder of a run, or a file of weights."""
    folder = pathlib.Path(path)
    if not (folder / "config.json").is_file():
        model, variables = _load("task.members", path)
        return Member(path, model, variables, model.apply)
    task, variables = load_run(path, image_shape, num_classes)

    def predict(variables: Variables, images: jax.Array) -> jax.Array:
        return task.predict(variables["own"], variables["frozen"], images)

    return Member(path, task.model, {"own": variables, "frozen": task.frozen}, predict)


def load_run(
    workdir: str, image_shape: tuple[int, int, int], num_classes: int
) -> tuple[Task, Variables]:
    """The task of a finished run, and the variables that it ended with."""
    folder = pathlib.Path(workdir)
    config = ConfigDict(json.loads((folder / "config.json").read_text()))
    config.init_from = ""
    _, variables = _load("task.members", str(folder / "model"))
    return build_task(config, image_shape, num_classes), variables


def _initial(config: ConfigDict, model: nn.Module) -> Variables | None:
    if not config.init_from:
        return None
    source, variables = _load("init_from", config.init_from, config.init_num_heads)
    try:
        return start_from(source, variables, model)
    except ValueError as error:
        raise ValueError(f"init_from: {config.init_from}: {error}") from None


def _load_teacher(settings: Any, student: nn.Module) -> tuple[VisionTransformer, Variables]:
    if not settings.teacher:
        raise ValueError(
            "task.teacher: none given; pass --config.task.teacher= with a run's model folder or a "
            "checkpoint file"
        )
    loaded = _load("task.teacher", settings.teacher, settings.teacher_num_heads)
    teacher, variables = encoder_of(*loaded)
    # The teacher computes as the student does: its type and its kernels are the run's choice.
    teacher = teacher.clone(
        dtype=student.dtype,
        attention=student.attention,
        blockwise_above=student.blockwise_above,
        drop_path=0.0,
        remat="none",
    )
    return teacher, variables


def _load(field: str, path: str, num_heads: int = 0) -> tuple[nn.Module, Variables]:
    fields = {"num_heads": num_heads} if num_heads else {}
    try:
        return load_pretrained(path, **fields)
    except FileNotFoundError as error:
        hint = "a finished run has a model/ folder, a downloaded file its own path"
        raise ValueError(f"{field}: {error}; {hint}") from None
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None

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

from vit_jax_xfer.models.registry import STUDENT_LIKE, create_model
from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.pretrained.start import start_from
from vit_jax_xfer.tasks.attention_transfer import AttentionTransfer
from vit_jax_xfer.tasks.distillation import FeatureDistillation, LogitDistillation
from vit_jax_xfer.tasks.ensemble import Ensemble, Member
from vit_jax_xfer.tasks.feature_upsampling import FeatureUpsampling, FeatureUpsamplingSettings
from vit_jax_xfer.tasks.masked_pretraining import MaskedPretraining
from vit_jax_xfer.tasks.settings import SETTINGS
from vit_jax_xfer.tasks.supervised import Classification
from vit_jax_xfer.tasks.task import Task, Variables
from vit_jax_xfer.tasks.teacher_view import view_between, view_of
from vit_jax_xfer.tasks.teachers import (
    Loader,
    build_student,
    load_backbone_of,
    load_teacher,
    load_weights,
    run_like,
)
from vit_jax_xfer.tasks.teaching import TeachingTask
from vit_jax_xfer.transfer.views import Normalisation

TEACHING = {
    "attention_transfer": AttentionTransfer,
    "logit_distillation": LogitDistillation,
    "feature_distillation": FeatureDistillation,
}


def build_task(
    config: ConfigDict,
    image_shape: tuple[int, int, int],
    num_classes: int,
    load: Loader = load_weights,
) -> Task:
    """The task of a config, for images (H, W, 3) of `num_classes` classes; loads what it needs.

    load: where a teacher or backbone comes from. ValueError, naming the field, for whatever does
    not fit.
    """
    settings = task_settings(config.task)
    name = config.task["name"]
    if name == "ensemble":
        members = [load_member(path, image_shape, num_classes) for path in settings.members]
        task: Task = Ensemble(members, settings)
    elif name in TEACHING:
        task = _build_teaching(config, settings, image_shape, num_classes, load)
    elif name == "feature_upsampling":
        task = _build_upsampling(config, settings, load)
    else:
        model = build_model(config.model, image_shape, num_classes)
        initial = _initial(config, model)
        if name == "classification":
            task = Classification(model, settings, initial)
        else:
            task = MaskedPretraining(model, settings, initial)
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
    # On a command line None becomes a tuple of it where the config file has a tuple.
    fields = {key: None if value == (None,) else value for key, value in fields.items()}
    return SETTINGS[name](**fields)


def build_model(
    config: Mapping[str, Any], image_shape: tuple[int, int, int], num_classes: int
) -> nn.Module:
    """The network of `config.model`; image size and classes come from the data where not given."""
    fields = _model_fields(config, image_shape, num_classes)
    if "parts" in fields:
        raise ValueError(f"model.parts: {config['name']} has none; model.name='student_like' has")
    return create_model(config["name"], **fields)


def _model_fields(
    config: Mapping[str, Any], image_shape: tuple[int, int, int], num_classes: int
) -> dict[str, Any]:
    """The fields of `config.model` that are given, and those that the data give."""
    fields = {key: config[key] for key in config if key != "name" and config[key] is not None}
    height, width = image_shape[:2]
    fields.setdefault("image_size", height if height == width else (height, width))
    if not config["name"].startswith("mae_"):
        fields.setdefault("num_classes", num_classes)
    if "dtype" in fields:
        fields["dtype"] = jnp.dtype(fields["dtype"])
    return fields


def _build_teaching(
    config: ConfigDict,
    settings: Any,
    image_shape: tuple[int, int, int],
    num_classes: int,
    load: Loader,
) -> TeachingTask:
    """A task with a teacher, whose size the student may have."""
    teacher, frozen = load_teacher(settings, load)
    if config.model["name"] == STUDENT_LIKE:
        fields = _model_fields(config.model, image_shape, num_classes)
        model: nn.Module = build_student(teacher, fields)
    else:
        model = build_model(config.model, image_shape, num_classes)
    if not isinstance(model, VisionTransformer):
        raise ValueError(
            f"model.name: {config.model['name']} is no vision transformer, so it has no place for "
            "a teacher's attention; choose a vit_*"
        )
    teacher = run_like(teacher, model, settings.teacher_dtype)
    view = view_of(config, settings, model, teacher, image_shape)
    task = TEACHING[config.task["name"]]
    return task(model, settings, teacher, frozen, _initial(config, model), view)


def _build_upsampling(
    config: ConfigDict, settings: FeatureUpsamplingSettings, load: Loader
) -> FeatureUpsampling:
    """A network that doubles features; its patch size and width are the backbone's."""
    backbone, frozen = load_backbone_of(settings, load)
    fields = {key: config.model[key] for key in config.model if config.model[key] is not None}
    name = fields.pop("name")
    fields = {"patch_size": backbone.patch_size, "width": backbone.width, **fields}
    if "dtype" in fields:
        fields["dtype"] = jnp.dtype(fields["dtype"])
    model = create_model(name, **fields)
    if not hasattr(model, "source"):
        raise ValueError(f"model.name: {name} doubles no features; choose lift or convex_lift")
    model = model.clone(source=backbone.source(frozen))
    view = view_between(config, Normalisation(*backbone.mean_std))
    initial = _initial(config, model)
    return FeatureUpsampling(model, settings, backbone, frozen, initial, view)


def load_member(path: str, image_shape: tuple[int, int, int], num_classes: int) -> Member:
    """A finished model for an ensemble: the work folder of a run, or a file of weights."""
    folder = pathlib.Path(path)
    if not (folder / "config.json").is_file():
        model, variables = load_weights("task.members", path)
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
    _, variables = load_weights("task.members", str(folder / "model"))
    return build_task(config, image_shape, num_classes), variables


def _initial(config: ConfigDict, model: nn.Module) -> Variables | None:
    if not config.init_from:
        return None
    source, variables = load_weights("init_from", config.init_from, config.init_num_heads)
    try:
        return start_from(source, variables, model)
    except ValueError as error:
        raise ValueError(f"init_from: {config.init_from}: {error}") from None

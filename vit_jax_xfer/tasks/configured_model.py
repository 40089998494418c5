"""The network of a config, and the parameters that it starts from."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from vit_jax_xfer.models.protocol import OF_CLASSES, Network
from vit_jax_xfer.models.registry import ENTRIES, create_model, network_class
from vit_jax_xfer.pretrained.loading_notes import note
from vit_jax_xfer.pretrained.warm_start import start_from
from vit_jax_xfer.tasks.task import Variables
from vit_jax_xfer.tasks.teachers import load_weights

if TYPE_CHECKING:  # tasks import where there are no configs
    from ml_collections import ConfigDict


def build_model(
    config: Mapping[str, Any], image_shape: tuple[int, int, int], num_classes: int
) -> Network:
    """The network of `config.model`; image size and classes come from the data where not given."""
    fields = model_fields(config, image_shape, num_classes)
    if "parts" in fields:
        raise ValueError(f"model.parts: {config['name']} has none; model.name='student_like' has")
    return create_model(config["name"], **fields)


def model_fields(
    config: Mapping[str, Any], image_shape: tuple[int, int, int], num_classes: int
) -> dict[str, Any]:
    """The fields of `config.model` that are given, and those that the data give."""
    fields = given_fields(config)
    height, width = image_shape[:2]
    kind = network_class(config["name"])
    if "image_size" in kind.keywords():
        fields.setdefault("image_size", height if height == width else (height, width))
    if kind.predicts in OF_CLASSES:
        fields.setdefault("num_classes", num_classes)
    return fields


def check_predicts(config: Mapping[str, Any], model: Network, wanted: str) -> None:
    """ValueError, naming the field, unless the network predicts what a task learns."""
    if model.predicts != wanted:
        fitting = [name for name, (kind, _) in ENTRIES.items() if kind.predicts == wanted]
        raise ValueError(
            f"model.name: {config['name']} predicts {model.predicts}, and this task learns "
            f"{wanted}; choose one such as {fitting[0]}"
        )


def given_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `config.model` that are given, but the name; a type by its name."""
    fields = {key: config[key] for key in config if key != "name" and config[key] is not None}
    if "dtype" in fields:
        fields["dtype"] = jnp.dtype(fields["dtype"])
    return fields


def initial_variables(config: "ConfigDict", model: Network) -> Variables | None:
    """What the network starts from by `config.init_from`; None for a fresh start."""
    if not config.init_from:
        return None
    source, variables = load_weights("init_from", config.init_from, config.init_num_heads)
    try:
        found = start_from(source, variables, model)
    except ValueError as error:
        raise ValueError(f"init_from: {config.init_from}: {error}") from None
    if source.num_classes and source.num_classes != model.num_classes:
        fresh = f"one of {model.num_classes} starts afresh" if model.num_classes else "none is here"
        note(f"init_from: the head of {source.num_classes} classes is left out; {fresh}")
    return found

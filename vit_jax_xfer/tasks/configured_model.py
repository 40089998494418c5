"""The network of a config, and the parameters that it starts from."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vit_jax_xfer.arguments.declared_types import floating_type
from vit_jax_xfer.data.transforms import normalisation_of
from vit_jax_xfer.models.extract import encoder_of
from vit_jax_xfer.models.protocol import OF_CLASSES, Network
from vit_jax_xfer.models.registry import ENTRIES, STUDENT_LIKE, create_model, network_class
from vit_jax_xfer.pretrained.loading_notes import note
from vit_jax_xfer.pretrained.warm_start import start_from
from vit_jax_xfer.tasks.task import Variables
from vit_jax_xfer.tasks.teachers import Loader, build_student, check_attends, load_weights

if TYPE_CHECKING:  # tasks import where there are no configs
    from ml_collections import ConfigDict


def build_model(
    config: Mapping[str, Any], image_shape: tuple[int, int, int], num_classes: int
) -> Network:
    """The network of `config.model`; image size and classes come from the data where not given."""
    fields = model_fields(config, image_shape, num_classes)
    for field in ("parts", "like"):
        if field in fields and config["name"] != STUDENT_LIKE:
            raise ValueError(
                f"model.{field}: {config['name']} has none; model.name='student_like' has"
            )
    return create_model(config["name"], **fields)


class Start(NamedTuple):
    """The weights that `config.init_from` names, and their network."""

    network: Network
    variables: Variables


def load_start(config: "ConfigDict") -> Start | None:
    """What `config.init_from` names; None for a fresh start."""
    if not config.init_from:
        return None
    return Start(*load_weights("init_from", config.init_from, config.init_num_heads))


def build_started(
    config: "ConfigDict", image_shape: tuple[int, int, int], num_classes: int, load: Loader
) -> tuple[Network, Start | None]:
    """The network of a config of a task without a teacher, and the weights that it starts from.

    One like other weights, "student_like", is like those of `model.like`, else of `init_from`.
    """
    start = load_start(config)
    like = load_like(config, load)
    if config.model["name"] == STUDENT_LIKE and like is None and start is not None:
        like = start.network.encoder
        check_attends("init_from", config.init_from, like)
    if like is None:
        return build_model(config.model, image_shape, num_classes), start
    return build_student(like, model_fields(config.model, image_shape, num_classes)), start


def load_like(config: "ConfigDict", load: Loader) -> Network | None:
    """The network that `config.model`, named "student_like", is told to be like by `like`."""
    path = config.model.get("like")
    if config.model["name"] != STUDENT_LIKE or not path:
        return None
    network, _ = encoder_of(*load("model.like", path))
    check_attends("model.like", path, network)
    return network


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
    for name in ("dtype", "product_dtype"):
        if name in fields:
            fields[name] = floating_type(f"model.{name}", fields[name])
    return fields


def initial_variables(
    config: "ConfigDict", model: Network, start: Start | None = None
) -> Variables | None:
    """What the network starts from by `config.init_from`; None for a fresh start.

    start: that, where it is loaded already.
    """
    start = start or load_start(config)
    if start is None:
        return None
    source, variables = start
    own = source.encoder.preprocessing
    if own is not None:
        field = f"init_from: {config.init_from}"
        tell_other_normalisation(field, (own.mean, own.std), "data.pipeline", config.data.pipeline)
    try:
        found = start_from(source, variables, model)
    except ValueError as error:
        raise ValueError(f"init_from: {config.init_from}: {error}") from None
    if source.num_classes and source.num_classes != model.num_classes:
        fresh = f"one of {model.num_classes} starts afresh" if model.num_classes else "none is here"
        note(f"init_from: the head of {source.num_classes} classes is left out; {fresh}")
    return found


def tell_other_normalisation(what: str, own: Any, field: str, pipeline: str) -> None:
    """Says where a field's pipeline normalises otherwise than weights were trained with.

    what: the weights, for the message. own: their (mean, std), None = not known.
    """
    seen = normalisation_of(pipeline)
    if own is None or seen is None or np.allclose(own, seen, atol=1e-3):
        return
    mean, std = own
    note(
        f"{what} was trained on other pixels than {field} gives; normalize(mean={mean}, std={std}) "
        "in all pipelines gives its own"
    )

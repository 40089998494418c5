"""Tasks by name: what `config.task` says, read by the task that it names."""

import dataclasses
import functools
import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vit_jax_xfer.tasks.flat_settings import flat_types, from_flat
from vit_jax_xfer.tasks.task import Task
from vit_jax_xfer.tasks.teachers import Loader, load_weights

if TYPE_CHECKING:  # tasks import where there are no configs
    from ml_collections import ConfigDict

# Filled by `register`; those of this package are listed in build.py.
TASKS: dict[str, type[Task]] = {}


def register(task: type[Task]) -> type[Task]:
    """Makes a task known by its `name`, to configs and to commands; a decorator as well.

    ValueError for a name that another task has, and for settings that are no dataclass.
    """
    if TASKS.get(task.name, task) is not task:
        raise ValueError(f"name: {task.name!r} is the name of {TASKS[task.name].__name__} already")
    if not dataclasses.is_dataclass(task.settings_type):
        raise ValueError(f"settings_type: {task.__name__} has no dataclass of settings")
    TASKS[task.name] = task
    return task


def find_task(name: str) -> type[Task]:
    """The task of a name. ValueError, naming the field, where there is none."""
    if name not in TASKS:
        raise ValueError(f"task.name: {name!r} is none of {', '.join(TASKS)}")
    return TASKS[name]


def task_settings(config: Mapping[str, Any]) -> Any:
    """The settings object of `config.task`. ValueError, naming the field, for one it has not."""
    name, fields = config["name"], {key: config[key] for key in config if key != "name"}
    settings_type = find_task(name).settings_type
    if unknown := sorted(set(fields) - flat_types(settings_type).keys()):
        raise ValueError(f"task.{unknown[0]}: {name} has no such field; choose a config file of it")
    # On a command line None becomes a tuple of it where the config file has a tuple.
    fields = {key: None if value == (None,) else value for key, value in fields.items()}
    try:
        return from_flat(settings_type, fields)
    except ValueError as error:
        raise ValueError(f"task.{error}") from None


def build_task(
    config: "ConfigDict",
    image_shape: tuple[int, int, int],
    num_classes: int,
    load: Loader = load_weights,
) -> Task:
    """The task of a config, for images (H, W, 3) of `num_classes` classes; loads what it needs.

    load: where a teacher or backbone comes from. ValueError, naming the field, for whatever does
    not fit.
    """
    settings = task_settings(config.task)
    kind = find_task(config.task["name"])
    check_unused(config)
    task = kind.from_config(config, settings, image_shape, num_classes, load)
    try:
        task.check(image_shape)
    except ValueError as error:
        own = str(error).partition(":")[0] in flat_types(kind.settings_type)
        raise ValueError(f"task.{error}" if own else str(error)) from None
    return task


def check_unused(config: "ConfigDict") -> None:
    """ValueError, naming the field, for what a config's task has no use for and has a value."""
    kind = find_task(config.task["name"])
    if not kind.unused:
        return
    from vit_jax_xfer.config import default_config

    network = "" if "model" in kind.unused else config.model["name"]
    usual = default_config(kind.name, network, settings={})
    for name in kind.unused:
        *sections, last = name.split(".")
        given, own = (functools.reduce(operator.getitem, sections, one) for one in (config, usual))
        if given[last] != own[last]:
            if hasattr(own[last], "items"):
                inside = given[last]
                name += "." + next(key for key in inside if inside[key] != own[last].get(key))
            raise ValueError(
                f"{name}: the task {kind.name} has no use for it; leave it as "
                f'default_config("{kind.name}", "{network}", …) has it'
            )


def has_use_for(config: "ConfigDict", field: str) -> bool:
    """Whether the task of a config has a use for a field, such as "optim.lr", or for a section."""
    unused = find_task(config.task["name"]).unused
    return not any(f"{field}.".startswith(f"{one}.") for one in unused)

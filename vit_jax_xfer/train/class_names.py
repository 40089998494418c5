"""Which class each output of a run's network is, and whether its companions mean the same by it."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from vit_jax_xfer.suites.imagenet_labels import names_beside
from vit_jax_xfer.tasks.task import Task
from vit_jax_xfer.tasks.teachers import read_network
from vit_jax_xfer.train.console import say


def name_classes(task: Task, config: ConfigDict, names: tuple[str, ...]) -> None:
    """Gives the network of a task the data's class names, with which it is described and saved.

    Parameters that `init_from` brought for other classes are left out, which is said. ValueError
    where a network whose logits go together with its own has other classes, or another order.
    """
    if not task.needs_labels:
        return
    for field, other in task.networks_of_same_classes().items():
        if other.class_names is None:
            say(f"{field}: it has no class names; its classes are taken to be the data's, in order")
        elif difference := differing(other.class_names, names):
            raise ValueError(f"{field}: its classes are not the data's: {difference}")
    task.model = task.model.with_fields(class_names=names)
    if task.initial is None:
        return
    source = read_network("init_from", config.init_from, config.init_num_heads).class_names
    difference = None if source is None else differing(source, names)
    taken = [head for head in task.model.heads if head in task.initial["params"]]
    if difference and taken:
        params = {key: x for key, x in task.initial["params"].items() if key not in taken}
        task.initial = {**task.initial, "params": params}
        say(f"init_from: its head is for other classes ({difference}), so that starts afresh")


def check_same_classes(task: Task, extra: Mapping[str, Any]) -> None:
    """ValueError where a checkpoint's `extra` has other classes than the data have now."""
    if not task.needs_labels or task.model.class_names is None:
        return
    if extra.get("class_names") is None:
        say("this checkpoint has no class names: the data are taken to be those it began with")
    elif difference := differing(extra["class_names"], task.model.class_names):
        raise ValueError(
            "data.source: its classes are not those with which this run was started: the "
            f"checkpoint differs, {difference}"
        )


def differing(its: Sequence[str], data: Sequence[str]) -> str:
    """What differs between a network's class names and the data's, in order; "" for nothing."""
    its = names_beside(its, data)
    if list(its) == list(data):
        return ""
    own = [name for name in its if name not in set(data)]
    other = [name for name in data if name not in set(its)]
    parts = [f"it has {len(its)} and the data {len(data)}"] if len(its) != len(data) else []
    parts += [f"{_few(own)} only there"] if own else []
    parts += [f"{_few(other)} only in the data"] if other else []
    if not own and not other:
        place = next(i for i, pair in enumerate(zip(its, data, strict=False)) if len(set(pair)) > 1)
        parts.append(f"number {place} is {its[place]!r} there and {data[place]!r} in the data")
    return ", ".join(parts)


def _few(names: list[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if names[3:] else "")

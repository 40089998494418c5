"""What a family of foreign checkpoints declares, and how a file is loaded through it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from vit_jax_xfer.pretrained.layout import stack_blocks, unstack_blocks
from vit_jax_xfer.pretrained.names import (
    Rule,
    State,
    from_publisher,
    to_publisher,
    unknown_names,
)

Fields = dict[str, Any]


def image_inputs(model: nn.Module) -> tuple[jax.ShapeDtypeStruct, ...]:
    """What a classifier's `init` takes: one image of its native size."""
    size = model.image_size
    height, width = (size, size) if isinstance(size, int) else size
    return (jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32),)


@dataclasses.dataclass(frozen=True)
class Family:
    """One publisher's way of writing a network down.

    name: what `load_pretrained(family=…)` takes.
    recognises: whether a file's names (and where names can't tell, values) may be this family's.
    plan: (the file, the caller's fields) → (the model, the file made to fit it). Fields come from
        shapes; making it fit means resizing positions and leaving out what fields turned off.
    rules: the name map, ordered.
    ignored: regular expressions of names that files may carry to no use (buffers).
    inputs: what the model's `init` takes.
    collections: which of the model's collections a file fills; all but "params" have their name
        before their paths in the rules ("batch_stats/…").
    """

    name: str
    recognises: Callable[[Mapping[str, np.ndarray]], bool]
    plan: Callable[[State, Fields], tuple[nn.Module, State]]
    rules: tuple[Rule, ...]
    ignored: tuple[str, ...] = ()
    inputs: Callable[[nn.Module], tuple[jax.ShapeDtypeStruct, ...]] = image_inputs
    collections: tuple[str, ...] = ("params",)

    def load(self, state: State, fields: Fields) -> tuple[nn.Module, dict[str, Any]]:
        """The model and its variables, float32 jax arrays. ValueError unless the file fits."""
        model, state = self.plan(state, fields)
        init = jax.eval_shape(model.init, jax.random.key(0), *self.inputs(model))
        init = {name: init[name] for name in self.collections}
        shapes = {k: v.shape for k, v in _flatten(jax.eval_shape(unstack_blocks, init)).items()}
        filled = from_publisher(state, shapes, self.rules, self.ignored)
        # jnp.array copies: a later write to the caller's arrays must not reach the model.
        tree = _unflatten({path: jnp.array(x, jnp.float32) for path, x in filled.items()}, init)
        return model, stack_blocks(tree, like=init)

    def save(self, variables: Mapping[str, Any]) -> State:
        """{publisher's name: numpy array} of variables, stacked or not. Inverse of `load`."""
        variables = {name: variables[name] for name in self.collections}
        return to_publisher(_flatten(unstack_blocks(variables)), self.rules)


def choose_family(families: Mapping[str, Family], state: State, name: str | None) -> Family:
    """The family called `name`, or the one that the file's names fit.

    Where several recognise a file, the one that knows more of its names wins.
    ValueError when the name is unknown, or when no family or several fit.
    """
    if name is not None:
        if name not in families:
            raise ValueError(f"family {name!r} is unknown; families: {', '.join(families)}")
        return families[name]
    unknown = {
        family.name: len(unknown_names(state, family.rules, family.ignored))
        for family in families.values()
        if family.recognises(state)
    }
    best = [name for name in unknown if unknown[name] == min(unknown.values())]
    if len(best) == 1:
        return families[best[0]]
    if best:
        raise ValueError(
            f"the file's names fit several families: {', '.join(best)}; pass one as family="
        )
    raise ValueError(
        f"the file's names fit no family: {', '.join(list(state)[:5])}, … ({len(state)} names); "
        f"families: {', '.join(families)}"
    )


def _flatten(variables: Mapping[str, Any]) -> dict[str, Any]:
    """{path: leaf}; a path in "params" is written without it."""
    flat = flax.traverse_util.flatten_dict(variables, sep="/")
    return {path.removeprefix("params/"): leaf for path, leaf in flat.items()}


def _unflatten(flat: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of _flatten, for the collections that `variables` has."""
    others = tuple(f"{name}/" for name in variables if name != "params")
    paths = {
        path if path.startswith(others) else f"params/{path}": leaf for path, leaf in flat.items()
    }
    return flax.traverse_util.unflatten_dict(paths, sep="/")

"""One model's weights as the start of another: fine-tuning, probing, going on.

Every parameter and every statistic must come across whole, but for those that the network says may
start afresh, its head for instance, where the source lacks them or has them for another use.
"""

import re
from collections.abc import Sequence
from typing import Any

import jax

from vit_jax_xfer.models.extract import encoder_of
from vit_jax_xfer.models.protocol import Network
from vit_jax_xfer.pretrained.parameter_rules import stack_blocks, unstack_blocks

Variables = dict[str, Any]

# Fields of which no array tells: with another value the same weights compute something else.
_UNTOLD = ("activation", "mlp", "qkv_bias", "rotary")


def start_from(source: Network, variables: Variables, model: Network) -> Variables:
    """The part of `variables` that `model` can start from, a part of its own tree by collection.

    Takes the encoder of a MaskedAutoencoder for a classifier, resizes positions to the model's
    grid, stacks or unstacks scanned blocks; of a network around an encoder that part alone where
    the source is no such network. ValueError names what does not come across, and a field by which
    the same weights would compute something else.
    """
    if type(source) is not type(model):
        source, variables = encoder_of(source, variables)
    if type(source) is not type(model) and model.starts_from_encoder:
        found = start_from(source, variables, model.encoder)
        return {collection: {"encoder": tree} for collection, tree in found.items()}
    if type(source) is not type(model):
        raise ValueError(
            f"the weights of a {type(source).__name__}; a {type(model).__name__} starts only from "
            "a network of its own kind"
        )
    _check_alike(source.encoder, model.encoder)
    wanted = jax.eval_shape(model.init_variables, jax.random.key(0))
    # Of another collection only what may start afresh, such as a probe's statistics.
    foreign = (name for name in set(variables) - set(wanted) if not _afresh(variables[name], model))
    if foreign := sorted(foreign):
        raise ValueError(f"the model has no place for {', '.join(foreign)}")
    apart = {**variables, "params": unstack_blocks(variables["params"])}
    found = dict(model.adapt(source, apart))
    found["params"] = stack_blocks(found["params"], like=wanted["params"])
    return {
        name: _common(found.get(name, {}), shapes, model.starts_afresh)
        for name, shapes in wanted.items()
    }


def _check_alike(source: Network, model: Network) -> None:
    """ValueError, naming the field, where two encoders differ in what no array tells."""
    known = source.keywords().keys() & model.keywords().keys()
    fields = [field for field in _UNTOLD if field in known]
    if fields and source.rotary != "none":
        fields.append("rotary_base")
    for field in fields:
        theirs, own = (getattr(encoder, field) for encoder in (source, model))
        if theirs != own:
            raise ValueError(
                f"{field}: the weights are of a network with {theirs!r}, and the model has "
                f"{own!r}; set model.{field}={theirs!r}"
            )


def _afresh(collection: Variables, model: Network) -> bool:
    return bool(collection) and set(collection) <= set(model.starts_afresh)


def _common(found: Variables, wanted: Variables, fresh: Sequence[str]) -> Variables:
    """One collection cut to what `wanted` has; of `fresh` only what has the same shapes."""
    taken: Variables = {}
    for name, shapes in wanted.items():
        value, parts = found.get(name), _parts(name, fresh)
        if value is not None and _same(value, shapes):
            taken[name] = value
        elif isinstance(value, dict) and parts & (set(shapes) - set(value)):
            taken[name] = _common(value, shapes, tuple(parts))
        elif name not in fresh:
            what = "is not there" if value is None else f"has shapes {_brief(value)}"
            raise ValueError(f"{name} {what}; the model wants {_brief(shapes)}")
    if left := sorted(set(found) - set(wanted) - set(fresh)):
        raise ValueError(f"the model has no place for {', '.join(left)}")
    return taken


def _parts(name: str, fresh: Sequence[str]) -> set[str]:
    """What may start afresh inside of one part: "blocks/x" is x of every block."""
    inside = (one.split("/") for one in fresh if "/" in one)
    return {part for group, part in inside if re.fullmatch(rf"{group}(_\d+)?", name)}


def _same(found: Any, wanted: Any) -> bool:
    if jax.tree.structure(found) != jax.tree.structure(wanted):
        return False
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True)
    return all(a.shape == b.shape for a, b in pairs)


def _brief(tree: Any) -> str:
    shapes = sorted({tuple(leaf.shape) for leaf in jax.tree.leaves(tree)})
    return ", ".join(map(str, shapes[:4])) + (", …" if len(shapes) > 4 else "")

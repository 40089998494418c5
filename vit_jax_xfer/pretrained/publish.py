"""Variables back in a publisher's names: the inverse of loading."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vit_jax_xfer.pretrained.families import FAMILIES
from vit_jax_xfer.pretrained.families.clip_weights import OPENAI
from vit_jax_xfer.pretrained.families.flax_names import FLAX, google_names
from vit_jax_xfer.pretrained.family_entry import Family, Naming
from vit_jax_xfer.pretrained.fill import flatten
from vit_jax_xfer.pretrained.parameter_rules import (
    Layout,
    Rule,
    State,
    candidates,
    listed,
    unstack_blocks,
)
from vit_jax_xfer.pretrained.rename import autoencoder_rules, canonical_rules

# What `names` may be, beside None for the publisher's own.
NAMES: tuple[str, ...] = ("publisher", "timm", "huggingface", "openai", "google", "big_vision")

# Names in which a vision transformer of any family can be written.
_OF_ANY_FAMILY: dict[str, Naming] = {
    "openai": Naming(OPENAI),
    "google": Naming(FLAX, rules=lambda params: FLAX.rules, finish=google_names),
    "big_vision": Naming(FLAX, rules=lambda params: FLAX.rules),
}
# Marks of gated MLPs' names, one of which a plain MLP's last layer could go by too.
_GATED = ("w1", "w2", "w3", "w12")


def to_publisher_names(
    variables: Mapping[str, Any], family: str, names: str | None = None
) -> State:
    """{name: numpy array} of a model's variables, as `load_pretrained` takes them.

    family: one of FAMILIES. names: one of NAMES; None or "publisher" = the family's own.
    What nobody uses is left out where the names have no place for it: timm's have no mask token,
    and only Meta's own names have a bias of DINOv3's keys.
    ValueError listing the parameters that have no name there.
    """
    if family not in FAMILIES:
        raise ValueError(f"family {family!r} is unknown; families: {', '.join(sorted(FAMILIES))}")
    if names not in (None, *NAMES):
        raise ValueError(f"names: {names!r} is none of {', '.join(NAMES)}")
    known = FAMILIES[family]
    offered = known.names if known.other else {**_OF_ANY_FAMILY, **known.names}
    naming = offered.get(names or "publisher")
    if naming is None:
        raise ValueError(
            f"names: there are no weights of {family!r} in the names of {names!r}; choose one of "
            f"{', '.join(name for name in NAMES if name in offered)}"
        )
    params = {path: np.asarray(x) for path, x in flatten(unstack_blocks(variables["params"]))}
    for collection in variables.keys() - {"params"}:
        found = flatten(variables[collection])
        params |= {f"{collection}/{path}": np.asarray(x) for path, x in found}
    params = naming.change(params)
    rules = naming.rules(params) if naming.rules else _rules(params, known, naming)
    return naming.finish(_in_dialect(to_publisher(params, rules), naming))


def to_publisher(params: Mapping[str, np.ndarray], rules: Sequence[Rule]) -> State:
    """{publisher's name: array} from {our path: array}: the inverse of from_publisher.

    ValueError listing the parameters that the publisher has no name for.
    """
    state: State = {}
    shares: dict[str, dict[int, np.ndarray]] = {}
    missing = []
    for path, value in params.items():
        found = next(_fitting(path, np.asarray(value), rules), None)
        if found is None:
            missing.append(path)
            continue
        names, layout, arrays = found
        if layout.share[1] > 1:
            shares.setdefault(names[0], {})[layout.share[0]] = arrays[0]
        else:
            state.update(zip(names, arrays, strict=True))
    for name, parts in shares.items():
        state[name] = np.concatenate([parts[i] for i in sorted(parts)])
    if missing:
        raise ValueError(f"parameters without a name in this family: {listed(missing)}")
    return state


def _fitting(
    path: str, value: np.ndarray, rules: Sequence[Rule]
) -> Iterator[tuple[tuple[str, ...], Layout, tuple[np.ndarray, ...]]]:
    """Names, layout and arrays of each rule that our parameter fits."""
    for names, layout in candidates(path, rules):
        try:
            yield names, layout, layout.save(value)
        except ValueError:  # a bias of other parts
            continue


def _rules(params: Mapping[str, Any], family: Family, naming: Naming) -> tuple[Rule, ...]:
    """The canonical rules, those of the preferred names first."""
    dialect = naming.dialect
    prefer = naming.prefer + dialect.prefer
    if "decoder_embed/kernel" in params:
        return _preferring(autoencoder_rules(), prefer)
    mlp = "plain"
    if "blocks_0/mlp/gate/kernel" in params:
        packed = family.packed and "blocks_0/mlp/norm/scale" not in params
        mlp = "packed" if packed else "gated"
    if mlp == "plain":
        prefer = tuple(mark for mark in prefer if mark not in _GATED)
    elif mlp == "gated":
        prefer = naming.gated + prefer
    return _preferring((*naming.first, *dialect.first, *canonical_rules(mlp)), prefer)


def _preferring(rules: tuple[Rule, ...], marks: tuple[str, ...]) -> tuple[Rule, ...]:
    """The same rules, those first whose publisher's names hold one of `marks`."""
    return tuple(sorted(rules, key=lambda r: not any(m in n for n in r.theirs for m in marks)))


def _in_dialect(state: State, naming: Naming) -> State:
    """Canonical names → the dialect's, with the prefix of a whole model around the network."""
    dialect = naming.dialect
    if not dialect.pairs:
        return state
    unknown = [name for name in state if not dialect.knows(name)]
    if unknown:
        raise ValueError(f"parameters without a name of {dialect.name}: {listed(unknown)}")
    outside = ("head.", "head_dist.")
    if "decoder_embed.weight" in state:
        outside += ("decoder", "mask_token")
    inside = naming.inside if any(name.startswith(outside) for name in state) else ""
    by_company = dialect.by_company(state)
    renamed = {}
    for name, array in state.items():
        theirs = by_company.get(name) or dialect.from_canonical(name)
        renamed[theirs if name.startswith(outside) else inside + theirs] = array
    return renamed

"""Variables back in a publisher's names: the inverse of loading."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vit_jax_xfer.pretrained import common, flax_names
from vit_jax_xfer.pretrained.dialects import DIALECTS, Dialect
from vit_jax_xfer.pretrained.families import FAMILIES
from vit_jax_xfer.pretrained.family import Family
from vit_jax_xfer.pretrained.fill import flatten
from vit_jax_xfer.pretrained.layout import TABLE, TOKEN, unstack_blocks
from vit_jax_xfer.pretrained.names import Rule, State, rule, to_publisher

# What `names` may be, beside None for the publisher's own.
NAMES: tuple[str, ...] = ("publisher", "timm", "huggingface", "openai", "google", "big_vision")

_PUBLISHER: dict[str, str] = {"clip": "openai", "siglip": "big_vision", "flip": "big_vision"}
_HUGGING_FACE: dict[str, str] = {
    "dinov2": "hf_dinov2",
    "dinov3": "hf_dinov3",
    "clip": "hf_clip",
    "siglip": "hf_clip",
}
# What transformers puts before the names of a model inside a classifier.
_INSIDE: dict[str, str] = {"deit": "deit.", "beit": "beit.", "dinov2": "dinov2."}


def to_publisher_names(
    variables: Mapping[str, Any], family: str, names: str | None = None
) -> State:
    """{name: numpy array} of a model's variables, as `load_pretrained` takes them.

    family: one of FAMILIES. names: one of NAMES; None or "publisher" = the family's own.
    ValueError listing the parameters that have no name there.
    """
    if family not in FAMILIES:
        raise ValueError(f"family {family!r} is unknown; families: {', '.join(sorted(FAMILIES))}")
    if names not in (None, *NAMES):
        raise ValueError(f"names: {names!r} is none of {', '.join(NAMES)}")
    if names in (None, "publisher"):
        names = _PUBLISHER.get(family, "publisher")
    params = {path: np.asarray(x) for path, x in flatten(unstack_blocks(variables["params"]))}
    if names in ("google", "big_vision"):
        state = to_publisher(params, flax_names.RULES)
        return flax_names.google_names(state) if names == "google" else state
    known = FAMILIES[family]
    if names in ("publisher", "timm"):
        prefer = known.prefer if names == "publisher" else known.timm
        front = _TABLE_MASK if family in ("dinov2", "dinov3", "ibot") else ()
        return to_publisher(params, _rules(params, known, prefer, front))
    name = "openai" if names == "openai" else _HUGGING_FACE.get(family, "hf_vit")
    dialect = next(d for d in DIALECTS if d.name == name)
    state = to_publisher(params, _rules(params, known, dialect.prefer, _front(name)))
    return _in_dialect(state, dialect, family)


_TABLE_MASK = (rule("mask_token", "masked_embed", TABLE), rule("mask_token", "mask_token", TABLE))


def _front(dialect: str) -> tuple[Rule, ...]:
    """Rules that come first: tokens and tables without the leading axes that timm gives them."""
    if dialect in ("openai", "hf_clip"):
        return rule("cls_token", "cls_token", TOKEN), rule("pos_embed", "pos_embed", TABLE)
    return _TABLE_MASK[1:] if dialect == "hf_dinov2" else ()


def _rules(
    params: Mapping[str, Any], family: Family, prefer: tuple[str, ...], front: tuple[Rule, ...]
) -> tuple[Rule, ...]:
    if "decoder_embed/kernel" in params:
        return common.preferring(common.autoencoder_rules(), prefer)
    mlp = "plain"
    if "blocks_0/mlp/gate/kernel" in params:
        packed = family.packed and "blocks_0/mlp/norm/scale" not in params
        mlp = "packed" if packed else "gated"
    if "masked_embed" not in prefer:
        front = tuple(r for r in front if r.theirs != ("masked_embed",))
    return common.preferring((*front, *common.rules(mlp)), prefer)


def _in_dialect(state: State, dialect: Dialect, family: str) -> State:
    """Common names → the dialect's, with the prefixes of a whole model around the network."""
    heads = ("head.", "head_dist.")
    if "decoder_embed.weight" in state:
        heads += ("decoder", "mask_token")
    whole = any(name.startswith(heads) for name in state)
    inside = ""
    if whole and dialect.name.startswith("hf_"):
        inside = "vision_model." if dialect.name == "hf_clip" else _INSIDE.get(family, "vit.")
    renamed = {}
    for name, array in state.items():
        theirs = dialect.from_common(name)
        if "head_dist.weight" in state and theirs.startswith("classifier."):
            theirs = f"cls_{theirs}"
        renamed[theirs if name.startswith(heads) else inside + theirs] = array
    return renamed

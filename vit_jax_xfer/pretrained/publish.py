"""Variables back in a publisher's names: the inverse of loading."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vit_jax_xfer.pretrained import common, filter_vit, flax_names, lift
from vit_jax_xfer.pretrained.dialects import DIALECTS, Dialect
from vit_jax_xfer.pretrained.families import FAMILIES
from vit_jax_xfer.pretrained.family import Family
from vit_jax_xfer.pretrained.fill import flatten
from vit_jax_xfer.pretrained.layout import TABLE, TOKEN, unstack_blocks
from vit_jax_xfer.pretrained.names import Rule, State, rule, to_publisher

# What `names` may be, beside None for the publisher's own.
NAMES: tuple[str, ...] = ("publisher", "timm", "huggingface", "openai", "google", "big_vision")

_PUBLISHER: dict[str, str] = {"clip": "openai", "siglip": "big_vision", "flip": "big_vision"}
# transformers has no class for DeiT III, EVA-02 and FLIP.
_HUGGING_FACE: dict[str, str] = {
    **dict.fromkeys(("supervised", "deit", "dino", "ibot", "mae", "moco_v3"), "hf_vit"),
    **dict.fromkeys(("beit", "beitv2"), "hf_vit"),
    "dinov2": "hf_dinov2",
    "dinov3": "hf_dinov3",
    "clip": "hf_clip",
    "siglip": "hf_clip",
}
# What transformers puts before the names of a model inside a classifier.
_INSIDE: dict[str, str] = {
    "deit": "deit.",
    "beit": "beit.",
    "beitv2": "beit.",
    "dinov2": "dinov2.",
}


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
    if names in (None, "publisher"):
        names = _PUBLISHER.get(family, "publisher")
    if family == "filter_vit":
        return filter_vit.to_names(variables)
    if family == "lift":
        return lift.to_names(variables)
    params = {path: np.asarray(x) for path, x in flatten(unstack_blocks(variables["params"]))}
    if names in ("google", "big_vision"):
        state = to_publisher(params, flax_names.RULES)
        return flax_names.google_names(state) if names == "google" else state
    known = FAMILIES[family]
    if family == "dinov3" and names != "publisher":
        params = _without_key_bias(params)
    if names == "timm":
        return to_publisher(_as_timm(params), _rules(params, known, known.timm, "timm"))
    if names == "publisher":
        params = _with_key_bias(params) if family == "dinov3" else params
        front = _TABLE_MASK if family in ("dinov2", "dinov3", "ibot") else ()
        return to_publisher(params, _rules(params, known, known.prefer, "publisher", front))
    name = "openai" if names == "openai" else _HUGGING_FACE.get(family)
    if name is None:
        raise ValueError(f"names: Hugging Face's transformers has no model of {family!r}")
    dialect = next(d for d in DIALECTS if d.name == name)
    state = to_publisher(params, _rules(params, known, dialect.prefer, names, _front(name)))
    return _in_dialect(state, dialect, family)


def _without_key_bias(params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The parameters without the part of DINOv3's bias that is masked."""
    ends = "attention/qkv/bias"
    return {k: x[[0, -1]] if k.endswith(ends) and len(x) == 3 else x for k, x in params.items()}


def _with_key_bias(params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The parameters with zeros for the key's part of a bias, as Meta's files have it."""
    return {
        k: np.stack([x[0], np.zeros_like(x[0]), x[1]])
        if k.endswith("attention/qkv/bias") and len(x) == 2
        else x
        for k, x in params.items()
    }


def _as_timm(params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The parameters as timm keeps them: no mask token, no position of a class token by registers.

    An autoencoder stays as it is, since its names are its publisher's.
    """
    params = dict(params)
    if "decoder_embed/kernel" in params:
        return params
    params.pop("mask_token", None)
    table = params.get("pos_embed")
    side = 0 if table is None else round(table.shape[1] ** 0.5)
    if "register_tokens" in params and table is not None and table.shape[1] != side * side:
        params["cls_token"] = params["cls_token"] + table[:, :1]
        params["pos_embed"] = table[:, 1:]
    return params


# Marks of gated MLPs' names, one of which a plain MLP's last layer could go by too.
_GATED = ("w1", "w2", "w3", "w12")
_TABLE_MASK = (rule("mask_token", "masked_embed", TABLE), rule("mask_token", "mask_token", TABLE))


def _front(dialect: str) -> tuple[Rule, ...]:
    """Rules that come first: tokens and tables without the leading axes that timm gives them."""
    if dialect in ("openai", "hf_clip"):
        return rule("cls_token", "cls_token", TOKEN), rule("pos_embed", "pos_embed", TABLE)
    return _TABLE_MASK[1:] if dialect == "hf_dinov2" else ()


def _rules(
    params: Mapping[str, Any],
    family: Family,
    prefer: tuple[str, ...],
    names: str,
    front: tuple[Rule, ...] = (),
) -> tuple[Rule, ...]:
    """The name map with the preferred names first."""
    if "decoder_embed/kernel" in params:
        return common.preferring(common.autoencoder_rules(), prefer)
    mlp = "plain"
    if "blocks_0/mlp/gate/kernel" in params:
        packed = family.packed and "blocks_0/mlp/norm/scale" not in params
        mlp = "packed" if packed else "gated"
    if mlp == "plain":
        prefer = tuple(mark for mark in prefer if mark not in _GATED)
    elif mlp == "gated":
        prefer = family.apart.get(names, ()) + prefer
    if "masked_embed" not in prefer:
        front = tuple(r for r in front if r.theirs != ("masked_embed",))
    return common.preferring((*front, *common.rules(mlp)), prefer)


def _in_dialect(state: State, dialect: Dialect, family: str) -> State:
    """Common names → the dialect's, with the prefixes of a whole model around the network."""
    heads = ("head.", "head_dist.")
    decodes = "decoder_embed.weight" in state
    if decodes:
        heads += ("decoder", "mask_token")
    whole = any(name.startswith(heads) for name in state)
    inside = ""
    if whole and dialect.name.startswith("hf_"):
        inside = "vision_model." if dialect.name == "hf_clip" else _INSIDE.get(family, "vit.")
    unknown = [name for name in state if not dialect.knows(name)]
    classifies = dialect.name == "hf_clip" and "head.bias" in state
    if classifies and ("cls_token" in state or "attn_pool.latent" in state):
        unknown.append("head.bias")  # its classifiers read a mean
    if unknown:
        raise ValueError(f"parameters without a name of {dialect.name}: {', '.join(unknown[:30])}")
    renamed = {}
    for name, array in state.items():
        theirs = dialect.from_common(name)
        if "head_dist.weight" in state and theirs.startswith("classifier."):
            theirs = f"cls_{theirs}"
        if decodes and name == "mask_token":
            theirs = "decoder.mask_token"
        if classifies:
            theirs = theirs.replace("visual_projection", "classifier")
        renamed[theirs if name.startswith(heads) else inside + theirs] = array
    return renamed

"""How ViTs in JAX are named: Google's vision_transformer (AugReg), big_vision (SigLIP), FLIP.

Their layouts are Flax's, so they have rules of their own. The three differ in a few names, which
are brought to big_vision's first; blocks stacked for a scan are taken apart.
"""

import functools
import re

import numpy as np

from vit_jax_xfer.pretrained.lazy_arrays import LazyState, Stored
from vit_jax_xfer.pretrained.parameter_rules import FLAX_QKV_BIAS, FLAX_QKV_KERNEL, Rule, rule
from vit_jax_xfer.pretrained.rename import Dialect


def _attention(ours: str, theirs: str) -> tuple[Rule, ...]:
    module = f"{theirs}/MultiHeadDotProductAttention_0"
    kernels, biases = (
        tuple(f"{module}/{x}/{leaf}" for x in ("query", "key", "value"))
        for leaf in ("kernel", "bias")
    )
    return (
        rule(f"{ours}/qkv/kernel", kernels, FLAX_QKV_KERNEL),
        rule(f"{ours}/qkv/bias", biases, FLAX_QKV_BIAS),
        *_same(f"{ours}/proj", f"{module}/out", "kernel"),
    )


def _same(ours: str, theirs: str, leaf: str = "scale") -> tuple[Rule, Rule]:
    return rule(f"{ours}/{leaf}", f"{theirs}/{leaf}"), rule(f"{ours}/bias", f"{theirs}/bias")


def _mlp(ours: str, theirs: str) -> tuple[Rule, ...]:
    module = f"{theirs}/MlpBlock_0"
    return (
        *_same(f"{ours}/fc1", f"{module}/Dense_0", "kernel"),
        *_same(f"{ours}/fc2", f"{module}/Dense_1", "kernel"),
    )


_BLOCK = "Transformer/encoderblock_{i}"

_RULES: tuple[Rule, ...] = (
    rule("cls_token", "cls"),
    rule("pos_embed", "pos_embedding"),
    *_same("patch_embed", "embedding", "kernel"),
    *_same("blocks_{i}/norm1", f"{_BLOCK}/LayerNorm_0"),
    *_attention("blocks_{i}/attention", _BLOCK),
    *_same("blocks_{i}/norm2", f"{_BLOCK}/LayerNorm_1"),
    *_mlp("blocks_{i}/mlp", _BLOCK),
    *_same("norm", "Transformer/encoder_norm"),
    rule("attention_pool/probe", "MAPHead_0/probe"),
    *_attention("attention_pool", "MAPHead_0"),
    *_same("attention_pool/norm", "MAPHead_0/LayerNorm_0"),
    *_mlp("attention_pool/mlp", "MAPHead_0"),
    *_same("representation", "pre_logits", "kernel"),
    *_same("head", "head", "kernel"),
)

# What Google's vision_transformer calls differently.
GOOGLE: tuple[tuple[str, str], ...] = (
    ("MultiHeadDotProductAttention_1", "MultiHeadDotProductAttention_0"),
    ("LayerNorm_2", "LayerNorm_1"),
    ("MlpBlock_3", "MlpBlock_0"),
    ("Transformer/posembed_input/pos_embedding", "pos_embedding"),
)


def google_names(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """big_vision's names → those of Google's vision_transformer."""
    renamed = {}
    for name, array in state.items():
        if "MAPHead_0" not in name:
            for theirs, big_vision in GOOGLE:
                name = name.replace(big_vision, theirs)
        renamed[name] = array
    return renamed


def _in_big_vision_names(name: str) -> str | None:
    if name.startswith(("txt_encoder/", "txt_mlp1/")) or name == "logit_scale":
        return None  # FLIP's text tower
    name = name.removeprefix("img_encoder/")
    name = name.replace("posembed_encoder/pos_embedding", "pos_embedding")
    name = re.sub(r"^img_mlp1/", "head/", name)
    name = re.sub(r"encoderblock_0*(\d+)/", r"encoderblock_\1/", name)
    for theirs, big_vision in GOOGLE:
        name = name.replace(theirs, big_vision)
    return name


def _unstacked(state: LazyState) -> LazyState:
    """`encoderblock/…` with a leading axis over blocks → `encoderblock_0/…`, …"""
    arrays = {}
    for name, stored in state.stored.items():
        if "/encoderblock/" not in name:
            arrays[name] = stored
            continue
        # Read once for all blocks: npz files can't be read in part.
        whole = functools.cache(functools.partial(state.__getitem__, name))
        for i in range(stored.shape[0]):
            read = functools.partial(_row, whole, i)
            arrays[name.replace("encoderblock/", f"encoderblock_{i}/")] = Stored(
                stored.shape[1:], stored.dtype, read
            )
    return LazyState(arrays, state.where)


def _row(whole: functools.partial, i: int) -> np.ndarray:
    return whole()[i]


FLAX = Dialect(
    name="flax",
    signature=tuple(
        f"{tower}Transformer/encoderblock{number}/LayerNorm_0/scale"
        for tower in ("", "img_encoder/")
        for number in ("", "_{i}")
    ),
    fields={"position_resize": "bilinear_corners", "drop_remainder": True},
    prepare=lambda state: _unstacked(state).mapped(_in_big_vision_names),
    rules=_RULES,
)

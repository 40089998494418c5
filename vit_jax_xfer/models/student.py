"""A fresh student of a teacher's size, with its family's native parts or with some of them.

Source: which parts a student needs to learn by transfer, arXiv 2605.07191.
"""

import difflib
from collections.abc import Sequence
from typing import Any

from vit_jax_xfer.arguments.listed_values import listed
from vit_jax_xfer.models.extract import encoder_of
from vit_jax_xfer.models.protocol import Network
from vit_jax_xfer.models.registry import checked_fields
from vit_jax_xfer.models.vit import VisionTransformer

# Each native part and the fields it stands for.
NATIVE_PARTS: dict[str, tuple[str, ...]] = {
    "layer_scale": ("layer_scale",),
    "registers": ("registers", "register_position"),
    "class_position": ("class_position",),
    "distillation_token": ("distillation_token", "distillation_head"),
    "pre_norm": ("pre_norm",),
    "activation": ("activation",),
    "swiglu": ("mlp", "mlp_norm"),
    "qkv_bias": ("qkv_bias",),
    "qk_norm": ("qk_norm",),
    "attention_norm": ("attention_norm",),
    "relative_bias": ("relative_bias", "relative_resize"),
    "rotary": ("rotary", "rotary_base", "rotary_grid"),
    "attention_pooling": ("pool",),
    "patch_bias": ("patch_bias",),
}

# What every student has of its teacher.
_SIZE = (
    "image_size",
    "patch_size",
    "drop_remainder",
    "width",
    "depth",
    "num_heads",
    "mlp_dim",
    "norm_eps",
    "position",
    "position_resize",
    "position_size",
    "window_size",
    "window_blocks",
    "conv_blocks",
    "final_norm",
    "class_token",
    "in_channels",
    "preprocessing",
)


def student_like(
    teacher: Network, parts: str | Sequence[str] | None = None, **fields: Any
) -> VisionTransformer:
    """A student, not yet initialised, of a teacher's size and with its native parts.

    parts: which of the teacher's NATIVE_PARTS, None = all, () = none: the plain student; "-NAME",
    several too: all but these. Without swiglu its MLP is 4 · width; without what told the teacher
    positions it learns its own.
    fields: any of the VisionTransformer's, which win; the head and how it runs are at their
    defaults. A MaskedAutoencoder stands for its encoder. ValueError, with the nearest name, for an
    unknown part or field, and for a teacher that is no vision transformer.
    """
    teacher, _ = encoder_of(teacher, {}, "teacher")
    if "attention" not in teacher.collections:
        raise ValueError(f"teacher: expected a vision transformer, got a {type(teacher).__name__}")
    if parts is not None:
        parts = (parts,) if isinstance(parts, str) else listed("parts", parts)
    parts = _chosen(parts)
    fields = checked_fields(VisionTransformer, fields)
    native = [field for part in parts for field in NATIVE_PARTS[part]]
    chosen = {field: getattr(teacher, field) for field in (*_SIZE, *native)}
    if teacher.mlp != "plain" and "swiglu" not in parts:
        chosen["mlp_dim"] = None  # theirs makes room for the gate
    if teacher.position == "none" and _lost_its_place(teacher, parts):
        chosen["position"] = "learned"
    chosen["pool"] = fields.get("pool") or _pool(teacher, parts)
    if chosen["pool"] == teacher.pool:
        chosen["pool_norm"] = teacher.pool_norm
    return VisionTransformer(**{**chosen, **fields})


def _chosen(parts: Sequence[str] | None) -> tuple[str, ...]:
    """The names of NATIVE_PARTS that `parts` of `student_like` are. ValueError for others."""
    if parts is None:
        return tuple(NATIVE_PARTS)
    left_out = [str(part)[1:] for part in parts if str(part).startswith("-")]
    if left_out and len(left_out) < len(parts):
        raise ValueError(f"parts: {tuple(parts)} names some and leaves out others; do either")
    for part in left_out or parts:
        if part not in NATIVE_PARTS:
            near = difflib.get_close_matches(str(part), NATIVE_PARTS, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"parts: {part!r} is none of {', '.join(NATIVE_PARTS)}; did you mean {near!r}?"
            )
    return tuple(NATIVE_PARTS.keys() - set(left_out)) if left_out else tuple(parts)


def _lost_its_place(teacher: VisionTransformer, parts: Sequence[str]) -> bool:
    """Whether the parts leave out all that told the teacher where its patches are."""
    telling = {part for part in ("relative_bias", "rotary") if getattr(teacher, part) != "none"}
    return bool(telling) and not telling & set(parts)


def _pool(teacher: VisionTransformer, parts: Sequence[str]) -> str:
    """What the student's head sees: as the teacher's, unless that is nothing or a part left out."""
    if teacher.pool in ("grid", "none") or (
        teacher.pool.startswith("map") and "attention_pooling" not in parts
    ):
        return "cls" if teacher.class_token else "avg"
    return teacher.pool

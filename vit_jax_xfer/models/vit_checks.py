"""Which fields of a vision transformer go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vit_jax_xfer.models.transformer.block_design import CHOICES as BLOCK_CHOICES
from vit_jax_xfer.models.transformer.positions import RESIZES
from vit_jax_xfer.models.transformer.stack import REMAT_POLICIES

if TYPE_CHECKING:
    from vit_jax_xfer.models.vit import VisionTransformer

# float16 would need its slopes scaled.
PRODUCT_DTYPES = ("bfloat16", "float32")
CHOICES: dict[str, tuple[str, ...]] = {
    **BLOCK_CHOICES,
    "pool": (
        "cls",
        "avg",
        "avg_all",
        "cls_avg",
        "max_patches",
        "avg_max",
        "map",
        "map_patches",
        "grid",
        "none",
    ),
    "position": ("learned", "sincos", "none"),
    "position_resize": RESIZES,
    "remat": tuple(REMAT_POLICIES),
}


def check_vision_transformer(model: VisionTransformer) -> None:
    """ValueError, naming the field, for values that no network has, or not together."""
    for field, allowed in CHOICES.items():
        if getattr(model, field) not in allowed:
            raise ValueError(f"{field}: {getattr(model, field)!r} is none of {allowed}")
    if model.width % model.num_heads:
        raise ValueError(f"num_heads: {model.num_heads} does not divide width {model.width}")
    if model.in_channels < 1:
        raise ValueError(f"in_channels: got {model.in_channels}, expected 1 or more")
    stride = model.patch_stride
    if stride is not None and (stride < 1 or model.patch_size % stride):
        raise ValueError(f"patch_stride: {stride} does not divide patch_size {model.patch_size}")
    if model.pool in ("cls", "cls_avg") and not model.class_token:
        raise ValueError(f"pool={model.pool!r} needs class_token=True")
    if model.register_position and not model.registers:
        raise ValueError("register_position: needs registers")
    if model.batch_norm and (model.distillation_token or not model.num_classes):
        raise ValueError("batch_norm: stands before a head, and before that one alone")
    if model.pool in ("grid", "none") and (model.num_classes or model.norm_after_pool):
        raise ValueError(f"pool={model.pool!r} goes with num_classes=0 and without pool_norm")
    if model.distillation_head and not (model.distillation_token and model.num_classes):
        raise ValueError("distillation_head: needs distillation_token and num_classes")
    given = model.product_dtype  # a type, or its name
    name = getattr(given, "__name__", str(given))
    if given is not None and name not in PRODUCT_DTYPES:
        raise ValueError(
            f"product_dtype: {name} is none of {', '.join(PRODUCT_DTYPES)}; None = as dtype"
        )
    _check_windows(model)


def _check_windows(model: VisionTransformer) -> None:
    """What of a grid needs every token to be a patch, and blocks that may differ."""
    named = {"window_blocks": model.window_blocks or (), "conv_blocks": model.conv_blocks}
    for field, blocks in named.items():
        outside = [i for i in blocks if not 0 <= i < model.depth]
        if outside:
            raise ValueError(f"{field}: {outside[0]} is no block of a network of {model.depth}")
    if model.window_size < 0:
        raise ValueError(f"window_size: got {model.window_size}, expected patches, 0 for none")
    if model.window_blocks and not model.window_size:
        raise ValueError("window_blocks: needs window_size, the side of a window in patches")
    for field, wanted in (
        ("window_size", bool(model.window_size)),
        ("conv_blocks", bool(model.conv_blocks)),
        ("relative_bias='decomposed'", model.relative_bias == "decomposed"),
    ):
        if wanted and model.prefix_tokens:
            raise ValueError(
                f"{field}: goes with patch tokens alone; set class_token=False, "
                "distillation_token=False, registers=0"
            )
    if model.scan and not model.blocks_alike:
        raise ValueError("scan: the blocks differ (window_blocks, conv_blocks); leave it off")

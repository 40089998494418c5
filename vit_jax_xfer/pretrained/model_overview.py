"""What was recognised in a file, in a few lines for a person."""

import os
from typing import Any

import flax.linen as nn
import jax

from vit_jax_xfer.models.filter.network import FilterViT
from vit_jax_xfer.models.lifting.convex_lift import ConvexLiFT
from vit_jax_xfer.models.lifting.lift import LiFT
from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.pretrained.family_entry import Recognised

# Fields that say what a network is; those of how it runs are left out of the overview.
_PLAIN = VisionTransformer(num_classes=0)
_SIZES = ("image_size", "patch_size", "width", "depth", "num_heads", "mlp_dim", "num_classes")
_HIDDEN = ("parent", "name", "preprocessing", "class_names", "dtype", *_SIZES)


def overview(
    source: str | os.PathLike[str], model: nn.Module, variables: Any, found: Recognised | None
) -> str:
    """A few lines: family, names, sizes, native parts, preprocessing, what was left out."""
    encoder = getattr(model, "encoder", model)
    if isinstance(encoder, FilterViT):
        return _filter_overview(source, encoder, variables)
    if isinstance(encoder, LiFT | ConvexLiFT):
        return _lift_overview(source, encoder, variables)
    number = sum(leaf.size for leaf in jax.tree.leaves(variables))
    kind = "masked autoencoder" if encoder is not model else "vision transformer"
    lines = [f"{source}"]
    if found is None:
        lines.append("  a model of this project")
    else:
        lines.append(f"  family        {found.family.name}: {found.family.source}")
        lines.append(f"  names         {found.dialect}")
    lines.append(f"  network       {kind}, {number / 1e6:.2f} million parameters")
    lines.append(
        f"  sizes         image {_pixels(encoder.image_size)}, patch {encoder.patch_size}, "
        f"width {encoder.width}, depth {encoder.depth}, heads {encoder.num_heads}, "
        f"classes {encoder.num_classes}"
    )
    lines.append(f"  native parts  {_native(encoder)}")
    if encoder.preprocessing is not None:
        lines.append(f"  images        {encoder.preprocessing.pipeline()}")
    if found is not None and found.left_out:
        lines.append(f"  left out      {', '.join(found.left_out)}")
    return "\n".join(lines)


def _filter_overview(source: str | os.PathLike[str], model: FilterViT, variables: Any) -> str:
    number = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    kind = "FilterViT" if model.choose == "score" else "DropoutViT"
    stages = ", ".join(f"{stage.kind} {stage.width}" for stage in model.stages)
    return "\n".join(
        [
            f"{source}",
            f"  network       {kind}, {number / 1e6:.2f} million parameters",
            f"  sizes         image {_pixels(model.image_size)}, classes {model.num_classes}",
            f"  stages        {stages}",
        ]
    )


def _lift_overview(source: str | os.PathLike[str], model: LiFT | ConvexLiFT, variables: Any) -> str:
    number = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    return "\n".join(
        [
            f"{source}",
            f"  network       {type(model).__name__}, {number / 1e6:.2f} million parameters",
            f"  sizes         width {model.width}, patch {model.patch_size}: doubles such features",
        ]
    )


def _native(model: VisionTransformer) -> str:
    """The fields in which a network differs from a plain ViT."""
    different = [
        f"{name}={getattr(model, name)!r}"
        for name in VisionTransformer.__dataclass_fields__
        if name not in _HIDDEN and getattr(model, name) != getattr(_PLAIN, name)
    ]
    return ", ".join(different) or "none, a plain ViT"


def _pixels(size: int | tuple[int, int]) -> str:
    return str(size) if isinstance(size, int) else f"{size[0]}×{size[1]}"

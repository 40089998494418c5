"""What a network that doubles features takes: images, and the features of a ViT that saw them."""

import flax.linen as nn
import jax

from vit_jax_xfer.models.transformer.patches import check_images


def check_doubles(model: nn.Module) -> None:
    """ValueError for what is no network, or one of ours that makes something else than features."""
    if not hasattr(model, "apply") or getattr(model, "predicts", "features") != "features":
        raise ValueError(
            f"model: got a {type(model).__name__}, expected a network that doubles features, such "
            "as create_model('lift_patch16')"
        )


def check_inputs(
    images: jax.Array, features: jax.Array, patch_size: int, width: int | None
) -> tuple[int, int]:
    """The grid (h, w) of features (B, h, w, width), of images (B, H, W, 3) with h = H // P.

    width: None = any. ValueError, naming the argument, unless all fits together.
    """
    check_images(images)
    batch, height, across, _ = images.shape
    h, w = height // patch_size, across // patch_size
    if not h or not w:
        raise ValueError(
            f"images: {height}×{across} pixels are smaller than one {patch_size}-pixel "
            "patch (patch_size)"
        )
    if width is None:
        width = features.shape[-1]
    if features.shape != (batch, h, w, width):
        raise ValueError(
            f"features: got shape {tuple(features.shape)}, expected "
            f"{(batch, h, w, width)}: {batch} images of {height}×{across} pixels in "
            f"{patch_size}-pixel patches, width {width}"
        )
    return h, w

"""Dense features: descriptors of a frozen ViT, LiFT, and the tasks that show what they are worth.

    images = vjx.dense.prepare_photos(model, ["photo.jpg"])                # (B, H, W, 3)
    features = vjx.dense.descriptors(model, variables, images)             # (B, h, w, C)
    larger = vjx.dense.lift(lift, lift_variables, images, features)        # (B, 4h, 4w, C)

Each name is imported when it is first used.
"""

from typing import TYPE_CHECKING

from vit_jax_xfer.lazy_names import lazy_names

_WHERE = {
    "descriptors": "vit_jax_xfer.models.descriptors",
    "log_binned": "vit_jax_xfer.models.descriptors",
    "lift": "vit_jax_xfer.models.lifting.lift",
    "lift_loss": "vit_jax_xfer.models.lifting.lift_loss",
    "lift_loss_and_stats": "vit_jax_xfer.models.lifting.lift_loss",
    "shrink_images": "vit_jax_xfer.models.lifting.lift_loss",
    "propagate_labels": "vit_jax_xfer.evaluate.videos.label_propagation",
    "prepare_photos": "vit_jax_xfer.features.network_input",
    "tokencut": "vit_jax_xfer.evaluate.objects.object_discovery",
    "pck": "vit_jax_xfer.evaluate.correspondence.keypoint_matching",
}

__all__ = [
    "descriptors",
    "lift",
    "lift_loss",
    "lift_loss_and_stats",
    "log_binned",
    "pck",
    "prepare_photos",
    "propagate_labels",
    "shrink_images",
    "tokencut",
]

if TYPE_CHECKING:
    from vit_jax_xfer.evaluate.correspondence.keypoint_matching import pck
    from vit_jax_xfer.evaluate.objects.object_discovery import tokencut
    from vit_jax_xfer.evaluate.videos.label_propagation import propagate_labels
    from vit_jax_xfer.features.network_input import prepare_photos
    from vit_jax_xfer.models.descriptors import descriptors, log_binned
    from vit_jax_xfer.models.lifting.lift import lift
    from vit_jax_xfer.models.lifting.lift_loss import lift_loss, lift_loss_and_stats, shrink_images


if not TYPE_CHECKING:  # else a type checker takes any name for one of these
    __getattr__, __dir__ = lazy_names(__name__, _WHERE)

"""Exact operations of the published recipes, each on given draws: pixels equal the references'.

    turned = vjx.augment.rand_augment_op(image, "Rotate", 9, negate=True)       # uint8 (H, W, 3)
    mixed, targets = vjx.augment.mix(images, labels, 1000, lam=0.3)     # (B, H, W, 3), (B, K)

Runs draw them by `config.data.pipeline`. Each name is imported when it is first used.
"""

from typing import TYPE_CHECKING

from vit_jax_xfer.lazy_names import lazy_names

_WHERE = {
    "rand_augment_op": "vit_jax_xfer.data.augment_operations",
    "trivial_augment_op": "vit_jax_xfer.data.trivial_augment",
    "crop_resize": "vit_jax_xfer.data.geometry",
    "erase": "vit_jax_xfer.data.random_erasing",
    "mix": "vit_jax_xfer.train.mixing",
    "cutmix_box": "vit_jax_xfer.train.mixing",
}

__all__ = ["crop_resize", "cutmix_box", "erase", "mix", "rand_augment_op", "trivial_augment_op"]

if TYPE_CHECKING:
    from vit_jax_xfer.data.augment_operations import rand_augment_op
    from vit_jax_xfer.data.geometry import crop_resize
    from vit_jax_xfer.data.random_erasing import erase
    from vit_jax_xfer.data.trivial_augment import trivial_augment_op
    from vit_jax_xfer.train.mixing import cutmix_box, mix


if not TYPE_CHECKING:  # else a type checker takes any name for one of these
    __getattr__, __dir__ = lazy_names(__name__, _WHERE)

"""Exact operations of the published recipes, each on given draws: pixels equal the references'.

    turned = vjx.augment.rand_augment_op(image, "Rotate", 9, negate=True)       # uint8 (H, W, 3)
    mixed, targets = vjx.augment.mix(images, labels, 1000, lam=0.3)     # (B, H, W, 3), (B, K)

Runs draw them by `config.data.pipeline`. Each name is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])

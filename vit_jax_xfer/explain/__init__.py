"""What a network attends to, and why it answers as it does: arrays first, pictures second.

    out = vjx.explain.attribute(model, variables, images, "generic_attention", target=3)
    out.map                                                             # (B, h, w) float32, raw

docs/explain.md defines each method. Each name is imported when it is first used.
"""

from typing import TYPE_CHECKING

from vit_jax_xfer.lazy_names import lazy_names

_WHERE = {
    "METHODS": "vit_jax_xfer.explain.methods.attribution",
    "Attribution": "vit_jax_xfer.explain.methods.attribution",
    "attribute": "vit_jax_xfer.explain.methods.attribution",
    "abpc": "vit_jax_xfer.evaluate.faithfulness.perturbation",
    "blurred": "vit_jax_xfer.evaluate.faithfulness.perturbation",
    "class_attention": "vit_jax_xfer.explain.methods.class_token_maps",
    "energy": "vit_jax_xfer.evaluate.faithfulness.localisation",
    "even_steps": "vit_jax_xfer.evaluate.faithfulness.perturbation",
    "localise": "vit_jax_xfer.evaluate.faithfulness.localisation",
    "perturb": "vit_jax_xfer.evaluate.faithfulness.perturbation",
    "saco": "vit_jax_xfer.evaluate.faithfulness.perturbation",
}

__all__ = [
    "METHODS",
    "Attribution",
    "abpc",
    "attribute",
    "blurred",
    "class_attention",
    "energy",
    "even_steps",
    "localise",
    "perturb",
    "saco",
]

if TYPE_CHECKING:
    from vit_jax_xfer.evaluate.faithfulness.localisation import energy, localise
    from vit_jax_xfer.evaluate.faithfulness.perturbation import (
        abpc,
        blurred,
        even_steps,
        perturb,
        saco,
    )
    from vit_jax_xfer.explain.methods.attribution import METHODS, Attribution, attribute
    from vit_jax_xfer.explain.methods.class_token_maps import class_attention


if not TYPE_CHECKING:  # else a type checker takes any name for one of these
    __getattr__, __dir__ = lazy_names(__name__, _WHERE)

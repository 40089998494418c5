"""Which features a network such as LiFT was trained on: it doubles those, and no others."""

import dataclasses
import hashlib
from typing import Any

import jax
import numpy as np

from vit_jax_xfer.models.extract import encoder_of

# Parameters that features don't come from, and those that an image's size changes.
_HEADS = ("head", "distillation_classifier", "representation", "head_norm", "attention_pool")
_POSITIONS = ("pos_embed", "relative_bias", "relative_down", "relative_across")


@dataclasses.dataclass(frozen=True)
class FeatureSource:
    """A backbone, known by its weights, and what is taken of it; hashable.

    backbone: what `backbone_fingerprint` gives. path: where it was, for messages alone. facet,
    layer: as in `descriptors`, but layer counts from 0.
    """

    backbone: str
    path: str
    facet: str
    layer: int

    def check(self, other: "FeatureSource") -> None:
        """ValueError where `other`, what features come from, is not what this is about."""
        for field, own, found in (
            ("facet", self.facet, other.facet),
            ("layer", self.layer, other.layer),
        ):
            if own != found:
                raise ValueError(
                    f"{field}: trained on {field} {own} of {self.path}, not on {field} {found}; "
                    "features of another kind look different to it"
                )
        if self.backbone != other.backbone:
            raise ValueError(
                f"backbone: trained on the features of {self.path} ({self.backbone}), and "
                f"{other.path} ({other.backbone}) has other weights; train one on that"
            )


def backbone_fingerprint(model: Any, variables: Any) -> str:
    """A digest of the weights that features come from: 16 hexadecimal digits.

    Heads and what pools for them, decoders, positions (which are resized with the image, as tables
    of relative ones are) and how blocks are stacked don't matter to it.
    """
    _, variables = encoder_of(model, variables)
    params = dict(variables["params"])
    stacked = params.pop("blocks", None)
    if stacked is not None:
        depth = jax.tree.leaves(stacked)[0].shape[0]
        params |= {f"blocks_{i}": jax.tree.map(lambda x, i=i: x[i], stacked) for i in range(depth)}
    digest = hashlib.sha256()
    for path, leaf in sorted(_named(params)):
        names = path.split("/")
        if names[0] in _HEADS or names[-1] in _POSITIONS:
            continue
        array = np.asarray(leaf, np.float32)
        digest.update(f"{path} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def _named(params: Any) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return [("/".join(str(key.key) for key in path), leaf) for path, leaf in leaves]

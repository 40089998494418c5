"""LiFT's authors' files: their names, and what they tell.

Source: the state dict of the public code of 2403.14625, which other people's LiFTs have too. Files
of patch 8 and of patch 16 are alike, so the patch size comes from the caller.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vit_jax_xfer.pretrained.families import FAMILIES
from vit_jax_xfer.pretrained.fields import agree
from vit_jax_xfer.pretrained.files import Checkpoint
from vit_jax_xfer.pretrained.fill import flatten
from vit_jax_xfer.pretrained.layout import CONV, POINTWISE, TRANSPOSED_CONV
from vit_jax_xfer.pretrained.lazy import LazyState
from vit_jax_xfer.pretrained.names import (
    BATCH_COUNTS,
    Rule,
    State,
    affine,
    batch_norm,
    rule,
    to_publisher,
)
from vit_jax_xfer.pretrained.reading import Fields
from vit_jax_xfer.pretrained.recognise import Recognised

_DOUBLE_CONV = "up1.conv_1.double_conv"
# The last layer, whose outputs are as wide as the backbone's features.
_OUT = "outc.weight"

RULES: tuple[Rule, ...] = (
    *affine("image_1/conv", "image_convs_1.0", CONV),
    *batch_norm("image_1/norm", "image_convs_1.1"),
    *affine("image_2/conv", "image_convs_1.3", CONV),
    *batch_norm("image_2/norm", "image_convs_1.4"),
    *affine("image_3/conv", "image_convs_2.0", CONV),
    *batch_norm("image_3/norm", "image_convs_2.1"),
    *affine("up", "up1.up", TRANSPOSED_CONV),
    rule("merge_1/conv/kernel", f"{_DOUBLE_CONV}.0.weight", CONV),
    *batch_norm("merge_1/norm", f"{_DOUBLE_CONV}.1"),
    rule("merge_2/conv/kernel", f"{_DOUBLE_CONV}.3.weight", CONV),
    *batch_norm("merge_2/norm", f"{_DOUBLE_CONV}.4"),
    *affine("out", "outc", POINTWISE),
)


def recognise_lift(checkpoint: Checkpoint, given: Fields) -> Recognised:
    """The network in one of the authors' files. given: fields of `LiFT`, patch_size among them.

    ValueError naming a field that is missing, unknown or disagrees with the file.
    """
    from vit_jax_xfer.models.lifting.lift import LiFT
    from vit_jax_xfer.models.registry import build

    state = LazyState(checkpoint.state)
    if not is_lift(state):
        raise ValueError(
            "family: 'lift' has names as up1.up.weight and image_convs_1.0.weight, and the file "
            f"has {', '.join(list(state)[:3])}, …"
        )
    if _OUT not in state:
        raise ValueError(f"{_OUT}: not in the file, and the features' width is read from it")
    fields = agree({"width": state.shape(_OUT)[0]}, given)
    model = build(LiFT, fields)
    if given.get("patch_size") is None:
        raise ValueError(
            "patch_size: a LiFT's file does not tell it; pass patch_size= of the ViT whose "
            "features it doubles, such as 16"
        )
    return Recognised(
        model=model,
        family=FAMILIES["lift"],
        dialect="the authors'",
        state=state,
        rules=RULES,
        ignored=(BATCH_COUNTS,),
        shown=str,
        stored_size=None,
        left_out=checkpoint.left_out,
    )


def is_lift(state: LazyState) -> bool:
    """Whether a file's names are those of the authors' module."""
    return "up1.up.weight" in state and "image_convs_1.0.weight" in state


def to_names(variables: Mapping[str, Any]) -> State:
    """{the authors' name: numpy array} of a LiFT's variables."""
    params = {path: np.asarray(x) for path, x in flatten(variables["params"])}
    stats = {f"batch_stats/{path}": np.asarray(x) for path, x in flatten(variables["batch_stats"])}
    return to_publisher({**params, **stats}, RULES)

"""LiFT (2403.14625): its authors' files, which don't tell the patch size of the features' ViT.

Source: the state dict of the public code, which other people's LiFTs have too. Files of patch 8 and
of patch 16 are alike, so the patch size comes from the caller.
"""

from vit_jax_xfer.pretrained.family_entry import (
    Family,
    Naming,
    OtherNetwork,
    StoredNetwork,
    agree,
    imagenet,
)
from vit_jax_xfer.pretrained.fields_from_shapes import Fields
from vit_jax_xfer.pretrained.lazy_arrays import LazyState
from vit_jax_xfer.pretrained.parameter_rules import (
    BATCH_COUNTS,
    CONV,
    POINTWISE,
    TRANSPOSED_CONV,
    Rule,
    affine,
    batch_norm,
    rule,
)
from vit_jax_xfer.pretrained.read_files import Checkpoint
from vit_jax_xfer.pretrained.rename import Dialect

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

_AUTHORS = Dialect(
    name="the authors'",
    signature=("up1.up.weight",),
    ignored=(BATCH_COUNTS,),
    rules=RULES,
)


def _is_in(state: LazyState) -> bool:
    """Whether the names are those of the authors' module."""
    return "up1.up.weight" in state and "image_convs_1.0.weight" in state


def _network(checkpoint: Checkpoint, given: Fields) -> StoredNetwork:
    """The LiFT in a file. given: its fields, patch_size among them.

    ValueError naming a field that is missing, unknown or disagrees with the file.
    """
    from vit_jax_xfer.models.lifting.lift import LiFT
    from vit_jax_xfer.models.registry import build

    state = checkpoint.state
    if not _is_in(state):
        raise ValueError(
            "family: 'lift' has names as up1.up.weight and image_convs_1.0.weight, and the file "
            f"has {', '.join(list(state)[:3])}, …"
        )
    if _OUT not in state:
        raise ValueError(f"{_OUT}: not in the file, and the features' width is read from it")
    model = build(LiFT, agree({"width": state.shape(_OUT)[0]}, given))
    if given.get("patch_size") is None:
        raise ValueError(
            "patch_size: a LiFT's file does not tell it; pass patch_size= of the ViT whose "
            "features it doubles, such as 16"
        )
    return StoredNetwork(model, RULES, state)


LIFT = Family(
    name="lift",
    source="LiFT (2403.14625)",
    names={"publisher": Naming(_AUTHORS, rules=lambda params: RULES)},
    fits=lambda evidence: False,  # no vision transformer
    preprocessing=imagenet(),
    other=OtherNetwork(_is_in, _network),
)

"""FLIP (2212.00794): its authors' files, whose names are near big_vision's."""

from vit_jax_xfer.pretrained.families.flax_names import FLAX
from vit_jax_xfer.pretrained.family_entry import Evidence, Family, Naming, imagenet, is_sincos
from vit_jax_xfer.pretrained.rename import TIMM, as_timm_keeps


def _fits(evidence: Evidence) -> bool:
    """In JAX, with MAE's fixed table, and with no head or a projection without a bias."""
    if evidence.dialect != "flax" or not is_sincos(evidence):
        return False
    return evidence.headless or not evidence.fields["head_bias"]


FLIP = Family(
    name="flip",
    source="FLIP (2212.00794)",
    names={
        "publisher": Naming(FLAX, rules=lambda params: FLAX.rules),
        "timm": Naming(TIMM, change=as_timm_keeps),
    },
    fits=_fits,
    needs={"position": "learned", "class_token": True},
    defaults={"pool": "avg_all", "pool_norm": False, "activation": "gelu_tanh"},
    preprocessing=imagenet(crop=1.0),
)

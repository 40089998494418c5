"""BEiT-3 (2208.10442), its image tower: timm's files. Microsoft's own have both towers in one."""

from vit_jax_xfer.pretrained.family_entry import Family, Naming, has_fields, imagenet
from vit_jax_xfer.pretrained.rename import TIMM, as_timm_keeps

# The norms inside of a plain block, before each of its last projections, are no other's.
_PARTS = {"position": "learned", "mlp": "plain", "attention_norm": True, "mlp_norm": True}

BEIT3 = Family(
    name="beit3",
    source="BEiT-3 (2208.10442)",
    names={
        "publisher": Naming(TIMM),
        "timm": Naming(TIMM, change=as_timm_keeps),
    },
    fits=has_fields(**_PARTS),
    needs=_PARTS,
    defaults={"norm_eps": 1e-5},
    preprocessing=imagenet(crop=1.0),
)

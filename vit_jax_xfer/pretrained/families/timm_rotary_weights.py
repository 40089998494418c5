"""ViTs with rotary positions and registers of timm's own training (vit_*_rope_reg*_gap).

Their blocks are EVA-02's in everything but the MLP. Source of the positions: RoPE (2104.09864).
"""

from vit_jax_xfer.models.preprocessing import INCEPTION, Preprocessing
from vit_jax_xfer.pretrained.family_entry import Evidence, Family, Naming
from vit_jax_xfer.pretrained.rename import TIMM, as_timm_keeps


def _fits(evidence: Evidence) -> bool:
    """Registers, neither a class token nor a table of positions."""
    fields = evidence.fields
    return (
        evidence.dialect == "timm"
        and fields["position"] == "none"
        and fields["relative_bias"] == "none"
        and fields["registers"] > 0
        and not fields["class_token"]
    )


TIMM_ROTARY = Family(
    name="timm_rotary",
    source="RoPE (2104.09864)",
    names={
        "publisher": Naming(TIMM),
        "timm": Naming(TIMM, change=as_timm_keeps),
    },
    fits=_fits,
    needs={"position": "none", "relative_bias": "none", "registers": True, "class_token": False},
    defaults={
        "rotary": "eva02",
        "rotary_base": 10000.0,
        "rotary_grid": 16,
        "image_size": 256,
        "position_resize": "bicubic_antialias",
        "layer_scale": 1e-5,
    },
    preprocessing=Preprocessing(*INCEPTION, crop=0.95),
)

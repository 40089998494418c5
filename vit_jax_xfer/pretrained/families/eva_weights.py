"""EVA (2211.07636) and EVA-CLIP of its time (2303.15389): BAAI's files, timm's."""

from vit_jax_xfer.models.preprocessing import CLIP, Preprocessing
from vit_jax_xfer.pretrained.family_entry import (
    Evidence,
    Family,
    Naming,
    has_fields,
    in_timm_names,
)
from vit_jax_xfer.pretrained.rename import TIMM, as_timm_keeps

# BEiT's missing bias of the keys, with positions in a table and a plain MLP, is no other's.
_PARTS = {"position": "learned", "relative_bias": "none", "mlp": "plain", "qkv_bias": "no_key"}


def _fits(evidence: Evidence) -> bool:
    return evidence.dialect == "timm" and has_fields(**_PARTS)(evidence)


def _whose_colours(evidence: Evidence) -> dict[str, str]:
    """The giant was trained on images of CLIP's colours, and on others."""
    if evidence.fields["width"] != 1408 or evidence.config:
        return {}
    return {
        "preprocessing": "preprocessing: taken for EVA-CLIP's, CLIP's mean and std; the giant that "
        "learnt without CLIP's images (m30m) has ImageNet's, which no name tells"
    }


EVA = Family(
    name="eva",
    source="EVA (2211.07636), EVA-CLIP (2303.15389)",
    names={
        "publisher": Naming(TIMM, prefer=("q_bias",)),
        "timm": Naming(TIMM, prefer=("q_bias",), change=as_timm_keeps),
    },
    fits=_fits,
    needs=_PARTS,
    choose=in_timm_names("bicubic"),
    doubts=_whose_colours,
    preprocessing=Preprocessing(*CLIP, crop=1.0),
)

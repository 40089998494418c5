"""DeiT (2012.12877) and DeiT III (2204.07118): Meta's files, timm's, transformers'."""

from vit_jax_xfer.pretrained.families.hugging_face_names import HF_VIT
from vit_jax_xfer.pretrained.family_entry import (
    Evidence,
    Family,
    Naming,
    has_fields,
    imagenet,
    in_timm_names,
    is_scaled,
)
from vit_jax_xfer.pretrained.rename import TIMM, as_timm_keeps

DEIT = Family(
    name="deit",
    source="DeiT (2012.12877)",
    names={
        "publisher": Naming(TIMM),
        "timm": Naming(TIMM, change=as_timm_keeps),
        "huggingface": Naming(HF_VIT, inside="deit."),
    },
    fits=has_fields(distillation_token=True),
    needs={"position": "learned"},
    choose=in_timm_names("bicubic"),
    preprocessing=imagenet(),
)


def _is_deit3(evidence: Evidence) -> bool:
    """LayerScale, and positions of the patches alone."""
    fields = evidence.fields
    return is_scaled(evidence) and not fields["registers"] and fields.get("class_position") is False


def _perhaps_rotary(evidence: Evidence) -> dict[str, str]:
    """Meta's names are those of RoPE-ViT's networks with positions beside, too."""
    if evidence.dialect != "timm" or "blocks.0.gamma_1" not in evidence.reading.state:
        return {}
    return {
        "rotary": "rotary: taken for DeiT III, which has none; timm's vit_*_rope_ape_224 has the "
        "same names and shapes, and computes something else"
    }


# transformers has no class for it.
DEIT3 = Family(
    name="deit3",
    source="DeiT III (2204.07118)",
    names={
        "publisher": Naming(TIMM, prefer=("gamma_",)),
        "timm": Naming(TIMM, change=as_timm_keeps),
    },
    fits=_is_deit3,
    needs={"class_position": False},
    defaults={"layer_scale": 1e-6},
    doubts=_perhaps_rotary,
    choose=in_timm_names("bicubic"),
    preprocessing=imagenet(crop=1.0),
)

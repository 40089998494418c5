"""DINO (2104.14294) and iBOT (2111.07832): their authors' files, timm's, transformers'."""

from vit_jax_xfer.pretrained.families.hugging_face_names import HF_VIT
from vit_jax_xfer.pretrained.family_entry import (
    Evidence,
    Family,
    Naming,
    imagenet,
    in_timm_names,
    is_self_supervised,
)
from vit_jax_xfer.pretrained.parameter_rules import TABLE, rule
from vit_jax_xfer.pretrained.rename import TIMM, as_timm_keeps


def _is_ibot(evidence: Evidence) -> bool:
    """A headless ViT with a mask token."""
    return is_self_supervised(evidence) and evidence.fields["mask_token"]


def _is_dino(evidence: Evidence) -> bool:
    """Any other headless ViT, but those in JAX, which are Google's."""
    return is_self_supervised(evidence) and evidence.dialect != "flax"


IBOT = Family(
    name="ibot",
    source="iBOT (2111.07832)",
    names={
        "publisher": Naming(TIMM, first=(rule("mask_token", "masked_embed", TABLE),)),
        "timm": Naming(TIMM, change=as_timm_keeps),
        "huggingface": Naming(HF_VIT, inside="vit."),
    },
    fits=_is_ibot,
    needs={"position": "learned", "class_token": True},
    choose=in_timm_names("bicubic_offset"),
    preprocessing=imagenet(),
)

DINO = Family(
    name="dino",
    source="DINO (2104.14294)",
    names={
        "publisher": Naming(TIMM),
        "timm": Naming(TIMM, change=as_timm_keeps),
        "huggingface": Naming(HF_VIT, inside="vit."),
    },
    fits=_is_dino,
    needs={"position": "learned", "class_token": True},
    choose=in_timm_names("bicubic_offset"),
    preprocessing=imagenet(),
)

"""MoCo v3 (2104.02057): its authors' files, in timm's names."""

from vit_jax_xfer.pretrained.families.hugging_face_names import HF_VIT
from vit_jax_xfer.pretrained.family_entry import Evidence, Family, Naming, imagenet, is_sincos
from vit_jax_xfer.pretrained.rename import TIMM, as_timm_keeps


def _fits(evidence: Evidence) -> bool:
    """Told by its momentum encoder, or by its fixed table, which linear probes keep."""
    momentum = any("momentum_encoder" in name for name in evidence.beside)
    fixed = evidence.dialect == "timm" and is_sincos(evidence, halves_exchanged=True)
    return momentum or fixed


MOCO_V3 = Family(
    name="moco_v3",
    source="MoCo v3 (2104.02057)",
    names={
        "publisher": Naming(TIMM),
        "timm": Naming(TIMM, change=as_timm_keeps),
        "huggingface": Naming(HF_VIT, inside="vit."),
    },
    fits=_fits,
    needs={"position": "learned", "class_token": True},
    preprocessing=imagenet(interpolation="bilinear"),
    heads={384: 12},  # its small one has 12 heads of 32
)

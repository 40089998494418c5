"""I-JEPA (2301.08243): Meta's files, in timm's names.

Each holds the encoder, its average `target_encoder` and the predictor: `weights=` chooses.
"""

from vit_jax_xfer.pretrained.families.hugging_face_names import HF_VIT
from vit_jax_xfer.pretrained.family_entry import Evidence, Family, Naming, imagenet, is_sincos
from vit_jax_xfer.pretrained.rename import TIMM, as_timm_keeps


def _fits(evidence: Evidence) -> bool:
    """Headless, of patches alone, on MAE's fixed table without a class token's row."""
    fields = evidence.fields
    tokens = fields["class_token"] or fields["registers"]
    return evidence.headless and not tokens and is_sincos(evidence, prefix_tokens=0)


IJEPA = Family(
    name="ijepa",
    source="I-JEPA (2301.08243)",
    names={
        "publisher": Naming(TIMM),
        "timm": Naming(TIMM, change=as_timm_keeps),
        "huggingface": Naming(HF_VIT, inside="ijepa."),
    },
    fits=_fits,
    needs={"position": "learned", "class_token": False},
    preprocessing=imagenet(interpolation="bilinear"),
)

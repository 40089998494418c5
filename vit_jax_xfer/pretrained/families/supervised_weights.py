"""ViTs trained with labels: ViT (2010.11929), AugReg (2106.10270), and whatever timm trains.

Google's files are in the names of Flax; nothing tells these apart from other plain ViTs, so they
are what a file is when it is no other family's.
"""

from vit_jax_xfer.models.preprocessing import INCEPTION
from vit_jax_xfer.pretrained.families.hugging_face_names import HF_VIT
from vit_jax_xfer.pretrained.families.siglip_weights import timm_activation
from vit_jax_xfer.pretrained.family_entry import Evidence, Family, Naming, has_fields, squashed
from vit_jax_xfer.pretrained.fields_from_shapes import Fields
from vit_jax_xfer.pretrained.rename import TIMM, as_timm_keeps


def _activation(evidence: Evidence) -> Fields:
    """SigLIP's towers in timm's names without their pooling: headless, and of patches alone."""
    fields = evidence.fields
    tower = evidence.headless and not (fields["class_token"] or fields["registers"])
    return timm_activation(evidence) if tower else {}


SUPERVISED = Family(
    name="supervised",
    source="ViT (2010.11929), AugReg (2106.10270), and whatever timm trains",
    names={
        "publisher": Naming(TIMM),
        "timm": Naming(TIMM, change=as_timm_keeps),
        "huggingface": Naming(HF_VIT, inside="vit."),
    },
    fits=has_fields(position="learned"),
    choose=_activation,
    preprocessing=squashed(*INCEPTION),
)

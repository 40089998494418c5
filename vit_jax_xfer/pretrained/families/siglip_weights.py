"""SigLIP (2303.15343), SigLIP 2 (2502.14786): big_vision's names, timm's, transformers'."""

from vit_jax_xfer.models.preprocessing import INCEPTION
from vit_jax_xfer.pretrained.families.clip_weights import HF_CLIP
from vit_jax_xfer.pretrained.families.flax_names import FLAX
from vit_jax_xfer.pretrained.family_entry import Evidence, Family, Naming, has_fields, squashed
from vit_jax_xfer.pretrained.fields_from_shapes import Fields
from vit_jax_xfer.pretrained.rename import TIMM, as_timm_keeps


def _activation(evidence: Evidence) -> Fields:
    """big_vision's GELU; timm runs most of these files with the exact one."""
    return {} if evidence.dialect == "timm" else {"activation": "gelu_tanh"}


SIGLIP = Family(
    name="siglip",
    source="SigLIP (2303.15343), SigLIP 2 (2502.14786)",
    names={
        "publisher": Naming(FLAX, rules=lambda params: FLAX.rules),
        "timm": Naming(TIMM, change=as_timm_keeps),
        "huggingface": Naming(HF_CLIP, inside="vision_model."),
    },
    fits=has_fields(pool="map"),
    needs={"pool": "map"},
    heads={1536: 16},
    choose=_activation,
    preprocessing=squashed(*INCEPTION, interpolation="bicubic"),
)

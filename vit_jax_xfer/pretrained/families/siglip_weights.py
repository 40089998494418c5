"""SigLIP (2303.15343), SigLIP 2 (2502.14786): big_vision's names, timm's, transformers'."""

from vit_jax_xfer.models.preprocessing import INCEPTION
from vit_jax_xfer.pretrained.families.clip_weights import HF_CLIP
from vit_jax_xfer.pretrained.families.flax_names import FLAX
from vit_jax_xfer.pretrained.family_entry import Evidence, Family, Naming, squashed
from vit_jax_xfer.pretrained.fields_from_shapes import Fields
from vit_jax_xfer.pretrained.rename import TIMM, as_timm_keeps


def timm_activation(evidence: Evidence) -> Fields:
    """timm runs most sizes with the exact GELU, and these, of its names, as big_vision does."""
    fields = evidence.fields
    size = (fields["width"], fields["patch_size"])
    tanh = size in ((768, 32), (1152, 16), (1536, 16)) or (
        size == (1024, 16) and fields.get("image_size") == 512
    )
    return {"activation": "gelu_tanh"} if tanh and evidence.dialect == "timm" else {}


def _activation(evidence: Evidence) -> Fields:
    """big_vision's GELU, but in timm's names."""
    if evidence.dialect == "timm":
        return timm_activation(evidence)
    return {"activation": "gelu_tanh"}


def _pools_by_attention(evidence: Evidence) -> bool:
    """A learned probe: SigLIP's, and timm's so150m after it, whose registers stay out of it."""
    return evidence.reading.has("attention_pool/probe")


SIGLIP = Family(
    name="siglip",
    source="SigLIP (2303.15343), SigLIP 2 (2502.14786)",
    names={
        "publisher": Naming(FLAX, rules=lambda params: FLAX.rules),
        "timm": Naming(TIMM, change=as_timm_keeps),
        "huggingface": Naming(HF_CLIP, inside="vision_model."),
    },
    fits=_pools_by_attention,
    needs={"pool": "map"},
    heads={1536: 16},
    choose=_activation,
    preprocessing=squashed(*INCEPTION, interpolation="bicubic"),
)

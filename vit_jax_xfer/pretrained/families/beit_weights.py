"""BEiT (2106.08254) and BEiT v2 (2208.06366): Microsoft's files, timm's, transformers'."""

from vit_jax_xfer.models.preprocessing import INCEPTION, Preprocessing
from vit_jax_xfer.pretrained.families.hugging_face_names import HF_VIT
from vit_jax_xfer.pretrained.family_entry import Evidence, Family, Naming, imagenet, is_scaled
from vit_jax_xfer.pretrained.fields_from_shapes import Fields
from vit_jax_xfer.pretrained.rename import TIMM, as_timm_keeps

_MARKS = ("gamma_", "q_bias")
_NAMES = {
    "publisher": Naming(TIMM, prefer=_MARKS),
    "timm": Naming(TIMM, prefer=_MARKS, change=as_timm_keeps),
    "huggingface": Naming(HF_VIT, inside="beit."),
}


def _is_beit(evidence: Evidence) -> bool:
    """Relative positions, or in transformers' names LayerScale."""
    relative = evidence.fields["relative_bias"] != "none"
    return relative or (evidence.dialect == "hf_vit" and is_scaled(evidence))


def _is_beitv2(evidence: Evidence) -> bool:
    """The parts that predict from the class token in pre-training."""
    return any(name.startswith("cls_pt_") for name in evidence.reading.state)


def _layer_scale(evidence: Evidence) -> Fields:
    """Where LayerScale starts: 0.1 in the base size, 1e-5 in the large one."""
    return {"layer_scale": 1e-5 if evidence.fields["width"] >= 1024 else 0.1}


BEIT = Family(
    name="beit",
    source="BEiT (2106.08254)",
    names=_NAMES,
    fits=_is_beit,
    needs={"qkv_bias": "no_key"},
    choose=_layer_scale,
    preprocessing=Preprocessing(*INCEPTION),
)

# Its fine-tuned files look like BEiT's; pass family="beitv2" for its preprocessing.
BEITV2 = Family(
    name="beitv2",
    source="BEiT v2 (2208.06366)",
    names=_NAMES,
    fits=_is_beitv2,
    needs={"qkv_bias": "no_key"},
    defaults={"layer_scale": 1e-5},
    preprocessing=imagenet(),
)

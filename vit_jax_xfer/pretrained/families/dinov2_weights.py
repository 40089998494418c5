"""DINOv2 (2304.07193), with registers (2309.16588): Meta's files, timm's, transformers'.

Meta's files are in canonical names (rename.py) as they are, and so are timm's, which leave the mask
token out; those of transformers are brought to canonical names by the table below.
"""

from vit_jax_xfer.pretrained.families.hugging_face_names import (
    ATTENTION,
    NEW_ATTENTION,
    PLAIN_MLP,
    VIT_ENDS,
)
from vit_jax_xfer.pretrained.family_entry import Evidence, Family, Naming, imagenet, is_scaled
from vit_jax_xfer.pretrained.fields_from_shapes import Fields
from vit_jax_xfer.pretrained.parameter_rules import TABLE, rule
from vit_jax_xfer.pretrained.rename import TIMM, Dialect, as_timm_keeps, in_blocks

# Meta and transformers keep it as (1, C), where ours is (1, 1, C).
_MASK_TOKEN = (rule("mask_token", "mask_token", TABLE),)

_DINOV2_BLOCK = (
    *PLAIN_MLP,
    ("mlp.weights_in", "mlp.w12"),
    ("mlp.weights_out", "mlp.w3"),
    ("mlp.gate_proj", "mlp.gate"),
    ("mlp.up_proj", "mlp.up"),
    ("mlp.down_proj", "mlp.down"),
    ("norm1", "norm1"),
    ("norm2", "norm2"),
)

HF_DINOV2 = Dialect(
    name="hf_dinov2",
    signature=("encoder.layer.{i}.layer_scale1.lambda1",),
    prefixes=("dinov2.", "dinov2_with_registers."),
    pairs=(
        *VIT_ENDS,
        *(
            (f"encoder.layer.{{i}}.layer_scale{n}.lambda1", f"blocks.{{i}}.ls{n}.gamma")
            for n in (1, 2)
        ),
        *in_blocks("encoder.layer.{i}", (*ATTENTION, *NEW_ATTENTION, *_DINOV2_BLOCK)),
    ),
    prefer=("q_proj", "ls1", "ls2", "w12", "w3", "reg_token"),
    first=_MASK_TOKEN,
    class_has_position=True,
    fields={"position_resize": "bicubic", "drop_remainder": True},
)


def _fits(evidence: Evidence) -> bool:
    """LayerScale and learned positions, which with registers the class token has or has not."""
    fields = evidence.fields
    if not is_scaled(evidence) or fields["qk_norm"] or fields["position"] != "learned":
        return False
    if evidence.dialect == "hf_vit":  # a BEiT with absolute positions
        return False
    return fields["class_position"] or fields["registers"] > 0


def _resize(evidence: Evidence) -> Fields:
    """How its code fits positions to another grid: by an offset, and with registers antialiased.

    Meta's files are told from timm's, which are antialiased all, by their mask token.
    """
    if evidence.fields["registers"]:
        return {"position_resize": "bicubic_antialias"}
    publishers = evidence.dialect == "timm" and evidence.fields["mask_token"]
    return {"position_resize": "bicubic_offset"} if publishers else {}


def _doubts(evidence: Evidence) -> dict[str, str]:
    """Meta's file without its mask token is as timm's is, and one register is TIPS v2's."""
    fields = evidence.fields
    if fields["registers"] == 1 and not evidence.config:
        return {
            "preprocessing": "preprocessing: taken for DINOv2's, ImageNet's mean and std; of "
            "networks with one register those of TIPS v2 take pixels from 0 to 1 as they are"
        }
    if evidence.dialect != "timm" or fields["mask_token"] or fields["registers"]:
        return {}
    return {
        "position_resize": "position_resize: taken for timm's file, which lacks the mask token, so "
        "other sizes get their positions by 'bicubic_antialias'; Meta's own code does it by "
        "'bicubic_offset', and transformers by 'bicubic'"
    }


DINOV2 = Family(
    name="dinov2",
    source="DINOv2 (2304.07193), with registers (2309.16588)",
    names={
        "publisher": Naming(TIMM, prefer=("register_tokens", "w12", "w3"), first=_MASK_TOKEN),
        "timm": Naming(TIMM, prefer=("reg_token",), change=as_timm_keeps),
        "huggingface": Naming(HF_DINOV2, inside="dinov2."),
    },
    fits=_fits,
    needs={"position": "learned"},
    defaults={"layer_scale": 1e-5},
    choose=_resize,
    doubts=_doubts,
    preprocessing=imagenet(),
    packed=True,
)

"""DINOv3 (2508.10104): Meta's files, timm's, transformers'."""

import numpy as np

from vit_jax_xfer.models.preprocessing import IMAGENET
from vit_jax_xfer.pretrained.families.hugging_face_names import NEW_ATTENTION, VIT_ENDS
from vit_jax_xfer.pretrained.family_entry import Evidence, Family, Naming, squashed
from vit_jax_xfer.pretrained.fields_from_shapes import Fields
from vit_jax_xfer.pretrained.lazy_arrays import LazyState
from vit_jax_xfer.pretrained.parameter_rules import TABLE, State, rule
from vit_jax_xfer.pretrained.rename import TIMM, Dialect, as_timm_keeps, in_blocks
from vit_jax_xfer.pretrained.rotary_tables import DINOV3_BASE, stored_base

_DINOV3_BLOCK = (
    *NEW_ATTENTION,
    ("mlp.gate_proj", "mlp.gate"),
    ("mlp.up_proj", "mlp.up"),
    ("mlp.down_proj", "mlp.down"),
    ("norm1", "norm1"),
    ("norm2", "norm2"),
)


def _without_empty(state: LazyState) -> LazyState:
    """transformers writes no registers as an array of none."""
    return state.mapped(lambda name: None if 0 in state.shape(name) else name)


HF_DINOV3 = Dialect(
    name="hf_dinov3",
    signature=("layer.{i}.mlp.up_proj.weight", "model.layer.{i}.mlp.up_proj.weight"),
    prefixes=("dinov3_vit.",),
    pairs=(
        ("embeddings.patch_embeddings.*", "patch_embed.proj.*"),
        ("norm.*", "norm.*"),
        *VIT_ENDS,
        *(
            (f"{block}.{{i}}.layer_scale{n}.lambda1", f"blocks.{{i}}.ls{n}.gamma")
            for block in ("layer", "model.layer")
            for n in (1, 2)
        ),
        *in_blocks("layer.{i}", _DINOV3_BLOCK),
        *in_blocks("model.layer.{i}", _DINOV3_BLOCK),
    ),
    prefer=("q_proj", "ls1", "ls2", "mlp.gate", "mlp.up", "mlp.down", "reg_token"),
    fields={"drop_remainder": True},
    prepare=_without_empty,
    ignored=(r"rope_embeddings\.inv_freq",),
)


def _fits(evidence: Evidence) -> bool:
    """Its names, or a class token, registers and no table of positions, for they are rotary."""
    fields = evidence.fields
    return evidence.dialect == "hf_dinov3" or (
        fields["class_token"]
        and fields["position"] == "none"
        and fields["relative_bias"] == "none"
        and (fields["registers"] > 0 or evidence.dialect == "hf_dinov3")
    )


def _choose(evidence: Evidence) -> Fields:
    """Meta's files hold a bias of the keys that is masked; others leave it out, or mean it.

    They hold the wavelengths of the rotary positions, too.
    """
    masked = evidence.fields["qkv_bias"] == "full" and evidence.dialect != "hf_dinov3"
    base = stored_base(evidence.reading.state)
    found: Fields = {"qkv_bias": "masked_key"} if masked else {}
    return found if base is None else {**found, "rotary_base": base}


def _without_key_bias(params: State) -> State:
    """The parameters without the part of DINOv3's bias that is masked."""
    ends = "attention/qkv/bias"
    return {k: x[[0, -1]] if k.endswith(ends) and len(x) == 3 else x for k, x in params.items()}


def _with_key_bias(params: State) -> State:
    """The parameters with zeros for the key's part of a bias, as Meta's files have it."""
    return {
        k: np.stack([x[0], np.zeros_like(x[0]), x[1]])
        if k.endswith("attention/qkv/bias") and len(x) == 2
        else x
        for k, x in params.items()
    }


DINOV3 = Family(
    name="dinov3",
    source="DINOv3 (2508.10104)",
    names={
        "publisher": Naming(
            TIMM,
            prefer=("storage_tokens", "ls1", "ls2", "w1", "w2", "w3"),
            first=(rule("mask_token", "mask_token", TABLE),),
            change=_with_key_bias,
        ),
        "timm": Naming(
            TIMM,
            prefer=("gamma_", "q_bias", "fc1_g"),
            change=lambda params: as_timm_keeps(_without_key_bias(params)),
        ),
        "huggingface": Naming(HF_DINOV3, change=_without_key_bias, inside="dinov3_vit."),
    },
    fits=_fits,
    needs={"position": "none", "registers": True, "class_token": True},
    defaults={
        "rotary": "dinov3",
        "rotary_base": DINOV3_BASE,
        "norm_eps": 1e-5,
        "image_size": 224,
        "layer_scale": 1e-5,
    },
    choose=_choose,
    heads={1280: 20, 4096: 32},
    preprocessing=squashed(*IMAGENET),
)

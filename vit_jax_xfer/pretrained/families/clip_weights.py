"""CLIP (2103.00020), OpenCLIP (2212.07143): OpenAI's names, timm's, transformers'."""

from collections.abc import Collection

from vit_jax_xfer.models.preprocessing import CLIP as CLIP_COLOURS
from vit_jax_xfer.models.preprocessing import Preprocessing
from vit_jax_xfer.pretrained.families.hugging_face_names import PLAIN_MLP
from vit_jax_xfer.pretrained.family_entry import Evidence, Family, Naming
from vit_jax_xfer.pretrained.parameter_rules import TABLE, TOKEN, rule
from vit_jax_xfer.pretrained.rename import TIMM, Dialect, as_timm_keeps, in_blocks

# A token is (C,) and the positions (N, C).
_WITHOUT_LEADING_AXES = (
    rule("cls_token", "cls_token", TOKEN),
    rule("pos_embed", "pos_embed", TABLE),
)

# OpenAI's CLIP, OpenCLIP, and others trained with OpenCLIP
OPENAI = Dialect(
    name="openai",
    signature=("transformer.resblocks.{i}.attn.in_proj_weight",),
    prefixes=("visual.",),
    pairs=(
        ("class_embedding", "cls_token"),
        ("positional_embedding", "pos_embed"),
        ("conv1.*", "patch_embed.proj.*"),
        ("ln_pre.*", "norm_pre.*"),
        ("ln_post.*", "norm.*"),
        ("proj", "head.proj"),
        ("transformer.resblocks.{i}.attn.in_proj_weight", "blocks.{i}.attn.qkv.weight"),
        ("transformer.resblocks.{i}.attn.in_proj_bias", "blocks.{i}.attn.qkv.bias"),
        *(
            (f"transformer.resblocks.{{i}}.ls_{n}.gamma", f"blocks.{{i}}.ls{n}.gamma")
            for n in (1, 2)
        ),
        *in_blocks(
            "transformer.resblocks.{i}",
            (
                ("attn.out_proj", "attn.proj"),
                ("ln_1", "norm1"),
                ("ln_2", "norm2"),
                ("mlp.c_fc", "mlp.fc1"),
                ("mlp.c_proj", "mlp.fc2"),
            ),
        ),
    ),
    prefer=("head.proj", "attn.qkv"),
    first=_WITHOUT_LEADING_AXES,
    class_has_position=True,
    fields={"position_resize": "bicubic_antialias"},
)


def _classifier(names: Collection[str]) -> dict[str, str]:
    """transformers' classifiers of CLIP and SigLIP, which read a mean of tokens."""
    if "head.bias" not in names:
        return {}
    if "cls_token" in names or "attn_pool.latent" in names:
        raise ValueError("parameters without a name of hf_clip: head.bias")
    return {f"head.{leaf}": f"classifier.{leaf}" for leaf in ("weight", "bias")}


# CLIP and SigLIP
HF_CLIP = Dialect(
    name="hf_clip",
    signature=("encoder.layers.{i}.self_attn.q_proj.weight",),
    prefixes=("vision_model.",),
    pairs=(
        ("embeddings.class_embedding", "cls_token"),
        ("embeddings.position_embedding.weight", "pos_embed"),
        ("embeddings.patch_embedding.*", "patch_embed.proj.*"),
        ("pre_layrnorm.*", "norm_pre.*"),
        ("post_layernorm.*", "norm.*"),
        ("visual_projection.*", "head.*"),
        ("classifier.*", "head.*"),
        ("head.probe", "attn_pool.latent"),
        ("head.attention.in_proj_weight", "attn_pool.qkv.weight"),
        ("head.attention.in_proj_bias", "attn_pool.qkv.bias"),
        ("head.attention.out_proj.*", "attn_pool.proj.*"),
        ("head.layernorm.*", "attn_pool.norm.*"),
        ("head.mlp.*", "attn_pool.mlp.*"),
        *in_blocks(
            "encoder.layers.{i}",
            (
                *((f"self_attn.{x}_proj", f"attn.{x}_proj") for x in "qkv"),
                ("self_attn.out_proj", "attn.proj"),
                ("layer_norm1", "norm1"),
                ("layer_norm2", "norm2"),
                *PLAIN_MLP,
            ),
        ),
    ),
    prefer=("q_proj", "attn_pool.qkv"),
    first=_WITHOUT_LEADING_AXES,
    by_company=_classifier,
    class_has_position=True,
    fields={"position_resize": "bicubic", "drop_remainder": True},
    ignored=(r"(vision_model\.)?embeddings\.position_ids",),
)


def _fits(evidence: Evidence) -> bool:
    """A norm before the blocks, or OpenAI's names, in which CLIPA's have none."""
    return evidence.fields["pre_norm"] or evidence.dialect == "openai"


_WHOSE_GELU = {
    "activation": "activation: taken for OpenAI's quick_gelu; networks of CLIP that others trained "
    "mostly have activation='gelu', which no name tells"
}

CLIP = Family(
    name="clip",
    source="CLIP (2103.00020), OpenCLIP (2212.07143)",
    names={
        "publisher": Naming(OPENAI),
        "timm": Naming(TIMM, change=as_timm_keeps),
        "huggingface": Naming(HF_CLIP, inside="vision_model."),
    },
    fits=_fits,
    needs={"pre_norm": True},
    defaults={"norm_eps": 1e-5, "activation": "quick_gelu"},
    doubts=lambda evidence: _WHOSE_GELU,
    preprocessing=Preprocessing(*CLIP_COLOURS, crop=1.0),
)

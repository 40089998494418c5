"""How transformers names ViTs, in the files of its hub and in memory since version 5.

Below, the names that several families share; DINOv2's, DINOv3's and CLIP's are in their files.
"""

from collections.abc import Collection

from vit_jax_xfer.pretrained.rename import Dialect, Pairs, in_blocks

ATTENTION = (  # transformers up to 4, and all files on its hub
    ("attention.attention.query", "attn.q_proj"),
    ("attention.attention.key", "attn.k_proj"),
    ("attention.attention.value", "attn.v_proj"),
    ("attention.output.dense", "attn.proj"),
)
NEW_ATTENTION = tuple((f"attention.{x}_proj", f"attn.{x}_proj") for x in "qkv") + (
    ("attention.o_proj", "attn.proj"),
)
_NORMS = (("layernorm_before", "norm1"), ("layernorm_after", "norm2"))
PLAIN_MLP = (("mlp.fc1", "mlp.fc1"), ("mlp.fc2", "mlp.fc2"))

VIT_ENDS: Pairs = (
    ("embeddings.cls_token", "cls_token"),
    ("embeddings.mask_token", "mask_token"),
    ("embeddings.distillation_token", "dist_token"),
    ("embeddings.register_tokens", "reg_token"),
    ("embeddings.position_embeddings", "pos_embed"),
    ("embeddings.patch_embeddings.projection.*", "patch_embed.proj.*"),
    ("layernorm.*", "norm.*"),
    ("classifier.*", "head.*"),
    ("cls_classifier.*", "head.*"),
    ("distillation_classifier.*", "head_dist.*"),
)

_DECODER: Pairs = tuple(
    (f"decoder.{block}.{{i}}.{theirs}.*", f"decoder_blocks.{{i}}.{common}.*")
    for block in ("decoder_layers", "decoder_encoder.layer")
    for theirs, common in (
        *ATTENTION,
        *NEW_ATTENTION,
        *_NORMS,
        ("intermediate.dense", "mlp.fc1"),
        ("output.dense", "mlp.fc2"),
        *PLAIN_MLP,
    )
)


def _vit_by_company(names: Collection[str]) -> dict[str, str]:
    """What a distilled DeiT calls its first head, and a masked autoencoder its mask token."""
    found = {}
    if "head_dist.weight" in names:
        found |= {f"head.{leaf}": f"cls_classifier.{leaf}" for leaf in ("weight", "bias")}
    if "decoder_embed.weight" in names:
        found["mask_token"] = "decoder.mask_token"
    return found


# ViT, DeiT, BEiT, MAE, and DINO and MSN, which transformers keeps as ViTs
HF_VIT = Dialect(
    name="hf_vit",
    signature=(
        "encoder.layer.{i}.layernorm_before.weight",
        "layers.{i}.layernorm_before.weight",
    ),
    prefixes=("vit.", "deit.", "beit.", "vit_msn.", "ijepa."),
    pairs=(
        *VIT_ENDS,
        ("pooler.layernorm.*", "fc_norm.*"),
        ("pooler.dense.*", "pre_logits.fc.*"),
        *in_blocks(
            "encoder.layer.{i}",
            (
                *ATTENTION,
                *_NORMS,
                ("intermediate.dense", "mlp.fc1"),
                ("output.dense", "mlp.fc2"),
            ),
        ),
        *in_blocks(
            "layers.{i}",
            (*NEW_ATTENTION, *_NORMS, *PLAIN_MLP),
        ),
        *(
            (
                f"{attention}.relative_position_bias.relative_position_bias_table",
                "blocks.{i}.attn.relative_position_bias_table",
            )
            for attention in ("encoder.layer.{i}.attention.attention", "layers.{i}")
        ),
        *(
            (f"{block}.{{i}}.lambda_{n}", f"blocks.{{i}}.gamma_{n}")
            for block in ("encoder.layer", "layers")
            for n in (1, 2)
        ),
        ("encoder.relative_position_bias.*", "rel_pos_bias.*"),
        ("shared_position_bias.*", "rel_pos_bias.*"),
        ("decoder.mask_token", "mask_token"),
        ("decoder.decoder_pos_embed", "decoder_pos_embed"),
        *_DECODER,
        *(
            (f"decoder.{name}.*", f"{name}.*")
            for name in ("decoder_embed", "decoder_norm", "decoder_pred")
        ),
    ),
    prefer=("q_proj", "gamma_"),
    by_company=_vit_by_company,
    class_has_position=True,
    fields={"position_resize": "bicubic", "norm_eps": 1e-12, "relative_resize": "bilinear"},
    ignored=(
        r"(blocks\.\d+\.attn|rel_pos_bias)\.relative_position_index",
        r".*\.relative_position_bias\.relative_position_index",
    ),
    left_out=(r"lm_head\.(weight|bias)",),
)

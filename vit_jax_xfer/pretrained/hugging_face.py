"""How transformers names ViTs, in the files of its hub and in memory since version 5."""

from vit_jax_xfer.pretrained.dialect import Dialect, Pairs, in_blocks

_ATTENTION = (  # transformers up to 4, and all files on its hub
    ("attention.attention.query", "attn.q_proj"),
    ("attention.attention.key", "attn.k_proj"),
    ("attention.attention.value", "attn.v_proj"),
    ("attention.output.dense", "attn.proj"),
)
_NEW_ATTENTION = tuple((f"attention.{x}_proj", f"attn.{x}_proj") for x in "qkv") + (
    ("attention.o_proj", "attn.proj"),
)
_NORMS = (("layernorm_before", "norm1"), ("layernorm_after", "norm2"))
PLAIN_MLP = (("mlp.fc1", "mlp.fc1"), ("mlp.fc2", "mlp.fc2"))

_VIT_ENDS: Pairs = (
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
        *_ATTENTION,
        *_NEW_ATTENTION,
        *_NORMS,
        ("intermediate.dense", "mlp.fc1"),
        ("output.dense", "mlp.fc2"),
        *PLAIN_MLP,
    )
)

# ViT, DeiT, BEiT, MAE, and DINO and MSN, which transformers keeps as ViTs
HF_VIT = Dialect(
    name="hf_vit",
    signature=(
        "encoder.layer.{i}.layernorm_before.weight",
        "layers.{i}.layernorm_before.weight",
    ),
    prefixes=("vit.", "deit.", "beit.", "vit_msn.", "ijepa."),
    pairs=(
        *_VIT_ENDS,
        ("pooler.layernorm.*", "fc_norm.*"),
        ("pooler.dense.*", "pre_logits.fc.*"),
        *in_blocks(
            "encoder.layer.{i}",
            (
                *_ATTENTION,
                *_NORMS,
                ("intermediate.dense", "mlp.fc1"),
                ("output.dense", "mlp.fc2"),
            ),
        ),
        *in_blocks(
            "layers.{i}",
            (*_NEW_ATTENTION, *_NORMS, *PLAIN_MLP),
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
    ignored=(r".*relative_position_index", r"lm_head\.(weight|bias)"),
)

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
        *_VIT_ENDS,
        *(
            (f"encoder.layer.{{i}}.layer_scale{n}.lambda1", f"blocks.{{i}}.ls{n}.gamma")
            for n in (1, 2)
        ),
        *in_blocks("encoder.layer.{i}", (*_ATTENTION, *_NEW_ATTENTION, *_DINOV2_BLOCK)),
    ),
    prefer=("q_proj", "ls1", "ls2", "w12", "w3", "reg_token"),
)

_DINOV3_BLOCK = (
    *_NEW_ATTENTION,
    ("mlp.gate_proj", "mlp.gate"),
    ("mlp.up_proj", "mlp.up"),
    ("mlp.down_proj", "mlp.down"),
    ("norm1", "norm1"),
    ("norm2", "norm2"),
)

HF_DINOV3 = Dialect(
    name="hf_dinov3",
    signature=("layer.{i}.mlp.up_proj.weight", "model.layer.{i}.mlp.up_proj.weight"),
    prefixes=("dinov3_vit.",),
    pairs=(
        ("embeddings.patch_embeddings.*", "patch_embed.proj.*"),
        ("norm.*", "norm.*"),
        *_VIT_ENDS,
        *(
            (f"{block}.{{i}}.layer_scale{n}.lambda1", f"blocks.{{i}}.ls{n}.gamma")
            for block in ("layer", "model.layer")
            for n in (1, 2)
        ),
        *in_blocks("layer.{i}", _DINOV3_BLOCK),
        *in_blocks("model.layer.{i}", _DINOV3_BLOCK),
    ),
    prefer=("q_proj", "ls1", "ls2", "mlp.gate", "mlp.up", "mlp.down", "reg_token"),
    ignored=(r"rope_embeddings\..*",),
)

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
    ignored=(r"(vision_model\.)?embeddings\.position_ids",),
)

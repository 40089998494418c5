"""The name map of every ViT in PyTorch: our paths from the names of timm and of the publishers.

Most publishers use timm's names, or names close to them: where two differ, both are listed, timm's
first. Other ways of naming (OpenAI's CLIP, Hugging Face) are renamed to these first: namings.py.
"""

from vit_jax_xfer.pretrained.layout import (
    CONV,
    LINEAR,
    PROJ_KERNEL,
    Q_KV_BIAS,
    Q_KV_KERNEL,
    QKV_BIAS,
    QKV_KERNEL,
    QV_BIAS,
    SAME,
    SPLIT_QKV_BIAS,
    SPLIT_QKV_KERNEL,
    TABLE,
    TOKEN,
    part,
)
from vit_jax_xfer.pretrained.names import Rule, affine, inside, norm, rule

TOKENS = (
    rule("cls_token", "cls_token"),
    rule("cls_token", "cls_token", TOKEN),
    rule("dist_token", "dist_token"),
    rule("register_tokens", "reg_token"),
    rule("register_tokens", "register_tokens"),
    rule("register_tokens", "storage_tokens"),
    rule("mask_token", "mask_token"),
    rule("mask_token", "mask_token", TABLE),  # DINOv2 and DINOv3: (1, C)
    rule("mask_token", "masked_embed", TABLE),  # iBOT
    rule("pos_embed", "pos_embed"),
    rule("pos_embed", "pos_embed", TABLE),  # CLIP: (N, C)
)

ENDS = (
    *affine("patch_embed", "patch_embed.proj", CONV),
    *norm("norm_pre", "norm_pre"),
    *norm("norm", "norm"),
    *norm("head_norm", "fc_norm"),
    *affine("representation", "pre_logits.fc", LINEAR),
    *affine("head", "head", LINEAR),
    rule("head/kernel", "head.proj"),  # CLIP keeps its projection as (C, K)
    *affine("distillation_classifier", "head_dist", LINEAR),
    rule("relative_bias", "rel_pos_bias.relative_position_bias_table"),
)

POOLING = (
    rule("attention_pool/probe", "attn_pool.latent"),
    rule(
        "attention_pool/qkv/kernel",
        ("attn_pool.q.weight", "attn_pool.kv.weight"),
        Q_KV_KERNEL,
    ),
    rule("attention_pool/qkv/bias", ("attn_pool.q.bias", "attn_pool.kv.bias"), Q_KV_BIAS),
    *affine("attention_pool/qkv", "attn_pool.qkv", QKV_KERNEL, QKV_BIAS),
    *affine("attention_pool/proj", "attn_pool.proj", PROJ_KERNEL),
    *norm("attention_pool/norm", "attn_pool.norm"),
    *affine("attention_pool/mlp/fc1", "attn_pool.mlp.fc1", LINEAR),
    *affine("attention_pool/mlp/fc2", "attn_pool.mlp.fc2", LINEAR),
)


def block_rules(ours: str, theirs: str, mlp: str = "plain") -> tuple[Rule, ...]:
    """The rules of a pre-norm block. mlp: "plain", "gated", or "packed" (gate and value as one)."""
    attention = f"{theirs}.attn"
    return (
        *norm(f"{ours}/norm1", f"{theirs}.norm1"),
        *affine(f"{ours}/attention/qkv", f"{attention}.qkv", QKV_KERNEL, QKV_BIAS),
        rule(
            f"{ours}/attention/qkv/kernel",
            tuple(f"{attention}.{x}_proj.weight" for x in "qkv"),
            SPLIT_QKV_KERNEL,
        ),
        rule(
            f"{ours}/attention/qkv/bias",
            tuple(f"{attention}.{x}_proj.bias" for x in "qkv"),
            SPLIT_QKV_BIAS,
        ),
        rule(f"{ours}/attention/qkv/bias", (f"{attention}.q_bias", f"{attention}.v_bias"), QV_BIAS),
        rule(
            f"{ours}/attention/qkv/bias",
            tuple(f"{attention}.{x}_proj.bias" for x in "qv"),
            QV_BIAS,
        ),
        *norm(f"{ours}/attention/q_norm", f"{attention}.q_norm"),
        *norm(f"{ours}/attention/k_norm", f"{attention}.k_norm"),
        *norm(f"{ours}/attention/norm", f"{attention}.norm"),
        *norm(f"{ours}/attention/norm", f"{attention}.inner_attn_ln"),
        rule(f"{ours}/attention/relative_bias", f"{attention}.relative_position_bias_table"),
        *affine(f"{ours}/attention/proj", f"{attention}.proj", PROJ_KERNEL),
        *(
            rule(f"{ours}/layer_scale{n}", f"{theirs}.{name}")
            for n in (1, 2)
            for name in (f"ls{n}.gamma", f"gamma_{n}")
        ),
        *norm(f"{ours}/norm2", f"{theirs}.norm2"),
        *_mlp_rules(f"{ours}/mlp", f"{theirs}.mlp", mlp),
    )


def rules(mlp: str = "plain") -> tuple[Rule, ...]:
    """The whole map of a vision transformer."""
    return (*TOKENS, *ENDS, *POOLING, *block_rules("blocks_{i}", "blocks.{i}", mlp))


def autoencoder_rules() -> tuple[Rule, ...]:
    """The map of a masked autoencoder with its decoder (MAE's names)."""
    encoder = [r for r in rules() if r.ours != "mask_token"]
    return (
        rule("mask_token", "mask_token"),
        *inside("encoder/", encoder),
        rule("decoder_pos_embed", "decoder_pos_embed"),
        *affine("decoder_embed", "decoder_embed", LINEAR),
        *block_rules("decoder_blocks_{i}", "decoder_blocks.{i}"),
        *norm("decoder_norm", "decoder_norm"),
        *affine("decoder_pred", "decoder_pred", LINEAR),
    )


def preferring(rules: tuple[Rule, ...], marks: tuple[str, ...]) -> tuple[Rule, ...]:
    """The same rules, those first whose publisher's names hold one of `marks`: for export."""
    return tuple(sorted(rules, key=lambda r: not any(m in n for n in r.theirs for m in marks)))


def _mlp_rules(ours: str, theirs: str, mlp: str) -> tuple[Rule, ...]:
    """In gated MLPs, the gate is the first of a packed pair, and w1 or fc1_g of a split one."""
    packed, split = mlp == "packed", mlp == "gated"
    found: tuple[Rule, ...] = ()
    if packed:
        for which, name in ((0, "gate"), (1, "fc1")):
            for array in ("fc1", "w12"):
                found += affine(
                    f"{ours}/{name}",
                    f"{theirs}.{array}",
                    part(LINEAR, which, 2),
                    part(SAME, which, 2),
                )
    elif split:
        for name, arrays in (("gate", ("fc1_g", "w1", "gate")), ("fc1", ("fc1_x", "w2", "up"))):
            for array in arrays:
                found += affine(f"{ours}/{name}", f"{theirs}.{array}", LINEAR)
    else:
        for array in ("fc1", "up"):
            found += affine(f"{ours}/fc1", f"{theirs}.{array}", LINEAR)
    return (
        *found,
        *norm(f"{ours}/norm", f"{theirs}.norm"),
        *norm(f"{ours}/norm", f"{theirs}.ffn_ln"),
        *(
            one
            for array in ("fc2", "w3", "down")
            for one in affine(f"{ours}/fc2", f"{theirs}.{array}", LINEAR)
        ),
    )

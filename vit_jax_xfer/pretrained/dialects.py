"""The dialects in which files are written, in the order in which they are tried."""

from vit_jax_xfer.pretrained.dialect import Dialect, in_blocks
from vit_jax_xfer.pretrained.hugging_face import HF_CLIP, HF_DINOV2, HF_DINOV3, HF_VIT

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
)

# timm, and publishers whose names are near enough for common.py to list them
TIMM = Dialect(
    name="timm",
    # The second is how DINOv2 numbers blocks while it trains: chunk.block.
    signature=("blocks.{i}.norm1.weight", "blocks.0.{i}.norm1.weight"),
    pairs=(),
    ignored=(
        r".*relative_position_index",
        r"(blocks\.\d+\.attn\.)?rope\..*",  # EVA-02's tables of angles
        r"rope_embed\.periods",  # DINOv3
        r".*\.bias_mask",  # DINOv3
        r".*\.k_bias",  # timm's zeros for BEiT's and EVA-02's missing key bias
        r"lm_head\.(weight|bias)",  # BEiT's and EVA-02's head of visual words
        r"cls_pt_(layers|norm|lm_head)\..*",  # BEiTv2's class token in pre-training
        r"(local_cls_norm|cls_norm)\..*",  # DINOv3: of crops in training
    ),
)

DIALECTS: tuple[Dialect, ...] = (HF_VIT, HF_DINOV2, HF_DINOV3, HF_CLIP, OPENAI, TIMM)

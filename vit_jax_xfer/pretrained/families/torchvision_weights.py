"""ViTs of torchvision, trained with labels (2010.11929), of them SWAG's (2201.08371)."""

from vit_jax_xfer.pretrained.family_entry import Evidence, Family, Naming, imagenet
from vit_jax_xfer.pretrained.rename import TIMM, Dialect, as_timm_keeps, in_blocks

_BLOCK = "encoder.layers.encoder_layer_{i}"

TORCHVISION = Dialect(
    name="torchvision",
    signature=(f"{_BLOCK}.self_attention.in_proj_weight",),
    pairs=(
        ("class_token", "cls_token"),
        ("encoder.pos_embedding", "pos_embed"),
        ("conv_proj.*", "patch_embed.proj.*"),
        ("encoder.ln.*", "norm.*"),
        ("heads.pre_logits.*", "pre_logits.fc.*"),
        ("heads.head.*", "head.*"),
        (f"{_BLOCK}.self_attention.in_proj_weight", "blocks.{i}.attn.qkv.weight"),
        (f"{_BLOCK}.self_attention.in_proj_bias", "blocks.{i}.attn.qkv.bias"),
        *in_blocks(
            _BLOCK,
            (
                ("self_attention.out_proj", "attn.proj"),
                ("ln_1", "norm1"),
                ("ln_2", "norm2"),
                # As in published files, and as in a state dict of today.
                ("mlp.linear_1", "mlp.fc1"),
                ("mlp.linear_2", "mlp.fc2"),
                ("mlp.0", "mlp.fc1"),
                ("mlp.3", "mlp.fc2"),
            ),
        ),
    ),
    prefer=("attn.qkv",),
    class_has_position=True,
    fields={"position_resize": "bicubic_corners"},
)


def _whose_training(evidence: Evidence) -> dict[str, str]:
    """SWAG's weights, all above 224 pixels and some at 224, see images otherwise."""
    return {
        "preprocessing": "preprocessing: taken for IMAGENET1K_V1's, bilinear, of which a centre of "
        "0.875 is seen; SWAG's weights take interpolation='bicubic', crop=1.0, which no name tells"
    }


TORCHVISION_VIT = Family(
    name="torchvision",
    source="ViT (2010.11929), SWAG (2201.08371), in torchvision",
    names={
        "publisher": Naming(TORCHVISION),
        "timm": Naming(TIMM, change=as_timm_keeps),
    },
    fits=lambda evidence: evidence.dialect == TORCHVISION.name,
    needs={"position": "learned", "class_token": True},
    doubts=_whose_training,
    preprocessing=imagenet(interpolation="bilinear"),
)

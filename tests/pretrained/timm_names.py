"""Small networks in timm's names, as its state dicts have them."""

import numpy as np


def state_dict(tokens=5, width=32, norm="norm", **more):
    """A ViT of one block, of 2×2 patches of 16 pixels and a class token.

    more: shapes of other names, None to leave one out.
    """
    shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, tokens, width),
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "patch_embed.proj.bias": (width,),
        f"{norm}.weight": (width,),
        f"{norm}.bias": (width,),
        "head.weight": (3, width),
        "head.bias": (3,),
    }
    for name in ("norm1", "norm2"):
        shapes |= {f"blocks.0.{name}.{leaf}": (width,) for leaf in ("weight", "bias")}
    for name, (out, into) in {
        "attn.qkv": (3, 1),
        "attn.proj": (1, 1),
        "mlp.fc1": (4, 1),
        "mlp.fc2": (1, 4),
    }.items():
        shapes[f"blocks.0.{name}.weight"] = (out * width, into * width)
        shapes[f"blocks.0.{name}.bias"] = (out * width,)
    shapes = {name: shape for name, shape in {**shapes, **more}.items() if shape}
    random = np.random.default_rng(0)
    return {k: random.normal(size=shape).astype(np.float32) for k, shape in shapes.items()}

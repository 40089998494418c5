"""A vision transformer and its attention transfer in plain PyTorch, to compare speeds with.

Written for the benchmarks, in timm's names, so that weights go over. Two forms of the same step:
`fused=False` computes attention from its scores and hands those from teacher to student, as the
published code does (2411.09702); `fused=True` takes PyTorch's fused attention, hands over q and k,
and computes scores only for the loss of distillation.
Images are (B, 3, H, W), tokens (B, T, C), q, k and v (B, H, T, d).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.pretrained.publish import to_publisher_names

# What a block gives: its scores (B, H, T, T), or q and k.
Seen = Tensor | tuple[Tensor, Tensor]


def from_jax(model: VisionTransformer, variables: Any, fused: bool) -> "TorchViT":
    """The same network in PyTorch with our weights. model: of the plain ViT's parts."""
    network = TorchViT(model, fused)
    state = to_publisher_names(variables, "supervised", "timm")
    network.load_state_dict({name: torch.tensor(array) for name, array in state.items()})
    return network


class TorchViT(nn.Module):
    """Images → logits (B, K), and what each block has seen."""

    def __init__(self, like: VisionTransformer, fused: bool) -> None:
        super().__init__()
        width, side = like.width, like.grid[0]
        self.patch_embed = nn.ModuleDict(
            {"proj": nn.Conv2d(3, width, like.patch_size, like.patch_size)}
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + side * side, width))
        self.blocks = nn.ModuleList(Block(like, fused) for _ in range(like.depth))
        self.norm = nn.LayerNorm(width, like.norm_eps)
        self.head = nn.Linear(width, like.num_classes)

    def forward(self, images: Tensor, given: list[Seen] | None = None) -> tuple[Tensor, list[Seen]]:
        """given: what another network's blocks have seen, which this one attends with."""
        patches = self.patch_embed["proj"](images).flatten(2).transpose(1, 2)
        first = self.cls_token.expand(len(images), -1, -1)
        tokens = torch.cat([first, patches], dim=1) + self.pos_embed
        seen = []
        for i, block in enumerate(self.blocks):
            tokens, own = block(tokens, None if given is None else given[i])
            seen.append(own)
        return self.head(self.norm(tokens)[:, 0]), seen


class Block(nn.Module):
    """Attention and MLP, each behind a norm."""

    def __init__(self, like: VisionTransformer, fused: bool) -> None:
        super().__init__()
        width, hidden = like.width, like.mlp_dim or 4 * like.width
        self.heads, self.fused = like.num_heads, fused
        self.norm1 = nn.LayerNorm(width, like.norm_eps)
        self.attn = nn.ModuleDict(
            {"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)}
        )
        self.norm2 = nn.LayerNorm(width, like.norm_eps)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})

    def forward(self, tokens: Tensor, given: Seen | None) -> tuple[Tensor, Seen]:
        batch, length, width = tokens.shape
        qkv = self.attn["qkv"](self.norm1(tokens))
        q, k, v = qkv.reshape(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if self.fused:
            seen = (q, k)
            out = F.scaled_dot_product_attention(*(seen if given is None else given), v)
        else:
            seen = scores(q, k)
            out = (seen if given is None else given).softmax(dim=-1) @ v
        tokens = tokens + self.attn["proj"](out.transpose(1, 2).reshape(batch, length, width))
        hidden = F.gelu(self.mlp["fc1"](self.norm2(tokens)))
        return tokens + self.mlp["fc2"](hidden), seen


def scores(q: Tensor, k: Tensor) -> Tensor:
    """q kᵀ / √d, (B, H, T, T)."""
    return (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)


def distance(student: list[Seen], teacher: list[Seen]) -> Tensor:
    """Cross-entropy of the maps, averaged over images, heads and rows, summed over blocks."""
    total = torch.zeros(())
    for own, theirs in zip(student, teacher, strict=True):
        own, theirs = (x if isinstance(x, Tensor) else scores(*x) for x in (own, theirs))
        rows = theirs.float().softmax(dim=-1) * own.float().log_softmax(dim=-1)
        total = total.to(rows.device) - rows.sum(dim=-1).mean()
    return total


def loss(
    what: str,
    weight: float,
    student: TorchViT,
    teacher: TorchViT | None,
    images: Tensor,
    labels: Tensor,
) -> Tensor:
    """What a step minimises. what: scratch | copy | distill; weight: of the maps' distance."""
    theirs = None
    if what != "scratch":
        with torch.no_grad():
            theirs = teacher(images)[1]
    logits, own = student(images, theirs if what == "copy" else None)
    value = F.cross_entropy(logits.float(), labels)
    return value + weight * distance(own, theirs) if what == "distill" else value

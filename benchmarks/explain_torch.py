"""Attributions of a vision transformer in plain PyTorch with hooks, to compare speeds with.

Written for the benchmark, on `vit_torch.TorchViT`. The parameters have no gradient, and the graph
begins where a method needs it, as one would write it for speed. Images are (B, 3, H, W), maps on
patches (B, h·w).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.vit_torch import Block, TorchViT, from_jax, scores
from vit_jax_xfer.models.vit import VisionTransformer


class WatchedBlock(Block):
    """A block with modules where hooks are needed: its map, activation and attention's factors."""

    def __init__(self, like: VisionTransformer, fused: bool = False) -> None:
        super().__init__(like, fused)
        self.map, self.activation, self.factor = nn.Identity(), nn.GELU(), nn.Identity()

    def forward(self, tokens: Tensor, given: Any = None) -> tuple[Tensor, Tensor]:
        """Tokens after the block, twice, as TorchViT expects a pair."""
        batch, length, width = tokens.shape
        qkv = self.attn["qkv"](self.norm1(tokens))
        q, k, v = qkv.reshape(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        weights = self.map(scores(self.factor(q), self.factor(k)).softmax(dim=-1))
        out = self.factor(weights) @ self.factor(v)
        tokens = tokens + self.attn["proj"](out.transpose(1, 2).reshape(batch, length, width))
        tokens = tokens + self.mlp["fc2"](self.activation(self.mlp["fc1"](self.norm2(tokens))))
        return tokens, tokens


def watched(model: VisionTransformer, variables: Any) -> TorchViT:
    """The network with our weights, its blocks those with places for hooks."""
    plain = from_jax(model, variables, fused=False)
    blocks = [WatchedBlock(model) for _ in plain.blocks]
    for block, one in zip(blocks, plain.blocks, strict=True):
        block.load_state_dict(one.state_dict())
    plain.blocks = nn.ModuleList(blocks)
    return plain.eval().requires_grad_(False)


def generic_attention(network: TorchViT, images: Tensor, target: Tensor) -> Tensor:
    """R ← R + mean over heads of relu(A · g) R."""
    maps: list[Tensor] = []
    hooks = [one.map.register_forward_hook(_notes(maps)) for one in network.blocks]
    logits, _ = network(images.requires_grad_())
    gradients = torch.autograd.grad(_score(logits, target), maps)
    _remove(hooks)
    joint = torch.eye(maps[0].shape[-1]).expand(len(images), -1, -1)
    for weights, slope in zip(maps, gradients, strict=True):
        joint = joint + (weights.detach() * slope).clamp(min=0).mean(dim=1) @ joint
    return joint[:, 0, 1:]


def gradcam(network: TorchViT, images: Tensor, target: Tensor) -> Tensor:
    """Grad-CAM of the last block's first norm."""
    kept: list[Tensor] = []
    hooks = [network.blocks[-1].norm1.register_forward_hook(_begins(kept))]
    logits, _ = network(images)
    (gradient,) = torch.autograd.grad(_score(logits, target), kept)
    _remove(hooks)
    weights = gradient[:, 1:].mean(dim=1, keepdim=True)
    return (weights * kept[0].detach()[:, 1:]).sum(dim=-1)


def legrad(network: TorchViT, images: Tensor, target: Tensor, start: int = 0) -> Tensor:
    """relu of each block's slope of its own score, mean over heads, queries and blocks."""
    maps: list[Tensor] = []
    streams: list[Any] = []
    blocks = network.blocks[start:]
    hooks = [block.map.register_forward_hook(_begins(maps)) for block in blocks]
    hooks += [block.register_forward_hook(_notes(streams)) for block in blocks]
    hooks += [block.register_forward_pre_hook(lambda _, x: (x[0].detach(),)) for block in blocks]
    network(images)
    means = [network.head(network.norm(stream[0].mean(dim=1))) for stream in streams]
    gradients = torch.autograd.grad(sum(_score(one, target) for one in means), maps)
    _remove(hooks)
    return torch.stack([g.clamp(min=0).mean(dim=(1, 2)) for g in gradients]).mean(dim=0)[:, 1:]


def attn_lrp(network: TorchViT, images: Tensor, target: Tensor) -> Tensor:
    """AttnLRP: relevance of each patch's embedding."""
    kept: list[Tensor] = []
    blocks = network.blocks
    norms = [network.norm, *(x for block in blocks for x in (block.norm1, block.norm2))]
    hooks = [norm.register_forward_hook(_constant_width) for norm in norms]
    hooks += [block.factor.register_forward_hook(_halves) for block in blocks]
    hooks += [block.activation.register_forward_hook(_by_ratio) for block in blocks]
    begins = _begins(kept)
    hooks.append(blocks[0].register_forward_pre_hook(lambda _, x: (begins(None, None, x[0]),)))
    logits, _ = network(images)
    (gradient,) = torch.autograd.grad(_score(logits, target), kept)
    _remove(hooks)
    return (gradient * kept[0].detach()).sum(dim=-1)[:, 1:]


METHODS: dict[str, Callable[..., Tensor]] = {
    "generic_attention": generic_attention,
    "gradcam": gradcam,
    "legrad": legrad,
    "attn_lrp": attn_lrp,
}


def _score(logits: Tensor, target: Tensor) -> Tensor:
    return logits.gather(1, target[:, None]).sum()


def _remove(hooks: list[Any]) -> None:
    for hook in hooks:
        hook.remove()


def _notes(kept: list[Any]) -> Callable[..., None]:
    return lambda _, __, out: kept.append(out)


def _halves(_: nn.Module, __: Any, out: Tensor) -> Tensor:
    return out / 2 + out.detach() / 2


def _begins(kept: list[Tensor]) -> Callable[..., Tensor]:
    """A hook after which the graph begins, at what is kept."""

    def hook(_: Any, __: Any, out: Tensor) -> Tensor:
        kept.append(out.detach().requires_grad_())
        return kept[-1]

    return hook


def _constant_width(norm: nn.LayerNorm, inputs: tuple[Tensor], _: Tensor) -> Tensor:
    centred = inputs[0] - inputs[0].mean(dim=-1, keepdim=True)
    width = (centred.detach().square().mean(dim=-1, keepdim=True) + norm.eps).rsqrt()
    return centred * width * norm.weight + norm.bias


def _by_ratio(_: nn.Module, inputs: tuple[Tensor], out: Tensor) -> Tensor:
    x, value = inputs[0], out.detach()
    return x * (value / (x.detach() + 1e-10))

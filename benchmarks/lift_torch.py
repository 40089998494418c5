"""LiFT (2403.14625) in plain PyTorch, to compare speeds with: whole patches of 8 or 16 pixels.

Written from a description of the network, in modules that carry the names of ours, so that
`from_jax` can hand over the weights. Maps are (B, C, H, W).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vit_jax_xfer.models.lifting.lift import LiFT
from vit_jax_xfer.pretrained import to_publisher_names
from vit_jax_xfer.pretrained.families.lift_weights import RULES


def from_jax(model: LiFT, variables: Any) -> "TorchLiFT":
    """The network in PyTorch with our weights and statistics, in training mode."""
    state = to_publisher_names(variables, "lift")
    renamed = {
        _torch_name(rule.ours): torch.from_numpy(state[rule.theirs[0]].copy()) for rule in RULES
    }
    network = TorchLiFT(model.width, model.patch_size)
    network.load_state_dict(renamed, strict=False)
    lacking = set(network.state_dict()) - set(renamed)
    if any(not name.endswith("num_batches_tracked") for name in lacking):
        raise ValueError(f"variables: nothing for {', '.join(sorted(lacking))}")
    return network


class TorchLiFT(nn.Module):
    """Images (B, 3, H, W) and features (B, width, h, w) → (B, width, 2h, 2w)."""

    def __init__(self, width: int, patch_size: int) -> None:
        super().__init__()
        if patch_size not in (8, 16):
            raise ValueError(f"patch_size: got {patch_size}, and this one is for 8 and 16")
        self.halves = patch_size == 16
        self.image_1, self.image_2 = _convolved(3, 32, 2), _convolved(32, 32, 2)
        self.image_3 = _convolved(32, 32, 2)
        inner = (width + 32) // 2
        self.up = nn.ConvTranspose2d(width + 32, inner, 2, 2)
        self.merge_1 = _convolved(inner + 32, width // 2, 1, bias=False)
        self.merge_2 = _convolved(width // 2, width // 2, 1, bias=False)
        self.out = nn.Conv2d(width // 2, width, 1)

    def forward(self, images: Tensor, features: Tensor) -> Tensor:
        skip = self.image_2(self.image_1(images))
        if self.halves:
            skip = F.max_pool2d(skip, 2)
        up = self.up(torch.cat([features, self.image_3(skip)], 1))
        return self.out(self.merge_2(self.merge_1(torch.cat([up, skip], 1))))


def lift(network: TorchLiFT, images: Tensor, features: Tensor, steps: int) -> Tensor:
    """The features doubled `steps` times, each time seeing the images at twice the size."""
    for step in range(steps):
        if step:
            images = F.interpolate(images, scale_factor=2, mode="bilinear", align_corners=False)
        features = network(images, features)
    return features


def training_step(
    network: TorchLiFT, optimizer: torch.optim.Optimizer, images: Tensor, features: list[Tensor]
) -> Tensor:
    """One update on the cosine loss: features of the images, of their half, of their quarter."""
    optimizer.zero_grad(set_to_none=True)
    loss = torch.zeros((), device=images.device)
    for level, factor in enumerate((2, 4)):
        found = network(images[:, :, ::factor, ::factor], features[level + 1])
        loss = loss + (1 - F.cosine_similarity(found, features[level], dim=1)).mean()
    loss.backward()
    optimizer.step()
    return loss.detach()


def _convolved(inputs: int, width: int, stride: int, bias: bool = True) -> nn.Sequential:
    layers = {
        "conv": nn.Conv2d(inputs, width, 3, stride, 1, bias=bias),
        "norm": nn.BatchNorm2d(width),
        "relu": nn.ReLU(inplace=True),
    }
    block = nn.Sequential()
    for name, layer in layers.items():
        block.add_module(name, layer)
    return block


def _torch_name(ours: str) -> str:
    """The name here of one of our parameters or statistics: "image_1/conv/kernel" …"""
    name = ours.removeprefix("batch_stats/").replace("/", ".")
    for old, new in _NAMES:
        name = name.replace(old, new)
    return name


_NAMES = (
    (".kernel", ".weight"),
    (".scale", ".weight"),
    (".mean", ".running_mean"),
    (".var", ".running_var"),
)

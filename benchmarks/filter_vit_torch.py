"""FilterViT (2410.22709) in plain PyTorch, to compare speeds with: inference, one image size.

Written from a description of the network, in modules that carry the names of ours, so that
`from_jax` can hand over the weights. Maps are (B, C, H, W), tokens (B, T, C).
"""

from typing import Any

import jax
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vit_jax_xfer.models.filter import selection
from vit_jax_xfer.models.filter.encoder import position_table
from vit_jax_xfer.models.filter.filter_blocks import Stage
from vit_jax_xfer.models.filter.network import PUBLISHED, FilterViT
from vit_jax_xfer.pretrained import to_publisher_names
from vit_jax_xfer.pretrained.families.filter_vit_weights import rules


def from_jax(name: str, model: FilterViT, variables: Any) -> "TorchFilterViT":
    """The published network `name` in PyTorch with our weights, ready for inference."""
    state = to_publisher_names(variables, "filter_vit")
    renamed = {
        torch_name(rule.ours): torch.from_numpy(state[rule.theirs[0]].copy())
        for rule in rules(name)
        if rule.theirs[0] in state
    }
    network = TorchFilterViT(PUBLISHED[name], model.image_size, model.num_classes)
    network.load_state_dict(renamed)
    return network.eval()


class TorchFilterViT(nn.Module):
    """Images (B, 3, H, W) → logits (B, K)."""

    def __init__(self, fields: dict[str, Any], image_size: int, num_classes: int) -> None:
        super().__init__()
        width, side = fields["stem_width"], (image_size - 5) // 2 + 1
        self.stem = nn.ModuleDict({"conv": nn.Conv2d(3, width, 5, 2), "norm": _norm(width)})
        self.stem_residual = InvertedResidual(width, width, 1, fields["stem_expand"])
        blocks = []
        for i, stage in enumerate(fields["stages"]):
            if stage.kind == "filter" and fields.get("choose") == "random":
                blocks.append(Filter(stage, width, side, draw=i))
            else:
                blocks.append(_KINDS[stage.kind](stage, width, side))
            width, side = stage.width, -(-side // stage.stride)
        for i, block in enumerate(blocks):
            self.add_module(f"stage_{i}", block)
        self.depth, hidden = len(blocks), fields["head_width"]
        self.head_hidden = nn.Linear(width, hidden) if hidden else nn.Identity()
        self.after_hidden = nn.GELU() if hidden else nn.Identity()
        self.head = nn.Linear(hidden or width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = F.leaky_relu(self.stem["norm"](self.stem["conv"](images)), 0.1)
        x = self.stem_residual(x)
        for i in range(self.depth):
            x = self.get_submodule(f"stage_{i}")(x)
        return self.head(self.after_hidden(self.head_hidden(x.mean((2, 3)))))


class InvertedResidual(nn.Module):
    """Widen, convolve depthwise, project; adds its input where shapes allow."""

    def __init__(self, inputs: int, width: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inputs * expand
        self.adds, self.widens = stride == 1 and inputs == width, expand != 1
        if self.widens:
            self.widen = nn.Conv2d(inputs, hidden, 1, bias=False)
            self.widen_norm = _norm(hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False)
        self.depthwise_norm = _norm(hidden)
        self.project = nn.Conv2d(hidden, width, 1, bias=False)
        self.project_norm = _norm(width)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        if self.widens:
            y = F.silu(self.widen_norm(self.widen(y)), inplace=True)
        y = F.silu(self.depthwise_norm(self.depthwise(y)), inplace=True)
        y = self.project_norm(self.project(y))
        return x + y if self.adds else y


class Block(nn.Module):
    """What all three blocks have: an encoder of tokens, and an inverted residual after it."""

    def __init__(self, stage: Stage, width: int, tokens: int, mlp: int) -> None:
        super().__init__()
        self.stage = stage
        for i in range(stage.layers):
            layer = nn.TransformerEncoderLayer(tokens, stage.heads, mlp, batch_first=True)
            self.add_module(f"encoder_{i}", layer)
        self.residual = InvertedResidual(width, stage.width, stage.stride, stage.expand)

    def encode(self, tokens: Tensor) -> Tensor:
        for i in range(self.stage.layers):
            tokens = self.get_submodule(f"encoder_{i}")(tokens)
        return tokens


class Pooled(Block):
    """Attention among the cells of a pooled grid, added back to the map."""

    def __init__(self, stage: Stage, width: int, side: int) -> None:
        super().__init__(stage, width, width, 2 * width)
        table = position_table(stage.grid**2, width)
        self.register_buffer("positions", torch.from_numpy(table), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.adaptive_avg_pool2d(x, self.stage.grid)
        tokens = self.encode(pooled.flatten(2).mT + self.positions)
        pooled = tokens.mT.reshape(pooled.shape)
        return self.residual(x + F.adaptive_avg_pool2d(pooled, x.shape[2:]))


class Full(Block):
    """Attention among all pixels, around a residual."""

    def __init__(self, stage: Stage, width: int, side: int) -> None:
        narrow = width // stage.reduce
        super().__init__(stage, width, narrow, stage.expand * narrow)
        apart = stage.reduce != 1
        self.reduce = InvertedResidual(width, narrow, 1, 1) if apart else nn.Identity()
        self.widen = InvertedResidual(narrow, width, 1, 1) if apart else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.reduce(x)
        y = self.encode(y.flatten(2).mT).mT.reshape(y.shape)
        return self.residual(x + self.widen(y))


class Filter(Block):
    """Attention among the best pixels by score, or among the fixed random set number `draw`."""

    def __init__(self, stage: Stage, width: int, side: int, draw: int | None = None) -> None:
        super().__init__(stage, width, width, stage.expand * width)
        self.number = selection.number_kept(stage.keep, side * side)
        row_length = max(stage.position_width, side)
        place = torch.arange(side * side)
        table = torch.from_numpy(position_table(side * row_length, width))
        table = table[place // side * row_length + place % side]
        self.register_buffer("positions", table, persistent=False)
        self.score = None
        if draw is not None:
            key = jax.random.fold_in(jax.random.key(0), draw)
            drawn = selection.random(key, 1, side * side, self.number, shared=True)
            drawn = torch.tensor(drawn.tolist())
            self.register_buffer("drawn", drawn, persistent=False)
        else:
            # Padding 15 and dilation 5: a window of 31 × 31.
            conv = nn.Conv2d(width, 1, 7, padding=15, dilation=5)
            self.score = nn.ModuleDict({"conv": conv, "norm": _norm(1)})

    def forward(self, x: Tensor) -> Tensor:
        if self.score is None:
            kept = self.drawn.expand(len(x), -1)
        else:
            importance = torch.sigmoid(F.gelu(self.score["norm"](self.score["conv"](x))))
            kept = importance.flatten(1).topk(self.number, sorted=False).indices
            x = x * importance
        flat = x.flatten(2)
        index = kept[:, None].expand(-1, flat.shape[1], -1)
        tokens = self.encode(flat.gather(2, index).mT + self.positions[kept])
        return self.residual(flat.scatter(2, index, tokens.mT).reshape(x.shape))


_KINDS: dict[str, Any] = {"pooled": Pooled, "filter": Filter, "full": Full}


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width)


def torch_name(ours: str) -> str:
    """The name here of one of our parameters or statistics: "stage_0/encoder_0/fc1/kernel" …"""
    name = ours.removeprefix("batch_stats/").replace("/", ".")
    for old, new in _NAMES:
        name = name.replace(old, new)
    return name


_NAMES = (
    ("score.kernel", "score.conv.weight"),
    ("score.bias", "score.conv.bias"),
    (".qkv_kernel", ".self_attn.in_proj_weight"),
    (".qkv_bias", ".self_attn.in_proj_bias"),
    (".proj.", ".self_attn.out_proj."),
    (".fc1.", ".linear1."),
    (".fc2.", ".linear2."),
    (".kernel", ".weight"),
    (".scale", ".weight"),
    (".mean", ".running_mean"),
    (".var", ".running_var"),
)

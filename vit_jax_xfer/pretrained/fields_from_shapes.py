"""What a file's names and shapes tell of the network in it."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vit_jax_xfer.pretrained.lazy_arrays import LazyState
from vit_jax_xfer.pretrained.parameter_rules import Rule, candidates, shape_in
from vit_jax_xfer.pretrained.rotary_tables import stored_head_width
from vit_jax_xfer.pretrained.stored_grids import (
    Sizes,
    refuse_doubtful_registers,
    size_of_offsets,
    size_of_positions,
)

Fields = dict[str, Any]
_FIRST = "blocks_0/"


@dataclasses.dataclass(frozen=True)
class Reading:
    """A file, seen through the name map: which of our parameters are there, in which shapes.

    shown: a name as errors show it, where the file was renamed before.
    class_has_position: whether in this way of naming the class token always has a row in the table.
    """

    state: LazyState
    rules: Sequence[Rule]
    shown: Callable[[str], str] = str
    class_has_position: bool = False

    def has(self, path: str) -> bool:
        """Whether the file has all that our parameter is made of."""
        return self._names(path) is not None

    def shape(self, path: str) -> tuple[int, ...]:
        """Our shape of a parameter that is one array in the file. ValueError where there is none.

        Only for layouts that don't need our shape to tell it: kernels of attention do.
        """
        found = self._names(path)
        if found is None:
            wanted = next((names for names, _ in candidates(path, self.rules)), (path,))
            raise ValueError(
                f"{' + '.join(map(self.shown, wanted))}: not in the file, "
                "and the model's size is read from it"
            )
        names, layout = found
        shapes_only = [
            layout.take(np.broadcast_to(np.float32(0), shape_in(self.state, name)))
            for name in names
        ]
        try:
            return layout.load(shapes_only, ()).shape
        except ValueError:
            raise ValueError(
                f"{self.shown(names[0])}: found shape {shapes_only[0].shape}, "
                "wanted another number of axes"
            ) from None

    def array(self, path: str) -> np.ndarray:
        """A parameter that is stored as it is, up to leading axes of 1."""
        names, layout = self._names(path)
        return layout.load([self.state[names[0]]], ())

    @property
    def has_decoder(self) -> bool:
        """Whether MAE's decoder is there, whose the mask token then is."""
        return "decoder_embed.weight" in self.state

    def size(self, path: str) -> int:
        """How many numbers the file has for a parameter, 0 where it has none."""
        found = self._names(path)
        if found is None:
            return 0
        names, layout = found
        return sum(int(np.prod(shape_in(self.state, n))) for n in names) // layout.share[1]

    def count(self, template: str) -> int:
        """How many of "…_{i}/…" there are, from 0 on without a gap."""
        number = 0
        while self.has(template.replace("{i}", str(number))):
            number += 1
        return number

    def _names(self, path: str) -> tuple[tuple[str, ...], Any] | None:
        there = [
            (names, layout)
            for names, layout in candidates(path, self.rules)
            if all(name in self.state for name in names)
        ]
        for names, layout in there:
            same_names = sum(names == other for other, _ in there)
            if same_names == 1 or self._fits(names, layout):
                return names, layout
        if there:
            name = there[0][0][0]
            raise ValueError(
                f"{self.shown(name)}: found shape {shape_in(self.state, name)}, "
                "wanted that of a token or of a table of tokens"
            )
        return None

    def _fits(self, names: tuple[str, ...], layout: Any) -> bool:
        """Whether tokens and tables, which are stored with or without leading axes, have three."""
        shape_only = np.broadcast_to(np.float32(0), shape_in(self.state, names[0]))
        return layout.load([shape_only], ()).ndim == 3


def fields_from_shapes(
    reading: Reading, given: Any = None, stated: Any = None, file: str = "config.json"
) -> Fields:
    """A VisionTransformer's fields, as far as a file tells them.

    given, stated: the caller's image size and that of the folder's configuration (file), or None:
    they say which grid a number of positions stands for (stored_grids.py).
    """
    width = reading.shape(f"{_FIRST}norm1/scale")[0]
    patch_size = reading.shape("patch_embed/kernel")[0]
    bias = reading.size(f"{_FIRST}attention/qkv/bias") // width
    fields = {
        "width": width,
        "patch_size": patch_size,
        "in_channels": reading.shape("patch_embed/kernel")[2],
        "depth": reading.count("blocks_{i}/norm1/scale"),
        "mlp_dim": reading.shape(f"{_FIRST}mlp/fc2/kernel")[0],
        "class_token": reading.has("cls_token"),
        "distillation_token": reading.has("dist_token"),
        "registers": reading.shape("register_tokens")[1] if reading.has("register_tokens") else 0,
        "mask_token": reading.has("mask_token") and not reading.has_decoder,
        "patch_bias": reading.has("patch_embed/bias"),
        "pre_norm": reading.has("norm_pre/scale"),
        "pre_logits": reading.has("representation/kernel"),
        "mlp": _mlp(reading, width),
        "mlp_norm": reading.has(f"{_FIRST}mlp/norm/scale"),
        "qkv_bias": {0: "none", 2: "no_key"}.get(bias, "full"),
        "qk_norm": reading.has(f"{_FIRST}attention/q_norm/scale"),
        "attention_norm": reading.has(f"{_FIRST}attention/norm/scale"),
    }
    sizes = Sizes(given, stated, patch_size, file)
    return {
        **fields,
        **_relative(reading, sizes),
        **_positions(reading, fields, sizes),
        **_head(reading, fields),
    }


def stored_heads(reading: Reading) -> int | None:
    """The number of heads, where shapes tell it.

    Flax's do, tables of offsets, norms of heads, and tables of rotary positions.
    """
    for path in (f"{_FIRST}attention/relative_bias", "relative_bias"):
        if reading.has(path):
            return reading.shape(path)[1]
    width = reading.shape(f"{_FIRST}norm1/scale")[0]
    for path, axis in (("attention/q_norm/scale", 0), ("attention/relative_down", 1)):
        if reading.has(_FIRST + path):
            return width // reading.shape(_FIRST + path)[axis]
    if head := stored_head_width(reading.state):
        return width // head
    names, _ = next(candidates(f"{_FIRST}attention/proj/kernel", reading.rules))
    shape = shape_in(reading.state, names[0]) if names[0] in reading.state else ()
    return shape[0] if len(shape) == 3 else None


def _mlp(reading: Reading, width: int) -> str:
    """The kind of MLP. Published gated ones take the SiLU, and 8/3 of the width or more.

    A packed one of twice the width is timm's GluMlp at the usual ratio of 4, to which its
    VisionTransformer gives its own activation.
    """
    if not reading.has(f"{_FIRST}mlp/gate/kernel"):
        return "plain"
    packed_by_timm = "blocks.0.mlp.fc1.weight" in reading.state
    twice = reading.shape(f"{_FIRST}mlp/fc2/kernel")[0] == 2 * width
    return "geglu" if packed_by_timm and twice else "swiglu"


def _relative(reading: Reading, sizes: Sizes) -> Fields:
    """Where the table of relative positions is, and of which grid it is.

    Decomposed ones may be of windows: the family knows.
    """
    if reading.has(f"{_FIRST}attention/relative_down"):
        return {"relative_bias": "decomposed"}
    for kind, path in (("block", f"{_FIRST}attention/relative_bias"), ("shared", "relative_bias")):
        if reading.has(path):
            rows = reading.shape(path)[0]
            return {"relative_bias": kind, **size_of_offsets(rows, sizes, _index(reading))}
    return {"relative_bias": "none"}


def _index(reading: Reading) -> np.ndarray | None:
    """The rows of the table that the first patch reads, where the file has that buffer."""
    names = (name for name in reading.state if name.endswith("relative_position_index"))
    index = next((reading.state[name] for name in names), None)
    return None if index is None or index.ndim != 2 or len(index) < 2 else index[1, 1:]


def _positions(reading: Reading, fields: Fields, sizes: Sizes) -> Fields:
    """Whether there is a table, for which grid, and whether the first tokens have rows in it."""
    if not reading.has("pos_embed"):
        return {"position": "none"}
    tokens = reading.shape("pos_embed")[1]
    prefix = int(fields["class_token"]) + int(fields["distillation_token"])
    all_tokens = prefix + fields["registers"]
    counts = (prefix,) if reading.class_has_position else (prefix, 0, all_tokens)
    counts = tuple(dict.fromkeys(counts))
    name = reading.shown("pos_embed")
    if fields["registers"]:
        refuse_doubtful_registers(name, tokens, counts, fields["registers"], sizes)
    rows, size = size_of_positions(name, tokens, counts, sizes)
    placed = fields["registers"] > 0 and rows == all_tokens
    return {
        "position": "learned",
        "class_position": placed or rows == prefix,
        "register_position": placed,
        **size,
    }


def _head(reading: Reading, fields: Fields) -> Fields:
    """Pooling, and the head with its classes."""
    classes = reading.shape("head/kernel")[-1] if reading.has("head/kernel") else 0
    if reading.has("attention_pool/probe"):
        pool = "map_patches" if fields["registers"] else "map"  # timm's, of those with registers
    elif reading.has("head_norm/scale"):
        pool = "avg"
    elif classes and reading.shape("head/kernel")[0] == 2 * fields["width"]:
        pool = "cls_avg"
    else:
        pool = "cls" if fields["class_token"] else "avg"
    return {
        "pool": pool,
        "pool_norm": norm_place(reading, pool),
        "num_classes": classes,
        "head_bias": reading.has("head/bias") if classes else True,
        "distillation_head": reading.has("distillation_classifier/kernel"),
    }


def norm_place(reading: Reading, pool: str) -> bool | None:
    """The field `pool_norm`: whether the file's last norm is after the pooling, None = as usual."""
    after = reading.has("head_norm/scale")
    return None if after == (pool == "avg") else after

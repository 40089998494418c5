"""ViTDet (2203.16527): the backbone in detectron2's names, and in transformers'.

Both keep the class token's position, which nothing reads.
"""

import numpy as np

from vit_jax_xfer.models.transformer.patches import ImageSize
from vit_jax_xfer.pretrained.family_entry import (
    Evidence,
    Family,
    Naming,
    StoredNetwork,
    imagenet,
    vision_transformer,
)
from vit_jax_xfer.pretrained.fields_from_shapes import Fields
from vit_jax_xfer.pretrained.lazy_arrays import LazyState
from vit_jax_xfer.pretrained.parameter_rules import State
from vit_jax_xfer.pretrained.rename import Dialect, in_blocks


def _without_class_position(state: LazyState) -> LazyState:
    """The table of positions without its first row, where the rest is a square."""
    tables = {}
    for name in state:
        if name.endswith(("pos_embed", "position_embeddings")) and len(state.shape(name)) == 3:
            rows = state.shape(name)[1] - 1
            if rows > 0 and round(rows**0.5) ** 2 == rows:
                tables[name] = state[name][:, 1:]
    return state.replaced(tables)


def _with_class_position(params: State) -> State:
    """The same with a row of zeros for it, as both publishers' code wants one."""
    table = params.get("pos_embed")
    if table is None:
        return params
    row = np.zeros_like(table[:, :1])
    return {**params, "pos_embed": np.concatenate([row, table], axis=1)}


def _as_detectron2_keeps(params: State) -> State:
    """As above where the names show whose they are; the others' are timm's, without such a row."""
    shown = any("/attention/relative_" in path or "/propagation/" in path for path in params)
    return _with_class_position(params) if shown else params


_FIELDS = {"position_resize": "bicubic"}

DETECTRON2 = Dialect(
    name="detectron2",
    signature=("blocks.{i}.attn.rel_pos_h", "blocks.{i}.residual.conv1.weight"),
    prefixes=("backbone.net.",),
    fields=_FIELDS,
    prepare=_without_class_position,
)

HF_VITDET = Dialect(
    name="hf_vitdet",
    signature=("encoder.layer.{i}.attention.qkv.weight",),
    prefixes=("vitdet.",),
    pairs=(
        ("embeddings.position_embeddings", "pos_embed"),
        ("embeddings.projection.*", "patch_embed.proj.*"),
        *in_blocks(
            "encoder.layer.{i}",
            (
                ("norm1", "norm1"),
                ("attention.qkv", "attn.qkv"),
                ("attention.proj", "attn.proj"),
                ("norm2", "norm2"),
                ("mlp.fc1", "mlp.fc1"),
                ("mlp.fc2", "mlp.fc2"),
                ("residual", "residual"),
            ),
        ),
        ("encoder.layer.{i}.attention.rel_pos_h", "blocks.{i}.attn.rel_pos_h"),
        ("encoder.layer.{i}.attention.rel_pos_w", "blocks.{i}.attn.rel_pos_w"),
    ),
    fields=_FIELDS,
    prepare=_without_class_position,
)


def _fits(evidence: Evidence) -> bool:
    return evidence.dialect in (DETECTRON2.name, HF_VITDET.name)


def _choose(evidence: Evidence) -> Fields:
    """What blocks are followed by convolutions, and what tables of offsets of two sizes tell."""
    reading, depth = evidence.reading, evidence.fields["depth"]
    carries = (reading.has(f"blocks_{i}/propagation/conv_1/kernel") for i in range(depth))
    fields: Fields = {"conv_blocks": tuple(i for i, found in enumerate(carries) if found)}
    if "image_size" in evidence.fields:
        fields["position_size"] = evidence.fields["image_size"]
    grids = [_grid(evidence, i) for i in range(depth)]
    known = sorted({grid for grid in grids if grid is not None})
    if len(known) == 2 and known[0][0] == known[0][1]:
        window, whole = known
        fields["window_size"] = window[0]
        fields["window_blocks"] = tuple(i for i, grid in enumerate(grids) if grid == window)
        fields["image_size"] = _pixels(whole, evidence.fields["patch_size"])
    return fields


def _grid(evidence: Evidence, block: int) -> tuple[int, int] | None:
    """The grid that a block's tables of offsets are for."""
    names = [f"blocks_{block}/attention/relative_{way}" for way in ("down", "across")]
    if not all(evidence.reading.has(name) for name in names):
        return None
    return tuple((evidence.reading.shape(name)[0] + 1) // 2 for name in names)


def _pixels(grid: tuple[int, int], patch_size: int) -> ImageSize:
    height, width = (n * patch_size for n in grid)
    return height if height == width else (height, width)


def _network(evidence: Evidence, fields: Fields, decoder_fields: Fields) -> StoredNetwork:
    """The backbone. ValueError where nobody says which blocks attend within windows."""
    if fields.get("window_size") is None:
        raise ValueError(
            "window_size: the weights don't tell which blocks attend within windows; pass "
            "window_size= (in patches) and window_blocks=, or window_size=0 where none does"
        )
    if fields["window_size"] and fields.get("window_blocks") is None:
        raise ValueError("window_blocks: the weights don't tell which they are; pass them too")
    return vision_transformer(evidence, fields, decoder_fields)


VITDET = Family(
    name="vitdet",
    source="ViTDet (2203.16527)",
    names={
        "publisher": Naming(DETECTRON2, change=_as_detectron2_keeps),
        "huggingface": Naming(HF_VITDET, change=_with_class_position),
    },
    fits=_fits,
    needs={"class_token": False},
    defaults={"pool": "grid", "pool_norm": None, "final_norm": False, "norm_eps": 1e-6},
    choose=_choose,
    preprocessing=imagenet(crop=1.0, interpolation="bilinear"),
    network=_network,
)

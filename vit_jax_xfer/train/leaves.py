"""The one table of leaves: what each array of each network is, by its name.

What a leaf is says how the tensor axis splits it and whether weight decay takes it; its row also
says where layer decay counts it. `optimizer.py` and `sharding.py` read their rules off this table.
There is no row for the rest: a new parameter needs one, and until then its name is an error.

Decay spares vectors (biases, norms' scales, LayerScale), tokens and tables, as MAE, BEiT and timm
do. The tensor axis (Megatron, 1909.08053) splits heads and the MLP's hidden layer: a matrix into
them by its outputs, a matrix out of them by its inputs, and a vector over them with them, so that
its gradient needs no gathering.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeVar

T = TypeVar("T")
# Where layer decay counts a leaf: with what comes before the blocks, with its block, or after them.
Depth = Literal["embeddings", "block", "end"]


class Kind(NamedTuple):
    """What a leaf is.

    tensor: the dimension, counted from the end, that the tensor axis splits; None = none. Counting
    from the end serves stacked blocks too. decays: whether weight decay takes it.
    """

    what: str
    tensor: int | None
    decays: bool


QUERY_KEY_VALUE = Kind("matrix from channels to the heads' q, k, v (C, 3, H, d)", -2, True)
HEAD_BIAS = Kind("bias of q, k, v (3, H, d), or of q and v (2, H, d)", -2, False)
HEAD_VECTOR = Kind("norm over the channels of all heads (H × d,)", -1, False)
FROM_HEADS = Kind("matrix from heads to channels (H, d, C)", -3, True)
TO_HIDDEN = Kind("matrix into an MLP's hidden layer (C, hidden)", -1, True)
HIDDEN_VECTOR = Kind("bias or norm of an MLP's hidden layer (hidden,)", -1, False)
FROM_HIDDEN = Kind("matrix out of an MLP's hidden layer (hidden, C)", -2, True)
MATRIX = Kind("matrix that nothing splits", None, True)
CONVOLUTION = Kind("convolution's kernel", None, True)
VECTOR = Kind("bias, norm's scale or LayerScale", None, False)
TOKEN = Kind("learned token", None, False)
POSITIONS = Kind("table of positions", None, False)
OFFSETS = Kind("table of relative positions, added to logits", None, False)
STATISTICS = Kind("running mean or variance of a batch norm", None, False)


class Row(NamedTuple):
    """names: a pattern of names; "#" stands for the number of a block, nothing where stacked."""

    names: str
    kind: Kind
    depth: Depth


_NORM = "(scale|bias)"
_BATCH_NORM = ((rf"/{_NORM}", VECTOR), ("/(mean|var)", STATISTICS))

_MLP = (
    ("/fc1/kernel", TO_HIDDEN),
    ("/fc1/bias", HIDDEN_VECTOR),
    ("/fc2/kernel", FROM_HIDDEN),
    ("/fc2/bias", VECTOR),
)
_ATTENTION = (
    ("/qkv/kernel", QUERY_KEY_VALUE),
    ("/qkv/bias", HEAD_BIAS),
    ("/proj/kernel", FROM_HEADS),
    ("/proj/bias", VECTOR),
)
_INVERTED_RESIDUAL = (
    ("/(widen|project)/kernel", MATRIX),
    ("/depthwise/kernel", CONVOLUTION),
    *((f"/(widen|depthwise|project)_norm{name}", kind) for name, kind in _BATCH_NORM),
)


def _rows(depth: Depth, start: str, *leaves: tuple[str, Kind]) -> tuple[Row, ...]:
    return tuple(Row(f"{start}({name})", kind, depth) for name, kind in leaves)


LEAVES: tuple[Row, ...] = (
    # A vision transformer's blocks.
    *_rows("block", "blocks#/attention", *_ATTENTION),
    *_rows("block", "blocks#/mlp", *_MLP),
    *_rows(
        "block",
        "blocks#/",
        (f"norm[12]/{_NORM}", VECTOR),
        ("mlp/gate/kernel", TO_HIDDEN),
        ("mlp/gate/bias", HIDDEN_VECTOR),
        (f"mlp/norm/{_NORM}", HIDDEN_VECTOR),
        (f"attention/[qk]_norm/{_NORM}", VECTOR),
        (f"attention/norm/{_NORM}", HEAD_VECTOR),
        ("attention/relative_(bias|down|across)", OFFSETS),
        ("layer_scale[12]", VECTOR),
        ("propagation/conv_[123]/kernel", CONVOLUTION),
        (f"propagation/norm_[123]/{_NORM}", VECTOR),
    ),
    # What comes before them. A masked autoencoder's mask token bears the name of a ViT's own.
    *_rows(
        "embeddings",
        "",
        ("patch_embed/kernel", CONVOLUTION),
        ("patch_embed/bias", VECTOR),
        ("(cls|dist|mask)_token|register_tokens", TOKEN),
        ("pos_embed", POSITIONS),
        ("relative_bias", OFFSETS),
        (f"norm_pre/{_NORM}", VECTOR),
    ),
    # What comes after them.
    *_rows(
        "end",
        "",
        (f"(head_)?norm/{_NORM}", VECTOR),
        ("head_batch_norm/(mean|var)", STATISTICS),
        ("(representation|head_hidden|head|distillation_classifier)/kernel", MATRIX),
        ("(representation|head_hidden|head|distillation_classifier)/bias", VECTOR),
        ("attention_pool/probe", TOKEN),
        (f"attention_pool/norm/{_NORM}", VECTOR),
    ),
    *_rows("end", "attention_pool", *_ATTENTION),
    *_rows("end", "attention_pool/mlp", *_MLP),
    # A masked autoencoder's decoder.
    *_rows(
        "end",
        "decoder_",
        ("(embed|pred)/kernel", MATRIX),
        ("(embed|pred)/bias", VECTOR),
        ("pos_embed", POSITIONS),
        (f"norm/{_NORM}", VECTOR),
        (f"blocks#/norm[12]/{_NORM}", VECTOR),
    ),
    *_rows("end", "decoder_blocks#/attention", *_ATTENTION),
    *_rows("end", "decoder_blocks#/mlp", *_MLP),
    # FilterViT: a stem, and stages that score pixels and attend among the chosen ones. Whole on the
    # tensor axis: a stage has as few as two heads.
    *_rows("embeddings", "stem/conv", ("/kernel", CONVOLUTION), ("/bias", VECTOR)),
    *_rows("embeddings", "stem/norm", *_BATCH_NORM),
    *_rows("embeddings", "stem_residual", *_INVERTED_RESIDUAL),
    *_rows("block", "stage#/(residual|widen|reduce)", *_INVERTED_RESIDUAL),
    *_rows("block", "stage#", *_INVERTED_RESIDUAL),  # a stage without attention is nothing else
    *_rows("block", "stage#/score", ("/kernel", CONVOLUTION), ("/bias", VECTOR)),
    *_rows("block", "stage#/score/norm", *_BATCH_NORM),
    *_rows(
        "block",
        r"stage#/encoder_\d+",
        ("/(qkv_|(proj|fc1|fc2)/)kernel", MATRIX),
        ("/(qkv_|(proj|fc1|fc2)/)bias", VECTOR),
        (f"/norm[12]/{_NORM}", VECTOR),
    ),
    *_rows(
        "block",
        r"stage#/DeformableAttention_\d+/(values|offsets|weights|proj)/",
        ("kernel", MATRIX),
        ("bias", VECTOR),
    ),
    # LiFT and ConvexLiFT, which have no blocks.
    *_rows(
        "end",
        "",
        (r"((image|merge)_\d+|guide)/conv/kernel", CONVOLUTION),
        (r"image_\d+/conv/bias", VECTOR),
        *((rf"((image|merge)_\d+|guide)/norm{name}", kind) for name, kind in _BATCH_NORM),
        ("up/kernel", CONVOLUTION),
        ("(out|features|query|key|offset)/kernel", MATRIX),
        ("(up|out|features|query)/bias", VECTOR),
        (f"features_norm/{_NORM}", VECTOR),
        ("distance", OFFSETS),
    ),
    # Pyramids of feature maps, between an encoder and its head.
    *_rows(
        "end",
        r"pyramid/(p\d+/)?",
        (r"(up|depthwise)_\d+/kernel", CONVOLUTION),
        (r"up_\d+/bias", VECTOR),
        (r"(lateral|output)(_\d+)?/kernel", CONVOLUTION),
        (rf"((lateral|output)(_\d+)?_norm|up_norm_\d+)/{_NORM}", VECTOR),
    ),
    # Heads of detection: proposals, boxes, masks; cells around the middles of objects.
    *_rows(
        "end",
        "",
        (r"proposal_head/conv_\d+/kernel", CONVOLUTION),
        (r"proposal_head/conv_\d+/bias", VECTOR),
        (r"(box|mask)_head(_\d+)?/convolutions/conv_\d+/kernel", CONVOLUTION),
        (rf"(box|mask)_head(_\d+)?/convolutions/norm_\d+/{_NORM}", VECTOR),
        ("mask_head/up/kernel", CONVOLUTION),
        ("mask_head/up/bias", VECTOR),
        (r"(proposal_head|(box|mask|centre)_predictor(_\d+)?|box_head_\d+)/[a-z]+/kernel", MATRIX),
        (r"(proposal_head|(box|mask|centre)_predictor(_\d+)?|box_head_\d+)/[a-z]+/bias", VECTOR),
        (r"(class|box)_tower_\d+/depthwise/kernel", CONVOLUTION),
        (r"(class|box)_tower_\d+/project/kernel", MATRIX),
        (rf"(class|box)_tower_\d+/norm/{_NORM}", VECTOR),
    ),
    # Heads of segmentation.
    *_rows(
        "end",
        r"(pixel_head|auxiliary_heads_\d+|neck)/",
        (r"([^/]+/)?conv/kernel|scale_\d_up_\d/kernel", CONVOLUTION),
        (r"([^/]+/)?conv/bias|scale_\d_up_\d/bias", VECTOR),
        (rf"([^/]+/)?(mask_|scale_\d_)?norm(_\d)?/{_NORM}", VECTOR),
        (r"([^/]+/)?(scale_\d_)?norm(_\d)?/(mean|var)", STATISTICS),
        ("(pixels/classify|embed|project_(cells|classes))/kernel", MATRIX),
        ("(pixels/classify|embed)/bias", VECTOR),
        ("class_tokens", TOKEN),
        (f"decoder/blocks#/norm[12]/{_NORM}", VECTOR),
    ),
    *_rows("end", "pixel_head/decoder/blocks#/attention", *_ATTENTION),
    *_rows("end", "pixel_head/decoder/blocks#/mlp", *_MLP),
)

# Before a leaf's own name may stand whose variables they are, the collection, and which network
# inside has it.
_BEFORE = r"((.*/)?(params|batch_stats)/)?((encoder|lift)/)?"
_ANY_BLOCK = r"(_\d+)?"


def leaf_rules(value: Callable[[Row], T]) -> tuple[tuple[str, T], ...]:
    """Rules (see `rules.py`) that give each leaf of any network the value of its row."""
    return tuple((_pattern(row.names, _ANY_BLOCK), value(row)) for row in LEAVES)


def names_at(depth: Depth, block: int | None = None) -> str:
    """A pattern of the names at a depth; of blocks, those of one, or of stacked ones for None."""
    number = "" if block is None else f"_{block}"
    if depth != "block":
        number = _ANY_BLOCK
    return _pattern("|".join(row.names for row in LEAVES if row.depth == depth), number)


def stacked_names() -> str:
    """A pattern of the names of stacked blocks' leaves, whose first axis counts the blocks."""
    return _pattern("|".join(row.names for row in LEAVES if "#" in row.names), "")


def _pattern(names: str, number: str) -> str:
    return f"{_BEFORE}({names.replace('#', number)})"

"""Networks that a file's names and shapes show to be none of ours, though they look alike.

Each is a line of a refusal. What names can't show at all is in docs/teachers.md; where a folder's
configuration says what the network is, that is believed instead.
"""

from collections.abc import Callable
from typing import NamedTuple

from vit_jax_xfer.pretrained.family_entry import Evidence
from vit_jax_xfer.pretrained.fields_from_shapes import Fields
from vit_jax_xfer.pretrained.rotary_tables import unknown_table


class LookAlike(NamedTuple):
    """is_one: whether a file may be one. why: what it is, and what is to be done about it."""

    is_one: Callable[[Evidence, Fields], bool]
    why: str


def _named(*ends: str) -> Callable[[Evidence, Fields], bool]:
    """Whether some name of the file ends so; "rope.freqs_cos" is EVA-02's, and no "rope.freqs"."""
    return lambda evidence, given: any(name.endswith(ends) for name in evidence.reading.state)


def _has_perception_pooling(evidence: Evidence, given: Fields) -> bool:
    """Attention pooling behind a norm before the blocks, which SigLIP has not."""
    return evidence.fields["pool"].startswith("map") and evidence.fields["pre_norm"]


def _norms_after_branches(evidence: Evidence, given: Fields) -> bool:
    """Of timm's vit_base_patch16_rpn, the one published network of these parts."""
    fields = evidence.fields
    published = {"width": 768, "patch_size": 16, "qkv_bias": "none", "class_token": False}
    return (
        not evidence.config
        and all(fields[name] == value for name, value in published.items())
        and evidence.reading.has("head_norm/scale")
        and not fields["registers"]
        and not evidence.reading.has("blocks_0/layer_scale1")
    )


def _means_patches(width: int, with_head: bool) -> Callable[[Evidence, Fields], bool]:
    """A mean of normed patches of this width in timm's names, with a head or without one.

    Such networks differ in their number of heads, unless somebody says it.
    """

    def is_one(evidence: Evidence, given: Fields) -> bool:
        fields = evidence.fields
        return (
            evidence.dialect == "timm"
            and "num_heads" not in {*given, *evidence.config}
            and (fields["width"], fields["pool"], fields["pool_norm"]) == (width, "avg", False)
            and bool(fields["num_classes"]) == with_head
            and fields["position"] == "learned"
            and not (fields["class_token"] or fields["registers"])
        )

    return is_one


def _is_clipa(evidence: Evidence, given: Fields) -> bool:
    """In OpenAI's names without the norm before the blocks, and as there without a patch bias."""
    fields = evidence.fields
    plain = not (fields["pre_norm"] or fields["patch_bias"])
    return evidence.dialect == "openai" and plain and not evidence.config


def _is_phi4s(evidence: Evidence, given: Fields) -> bool:
    """SigLIP's so400m/14 at 448 pixels with its pooling, in transformers' names."""
    fields = evidence.fields
    size = tuple(fields.get(name) for name in ("width", "patch_size", "image_size"))
    pooled = fields["pool"] == "map" and evidence.dialect == "hf_clip"
    return pooled and size == (1152, 14, 448) and not evidence.config


def _norms_all_heads_at_once(evidence: Evidence, given: Fields) -> bool:
    """Norms of queries as wide as the network, which here have the width of a head."""
    path = "blocks_0/attention/q_norm/scale"
    one = 1 in (given.get("num_heads"), evidence.config.get("num_heads"))
    reading = evidence.reading
    return not one and reading.has(path) and reading.shape(path) == (evidence.fields["width"],)


def _turns_by_other_angles(evidence: Evidence, given: Fields) -> bool:
    """A table of rotary positions as no network here has them; the caller may know better."""
    settled = {"rotary", "rotary_base", "rotary_grid"} & {*given, *evidence.config}
    return not settled and unknown_table(evidence.reading.state) is not None


_LOOK_ALIKES = (
    LookAlike(
        _norms_all_heads_at_once,
        "q_norm: is as wide as the network, so that it norms the queries of all heads at once, "
        "which no network here does; of one head, pass num_heads=1",
    ),
    LookAlike(
        _turns_by_other_angles,
        "rope: the file's table of rotary positions has other angles than any network here turns "
        "by; where you know that these are the usual ones, pass rotary_base= or rotary_grid=",
    ),
    LookAlike(
        _named("rope.freqs"),
        "rope.freqs: learned rotary frequencies (RoPE-ViT's mixed ones), which no network here has",
    ),
    LookAlike(
        _named(".lambda_q1", ".lambda_k1"),
        "lambda_q1: differential attention, which no network here has",
    ),
    LookAlike(
        _has_perception_pooling,
        "attn_pool and norm_pre: a Perception Encoder, whose rotary positions no network here has",
    ),
    LookAlike(
        _norms_after_branches,
        "names and shapes are those of timm's vit_base_patch16_rpn_224, whose blocks norm after "
        "their branches, which no network here does; if yours norm before them, load the folder "
        "that timm's save_for_hf writes, whose config.json says so",
    ),
    LookAlike(
        _means_patches(768, with_head=True),
        "num_heads: timm's vit_base_patch16_gap_224 has 16, other networks of this width have 12, "
        "and shapes don't tell; pass num_heads=",
    ),
    LookAlike(
        _means_patches(1536, with_head=False),
        "num_heads: SigLIP's giant-opt has 16, other networks of this width have 24, and without "
        "its pooling shapes don't tell; pass num_heads=",
    ),
    LookAlike(
        _is_clipa,
        "no ln_pre: not OpenAI's CLIP but one as CLIPA, whose pooling no name tells; load the "
        "folder with its open_clip_config.json",
    ),
    LookAlike(
        _is_phi4s,
        "names and shapes are those of Phi-4's image tower, which rounds places to other rows of "
        "its positions, as no network here does; if this is a SigLIP, load the folder with its "
        "config.json",
    ),
)


def refuse_look_alikes(evidence: Evidence, given: Fields) -> None:
    """ValueError where the file is, or may be, a network that computes something else.

    given: the caller's fields, which may settle it.
    """
    for known in _LOOK_ALIKES:
        if known.is_one(evidence, given):
            raise ValueError(known.why)


def refuse_without_positions(fields: Fields) -> None:
    """ValueError for a network without positions of any kind; fields: all of its fields."""
    kinds = ("position", "relative_bias", "rotary")
    if all(fields.get(kind, "none") == "none" for kind in kinds):
        raise ValueError(
            "position: the file has none, so its network computes them in a way that no name "
            "tells (rotary ones of some kind); where it has none at all, pass position='none'"
        )


def perhaps_rotary(evidence: Evidence, fields: Fields) -> dict[str, str]:
    """What is said of a network that may be one of timm's Eva; fields: all of the network's.

    EVA-02 is told by its bias of queries and values; without one, the names are those of others.
    """
    gated = "blocks.0.mlp.fc1_g.weight" in evidence.reading.state
    if not gated or evidence.dialect != "timm" or fields.get("rotary", "none") != "none":
        return {}
    return {
        "rotary": "rotary: taken for none; timm's Eva has the same names and mostly turns queries "
        "and keys: rotary='eva02', rotary_base=10000.0, rotary_grid=16"
    }

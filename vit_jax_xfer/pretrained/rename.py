"""A file's names → canonical names → our parameters.

A publisher's way of naming is a `Dialect`: a table of pairs, theirs and the canonical one, that
reads both ways. Canonical names are timm's, which most publishers use, or names close to them:
where two differ, both are in the table of rules below, timm's first. A rule says which of our
parameters a canonical name is, and how it is laid out (parameter_rules.py).
"""

import dataclasses
import functools
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from vit_jax_xfer.pretrained.lazy_arrays import LazyState
from vit_jax_xfer.pretrained.parameter_rules import (
    CONV,
    LINEAR,
    PROJ_KERNEL,
    Q_KV_BIAS,
    Q_KV_KERNEL,
    QKV_BIAS,
    QKV_KERNEL,
    QV_BIAS,
    SAME,
    SPLIT_QKV_BIAS,
    SPLIT_QKV_KERNEL,
    TABLE,
    TOKEN,
    Rule,
    State,
    affine,
    inside,
    norm,
    part,
    rule,
)

Pairs = tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Dialect:
    """One way of naming.

    In a pair, `{i}` stands for a block's number and `*` for the rest of the name; where several of
    theirs mean one canonical name, the first is what publishers' files carry and what is written.

    name: what `convert` says of a file.
    signature: names (templates) of which a file in this dialect has at least one.
    pairs: (theirs, canonical). prefixes: what a whole model puts before its names, none included.
    prefer: marks of the canonical names that this dialect translates, for writing.
    first: rules before the canonical ones, for writing: tokens without the leading axes of ours.
    ignored: regular expressions of names that files carry to no use: buffers, nothing learned.
    left_out: the same of learned parts of a training that no network here has, which are said.
    fields: a model's fields that hang on whose code reads these names: how positions are resized.
    prepare: takes apart or leaves out arrays before their names change.
    rules: the parameters, for names that are not brought to canonical ones.
    by_company: {canonical: theirs} of names that hang on which others are there, for writing.
    class_has_position: whether the class token always has a row in the table of positions.
    """

    name: str
    signature: tuple[str, ...]
    pairs: Pairs = ()
    prefixes: tuple[str, ...] = ("",)
    prefer: tuple[str, ...] = ()
    first: tuple[Rule, ...] = ()
    ignored: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    prepare: Callable[[LazyState], LazyState] = lambda state: state
    rules: tuple[Rule, ...] | None = None
    by_company: Callable[[Collection[str]], Mapping[str, str]] = lambda names: {}
    class_has_position: bool = False

    def speaks(self, names: Iterable[str]) -> bool:
        """Whether a file with these names is written in this dialect."""
        patterns = [_pattern(template) for template in self.signature]
        return any(p.fullmatch(self._bare(name)) for name in names for p in patterns)

    def before_signature(self, name: str) -> list[str]:
        """What stands before the signature that a name ends in, "model."; [] where it has none."""
        found = (_ending(template).fullmatch(name) for template in self.signature)
        begins = sorted((match["before"] for match in found if match), key=len)
        own = next((p for p in self.prefixes if p and begins and begins[0].endswith(p)), "")
        return [begins[0].removesuffix(own)] if begins else []

    def to_canonical(self, name: str) -> str:
        """The canonical name of one of theirs; a name that no pair covers stays as it is."""
        return _translate(self._bare(name), self.pairs, 0, 1) or name

    def from_canonical(self, name: str) -> str:
        """Their name of a canonical one, the first of several; without a pair, as it is."""
        return _translate(name, self.pairs, 1, 0) or name

    def knows(self, name: str) -> bool:
        """Whether there is a name for a canonical one."""
        return _translate(name, self.pairs, 1, 0) is not None

    def _bare(self, name: str) -> str:
        for prefix in self.prefixes:
            if prefix and name.startswith(prefix):
                return name[len(prefix) :]
        return name


def _translate(name: str, pairs: Pairs, source: int, target: int) -> str | None:
    for pair in pairs:
        match = _pattern(pair[source]).fullmatch(name)
        if match is not None:
            found = match.groupdict()
            result = pair[target].replace("{i}", found.get("i") or "")
            return result.replace("*", found.get("rest") or "")
    return None


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    text = re.escape(template).replace(r"\{i\}", r"(?P<i>\d+)").replace(r"\*", "(?P<rest>.+)")
    return re.compile(text)


@functools.cache
def _ending(template: str) -> re.Pattern[str]:
    return re.compile(rf"(?P<before>(?:.+[./])?){_pattern(template).pattern}")


def in_blocks(block: str, pairs: Iterable[tuple[str, str]]) -> Pairs:
    """The pairs of what is in a block, of which only the module's name is given."""
    return tuple((f"{block}.{theirs}.*", f"blocks.{{i}}.{name}.*") for theirs, name in pairs)


@dataclasses.dataclass(frozen=True)
class Renamed:
    """A file whose names are understood.

    state: in canonical names (or in the dialect's, where it has its own rules), lazy.
    rules: our parameters from those names. originals: {name: the file's own}.
    """

    dialect: Dialect
    state: LazyState
    rules: tuple[Rule, ...]
    originals: Mapping[str, str]

    @property
    def left_out(self) -> tuple[str, ...]:
        """What of the file the dialect leaves out: "lm_head.* (2 names)"."""
        found = Counter(
            re.sub(r"\..*", ".*", self.shown(name))
            for name in self.state
            if any(re.fullmatch(pattern, name) for pattern in self.dialect.left_out)
        )
        return tuple(
            f"{name} ({number} {'name' if number == 1 else 'names'})"
            for name, number in found.items()
        )

    def with_beginnings(self, changes: Mapping[str, str]) -> "Renamed":
        """The same with canonical names that begin so beginning otherwise, {old: new}."""

        def changed(name: str) -> str:
            old = next((one for one in changes if name.startswith(one)), "")
            return changes.get(old, "") + name[len(old) :]

        originals = {changed(name): theirs for name, theirs in self.originals.items()}
        return dataclasses.replace(self, state=self.state.mapped(changed), originals=originals)

    def shown(self, name: str) -> str:
        """A name as errors show it: as it stands in the file, or would stand there."""
        return self.originals.get(name) or self.dialect.from_canonical(name)


def rename(state: LazyState, dialects: Iterable[Dialect]) -> Renamed | None:
    """A file in the names of the first dialect that it speaks; None where it speaks none."""
    dialect = next((known for known in dialects if known.speaks(state)), None)
    if dialect is None:
        return None
    originals: dict[str, str] = {}

    def new(name: str) -> str:
        # DINOv2's and DINOv3's training checkpoints number blocks as chunk.block.
        renamed = re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", dialect.to_canonical(name))
        originals[renamed] = name
        return renamed

    state = dialect.prepare(state).mapped(new)
    return Renamed(dialect, state, dialect.rules or canonical_rules(_mlp_kind(state)), originals)


def _mlp_kind(state: LazyState) -> str:
    """How the blocks keep their MLP: "plain", "gated", or "packed" (gate and value as one)."""
    inner = "blocks.0.mlp"
    if f"{inner}.w12.weight" in state:
        return "packed"
    if any(f"{inner}.{gate}.weight" in state for gate in ("w1", "fc1_g", "gate")):
        return "gated"
    both = [f"{inner}.fc1.weight", f"{inner}.fc2.weight"]
    if all(name in state for name in both):
        (rows, *_), (*_, columns) = (state.shape(name) for name in both)
        return "packed" if rows == 2 * columns else "plain"
    return "plain"


TOKENS = (
    rule("cls_token", "cls_token"),
    rule("cls_token", "cls_token", TOKEN),
    rule("dist_token", "dist_token"),
    rule("register_tokens", "reg_token"),
    rule("register_tokens", "register_tokens"),
    rule("register_tokens", "storage_tokens"),
    rule("mask_token", "mask_token"),
    rule("mask_token", "mask_token", TABLE),  # DINOv2 and DINOv3: (1, C)
    rule("mask_token", "masked_embed", TABLE),  # iBOT
    rule("pos_embed", "pos_embed"),
    rule("pos_embed", "pos_embed", TABLE),  # CLIP: (N, C)
)

ENDS = (
    *affine("patch_embed", "patch_embed.proj", CONV),
    *norm("norm_pre", "norm_pre"),
    *norm("norm", "norm"),
    *norm("head_norm", "fc_norm"),
    *affine("representation", "pre_logits.fc", LINEAR),
    *affine("head", "head", LINEAR),
    rule("head/kernel", "head.proj"),  # CLIP keeps its projection as (C, K)
    *affine("distillation_classifier", "head_dist", LINEAR),
    rule("relative_bias", "rel_pos_bias.relative_position_bias_table"),
)

POOLING = (
    rule("attention_pool/probe", "attn_pool.latent"),
    rule(
        "attention_pool/qkv/kernel",
        ("attn_pool.q.weight", "attn_pool.kv.weight"),
        Q_KV_KERNEL,
    ),
    rule("attention_pool/qkv/bias", ("attn_pool.q.bias", "attn_pool.kv.bias"), Q_KV_BIAS),
    *affine("attention_pool/qkv", "attn_pool.qkv", QKV_KERNEL, QKV_BIAS),
    *affine("attention_pool/proj", "attn_pool.proj", PROJ_KERNEL),
    *norm("attention_pool/norm", "attn_pool.norm"),
    *affine("attention_pool/mlp/fc1", "attn_pool.mlp.fc1", LINEAR),
    *affine("attention_pool/mlp/fc2", "attn_pool.mlp.fc2", LINEAR),
)


def block_rules(ours: str, theirs: str, mlp: str = "plain") -> tuple[Rule, ...]:
    """The rules of a pre-norm block. mlp: "plain", "gated", or "packed" (gate and value as one)."""
    attention = f"{theirs}.attn"
    return (
        *norm(f"{ours}/norm1", f"{theirs}.norm1"),
        *affine(f"{ours}/attention/qkv", f"{attention}.qkv", QKV_KERNEL, QKV_BIAS),
        rule(
            f"{ours}/attention/qkv/kernel",
            tuple(f"{attention}.{x}_proj.weight" for x in "qkv"),
            SPLIT_QKV_KERNEL,
        ),
        rule(
            f"{ours}/attention/qkv/bias",
            tuple(f"{attention}.{x}_proj.bias" for x in "qkv"),
            SPLIT_QKV_BIAS,
        ),
        rule(f"{ours}/attention/qkv/bias", (f"{attention}.q_bias", f"{attention}.v_bias"), QV_BIAS),
        rule(
            f"{ours}/attention/qkv/bias",
            tuple(f"{attention}.{x}_proj.bias" for x in "qv"),
            QV_BIAS,
        ),
        *norm(f"{ours}/attention/q_norm", f"{attention}.q_norm"),
        *norm(f"{ours}/attention/k_norm", f"{attention}.k_norm"),
        *norm(f"{ours}/attention/norm", f"{attention}.norm"),
        *norm(f"{ours}/attention/norm", f"{attention}.inner_attn_ln"),
        rule(f"{ours}/attention/relative_bias", f"{attention}.relative_position_bias_table"),
        rule(f"{ours}/attention/relative_down", f"{attention}.rel_pos_h"),
        rule(f"{ours}/attention/relative_across", f"{attention}.rel_pos_w"),
        *affine(f"{ours}/attention/proj", f"{attention}.proj", PROJ_KERNEL),
        *(
            rule(f"{ours}/layer_scale{n}", f"{theirs}.{name}")
            for n in (1, 2)
            for name in (f"ls{n}.gamma", f"gamma_{n}")
        ),
        *(
            rule(f"{ours}/propagation/conv_{n}/kernel", f"{theirs}.residual.conv{n}.weight", CONV)
            for n in (1, 2, 3)
        ),
        *(
            one
            for n in (1, 2, 3)
            for one in norm(f"{ours}/propagation/norm_{n}", f"{theirs}.residual.norm{n}")
        ),
        *norm(f"{ours}/norm2", f"{theirs}.norm2"),
        *_mlp_rules(f"{ours}/mlp", f"{theirs}.mlp", mlp),
    )


def canonical_rules(mlp: str = "plain") -> tuple[Rule, ...]:
    """The whole map of a vision transformer; mlp as in `block_rules`."""
    return (*TOKENS, *ENDS, *POOLING, *block_rules("blocks_{i}", "blocks.{i}", mlp))


def autoencoder_rules() -> tuple[Rule, ...]:
    """The map of a masked autoencoder with its decoder (MAE's names)."""
    encoder = [r for r in canonical_rules() if r.ours != "mask_token"]
    return (
        rule("mask_token", "mask_token"),
        *inside("encoder/", encoder),
        rule("decoder_pos_embed", "decoder_pos_embed"),
        *affine("decoder_embed", "decoder_embed", LINEAR),
        *block_rules("decoder_blocks_{i}", "decoder_blocks.{i}"),
        *norm("decoder_norm", "decoder_norm"),
        *affine("decoder_pred", "decoder_pred", LINEAR),
    )


def _mlp_rules(ours: str, theirs: str, mlp: str) -> tuple[Rule, ...]:
    """In gated MLPs, the gate is the first of a packed pair, and w1 or fc1_g of a split one."""
    packed, split = mlp == "packed", mlp == "gated"
    found: tuple[Rule, ...] = ()
    if packed:
        for which, name in ((0, "gate"), (1, "fc1")):
            for array in ("fc1", "w12"):
                found += affine(
                    f"{ours}/{name}",
                    f"{theirs}.{array}",
                    part(LINEAR, which, 2),
                    part(SAME, which, 2),
                )
    elif split:
        for name, arrays in (("gate", ("fc1_g", "w1", "gate")), ("fc1", ("fc1_x", "w2", "up"))):
            for array in arrays:
                found += affine(f"{ours}/{name}", f"{theirs}.{array}", LINEAR)
    else:
        for array in ("fc1", "up"):
            found += affine(f"{ours}/fc1", f"{theirs}.{array}", LINEAR)
    return (
        *found,
        *norm(f"{ours}/norm", f"{theirs}.norm"),
        *norm(f"{ours}/norm", f"{theirs}.ffn_ln"),
        *(
            one
            for array in ("fc2", "w3", "down")
            for one in affine(f"{ours}/fc2", f"{theirs}.{array}", LINEAR)
        ),
    )


def as_timm_keeps(params: State) -> State:
    """The parameters as timm keeps them: no mask token, no position of a class token by registers.

    An autoencoder stays as it is, since its names are its publisher's.
    """
    params = dict(params)
    if "decoder_embed/kernel" in params:
        return params
    params.pop("mask_token", None)
    table = params.get("pos_embed")
    if "register_tokens" not in params or table is None:
        return params
    rows, own = table.shape[1], int("cls_token" in params)
    placed = own + params["register_tokens"].shape[1]
    if own and _is_square(rows - 1):
        params["cls_token"] = params["cls_token"] + table[:, :1]
        params["pos_embed"] = table[:, 1:]
    elif not (_is_square(rows) or _is_square(rows - placed)):
        raise ValueError(
            "pos_embed: timm's names hold positions of networks with registers on a square grid "
            f"alone, and {rows} are none"
        )
    return params


def _is_square(number: int) -> bool:
    return number > 0 and round(number**0.5) ** 2 == number


# timm, and publishers whose names are near enough for the rules above to list them
TIMM = Dialect(
    name="timm",
    # The second is how DINOv2 numbers blocks while it trains: chunk.block.
    signature=("blocks.{i}.norm1.weight", "blocks.0.{i}.norm1.weight"),
    fields={"position_resize": "bicubic_antialias"},
    ignored=(
        r"(blocks\.\d+\.attn|rel_pos_bias)\.relative_position_index",
        r"(blocks\.\d+\.attn\.)?rope\.freqs_(cos|sin)",  # EVA-02's tables of angles
        r"rope_embed\.periods",  # DINOv3
        r"blocks\.\d+\.attn\.qkv\.bias_mask",  # DINOv3
        r"blocks\.\d+\.attn\.k_bias",  # timm's zeros for BEiT's and EVA-02's missing key bias
    ),
    left_out=(
        r"lm_head\.(weight|bias)",  # BEiT's and EVA-02's head of visual words
        r"cls_pt_(layers|norm|lm_head)\..*",  # BEiTv2's class token in pre-training
        r"(local_cls_norm|cls_norm)\..*",  # DINOv3: of crops in training
    ),
)

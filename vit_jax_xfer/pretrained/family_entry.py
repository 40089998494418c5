"""What a family of published checkpoints is: what one file of `families/` declares.

A `Family` adds to a file's names and shapes what they can't tell: whose it is, the fields that no
shape tells, how images are prepared, and in whose names its weights are written.
"""

import dataclasses
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np

from vit_jax_xfer.models.preprocessing import IMAGENET, Channels, Preprocessing
from vit_jax_xfer.models.transformer.positions import sincos_2d
from vit_jax_xfer.pretrained.fields_from_shapes import Fields, Reading
from vit_jax_xfer.pretrained.fresh_head import parts_afresh
from vit_jax_xfer.pretrained.lazy_arrays import LazyState
from vit_jax_xfer.pretrained.parameter_rules import Rule, State
from vit_jax_xfer.pretrained.read_files import Checkpoint
from vit_jax_xfer.pretrained.rename import Dialect

# Published widths whose heads are not 64 wide: SO400M, huge, giant, gigantic.
_WIDE_HEADS = {1152: 16, 1280: 16, 1408: 16, 1664: 16}


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What speaks for a family: the file's dialect, what its shapes tell, what stood beside.

    config: the fields that a Hugging Face directory's config.json has.
    """

    dialect: str
    fields: Fields
    reading: Reading
    beside: tuple[str, ...] = ()
    config: Fields = dataclasses.field(default_factory=dict)

    @property
    def headless(self) -> bool:
        """Whether there is neither a head nor a norm before one."""
        return not self.fields["num_classes"] and not self.reading.has("head_norm/scale")

    @property
    def reads_mean(self) -> bool:
        """Whether it is a classifier of transformers' CLIP or SigLIP: their pooling is left out."""
        return self.dialect == "hf_clip" and self.reading.has("head/bias")


class StoredNetwork(NamedTuple):
    """The network in a file: the model, its parameters' rules, and the arrays that it takes.

    fresh: the parts of its parameters that the file is not asked for.
    """

    model: nn.Module
    rules: tuple[Rule, ...]
    state: LazyState
    fresh: tuple[str, ...] = ()


def vision_transformer(evidence: Evidence, fields: Fields, decoder_fields: Fields) -> StoredNetwork:
    """A VisionTransformer of these fields. ValueError for a field that it does not have.

    What the caller's fields turn off is left out of the file: head, mask token, MAE's decoder.
    decoder_fields: `decoder` and `decoder_*`, of which it has none.
    """
    from vit_jax_xfer.models.registry import build
    from vit_jax_xfer.models.vit import VisionTransformer

    unknown = dict(decoder_fields)
    decoder = unknown.pop("decoder", None)
    if decoder:
        raise ValueError(
            "decoder: got True, but the file has none (decoder_embed.weight), or is not loaded as "
            "family 'mae'"
        )
    model = build(VisionTransformer, {**fields, **unknown})
    off: tuple[str, ...] = () if decoder is None else ("decoder_",)
    if not model.mask_token:
        off += ("mask_token", "masked_embed")
    stored = evidence.fields["num_classes"]
    if model.num_classes != stored:
        off += ("head.", "head/", "head_dist.")
    elif evidence.reads_mean:
        off += ("attn_pool.",)
    state = evidence.reading.state.mapped(lambda name: None if name.startswith(off) else name)
    return StoredNetwork(model, tuple(evidence.reading.rules), state, parts_afresh(model, stored))


@dataclasses.dataclass(frozen=True)
class Naming:
    """How weights are written in one publisher's names.

    prefer: marks of names that are taken where several mean one parameter; gated: more of them for
        a gated MLP whose gate and value are two arrays.
    first: rules before the others. rules: those of these parameters; None = the canonical ones.
    change: what is done to the parameters before, finish: to the names after.
    inside: what stands before a network's names inside of a whole model.
    """

    dialect: Dialect
    prefer: tuple[str, ...] = ()
    gated: tuple[str, ...] = ()
    first: tuple[Rule, ...] = ()
    rules: Callable[[State], tuple[Rule, ...]] | None = None
    change: Callable[[State], State] = dict
    finish: Callable[[State], State] = dict
    inside: str = ""


class OtherNetwork(NamedTuple):
    """A family whose network is no vision transformer.

    is_in: whether a file's names are its own. network: from the file, and the caller's fields.
    """

    is_in: Callable[[LazyState], bool]
    network: Callable[[Checkpoint, Fields], StoredNetwork]


@dataclasses.dataclass(frozen=True)
class Family:
    """One publisher's pre-training.

    name: what `load_pretrained(family=…)` takes. source: the paper.
    names: {whose: how weights are written in theirs}; "publisher" is the family's own.
    fits: whether a file may be this family's; where several fit, the first in FAMILIES is taken.
    preprocessing: how the publisher prepares images; `size` is replaced by the file's.
    needs: fields that every file of the family has, {field: value}, for a clear error.
    defaults: fields that no shape tells. choose: those that the file's evidence decides.
    doubts: {field: what is said where neither the caller nor a configuration gives it}, by the
        file's evidence.
    heads: number of heads by width, where it is not one for 64 channels.
    packed: whether the publisher keeps gate and value of a gated MLP as one array.
    refuses: why a file that looks like the family's can't be loaded; "" = it can.
    network: the network in a file of the family. other: where it is no vision transformer.
    """

    name: str
    source: str
    names: Mapping[str, Naming]
    fits: Callable[[Evidence], bool]
    preprocessing: Preprocessing
    needs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    choose: Callable[[Evidence], Fields] = lambda evidence: {}
    doubts: Callable[[Evidence], Mapping[str, str]] = lambda evidence: {}
    heads: Mapping[int, int] = dataclasses.field(default_factory=dict)
    packed: bool = False
    refuses: Callable[[Evidence], str] = lambda evidence: ""
    network: Callable[[Evidence, Fields, Fields], StoredNetwork] = vision_transformer
    other: OtherNetwork | None = None

    @property
    def dialects(self) -> tuple[Dialect, ...]:
        """The ways of naming in which files of the family come."""
        return tuple(naming.dialect for naming in self.names.values())

    def fields_for(self, evidence: Evidence) -> Fields:
        """The family's fields for a file, whatever hangs on the way of naming aside."""
        return {**self.defaults, **self.choose(evidence)}

    def check(self, evidence: Evidence) -> None:
        """ValueError when a file asked for as this family's can't be one."""
        for field, value in self.needs.items():
            found = evidence.fields.get(field)
            wrong = not found if value is True else found != value
            if wrong:
                raise ValueError(
                    f"family: {self.name!r} has {field}={value!r}, but the file has {found!r}; "
                    "leave family out to have it told from the names"
                )


@dataclasses.dataclass(frozen=True)
class Recognised:
    """A file that is understood: what its network is, and how its names map to ours.

    state: in canonical names (or the dialect's own), lazy; rules, ignored: the name map.
    shown: the file's own name of each. stored_size: pixels that its positions were made for.
    stored_channels: of the images that its patch embedding takes; None = the model's.
    fresh: the parts of the model's parameters that start afresh.
    """

    model: nn.Module
    family: Family
    dialect: str
    state: LazyState
    rules: tuple[Rule, ...]
    ignored: tuple[str, ...]
    shown: Callable[[str], str]
    stored_size: Any
    left_out: tuple[str, ...]
    stored_channels: int | None = None
    fresh: tuple[str, ...] = ()


def has_fields(**wanted: Any) -> Callable[[Evidence], bool]:
    """Evidence: the file has these fields."""

    def fits(evidence: Evidence) -> bool:
        return all(evidence.fields.get(name) == value for name, value in wanted.items())

    return fits


def is_scaled(evidence: Evidence) -> bool:
    """Evidence: the blocks have LayerScale."""
    return evidence.reading.has("blocks_0/layer_scale1")


def is_self_supervised(evidence: Evidence) -> bool:
    """Evidence: a class token, learned positions, and neither head nor representation."""
    fields = evidence.fields
    return (
        evidence.headless
        and fields["position"] == "learned"
        and fields["class_token"]
        and not fields["pre_logits"]
    )


def is_sincos(evidence: Evidence, halves_exchanged: bool = False, prefix_tokens: int = 1) -> bool:
    """Evidence: the positions are MAE's fixed table, or MoCo v3's, its halves exchanged.

    prefix_tokens: 0 for that of patches alone.
    """
    if evidence.fields["position"] != "learned" or not evidence.fields["class_position"]:
        return False
    table = evidence.reading.array("pos_embed")
    side = round(max(table.shape[1] - prefix_tokens, 0) ** 0.5)
    if table.shape[2] % 4 or table.shape[1] != prefix_tokens + side * side or not side:
        return False
    fixed = sincos_2d((side, side), table.shape[2], prefix_tokens)
    if halves_exchanged:
        fixed = np.roll(fixed, fixed.shape[2] // 2, axis=2)
    return bool(np.allclose(table, fixed, atol=1e-4))


def in_timm_names(resize: str) -> Callable[[Evidence], Fields]:
    """position_resize, for files in timm's names, which are the publisher's here."""
    return lambda evidence: {"position_resize": resize} if evidence.dialect == "timm" else {}


def imagenet(crop: float = 0.875, interpolation: str = "bicubic") -> Preprocessing:
    """A centre crop, normalised by ImageNet's colours."""
    return Preprocessing(*IMAGENET, crop=crop, interpolation=interpolation)


def squashed(mean: Channels, std: Channels, interpolation: str = "bilinear") -> Preprocessing:
    """Height and width resized apart, without a crop."""
    return Preprocessing(mean, std, interpolation, crop=1.0, crop_mode="squash")


def agree(stored: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Both together. ValueError naming a field that the caller gives differently from the file."""
    for name, value in stored.items():
        if name in given and given[name] != value:
            raise ValueError(f"{name}: got {given[name]!r}, but the file has {value!r}")
    return {**stored, **given}


def number_of_heads(
    field: str,
    given: int | None,
    stored: int | None,
    width: int,
    published: Mapping[int, int],
    usual: bool = True,
) -> int:
    """The number of heads, which PyTorch's shapes don't tell.

    The caller's, else the configuration's, else that of published models of this width: the
    family's, or the usual one. ValueError naming the field when there is none, when it does
    not divide the width, or when the caller's differs from the stored one.
    """
    if given is not None and not isinstance(given, Integral):
        raise ValueError(f"{field}: got {given!r}, expected a whole number")
    if given is not None and stored is not None and given != stored:
        raise ValueError(f"{field}: got {given}, but the file has {stored}")
    number = given or stored or published.get(width)
    if number is None and usual:
        number = usual_heads(width)
    if given == 0 or (number is not None and (number < 1 or width % number)):
        raise ValueError(
            f"{field}: {given if given == 0 else number} does not divide width {width}"
        )
    if number is None:
        raise ValueError(f"{field}: shapes don't tell it for width {width}; pass {field}=")
    return number


def usual_heads(width: int) -> int | None:
    """Heads of the published models of this width; None where sizes differ between publishers."""
    if width < 192 or width % 64:
        return _WIDE_HEADS.get(width)
    return _WIDE_HEADS.get(width, width // 64)


def classes_of(found: int, given: int | None) -> int:
    """The classes of the model's head: the caller's, 0 for none, else those of the file's."""
    if given is None:
        return found
    if isinstance(given, bool) or not isinstance(given, Integral) or given < 0:
        raise ValueError(f"num_classes: got {given!r}, expected a whole number of 0 or more")
    return int(given)

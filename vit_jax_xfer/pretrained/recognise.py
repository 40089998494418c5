"""From a file to the network in it: its way of naming, its family, its fields, its name map."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn

from vit_jax_xfer.models.preprocessing import Preprocessing
from vit_jax_xfer.pretrained import common, flax_names
from vit_jax_xfer.pretrained.config_json import config_fields, config_preprocessing
from vit_jax_xfer.pretrained.dialects import DIALECTS, Dialect
from vit_jax_xfer.pretrained.evidence import refuse_post_norm
from vit_jax_xfer.pretrained.families import FAMILIES
from vit_jax_xfer.pretrained.family import Evidence, Family
from vit_jax_xfer.pretrained.fields import agree, classes_of, number_of_heads
from vit_jax_xfer.pretrained.files import Checkpoint
from vit_jax_xfer.pretrained.lazy import LazyState
from vit_jax_xfer.pretrained.names import Rule
from vit_jax_xfer.pretrained.reading import Fields, Reading, stored_heads, told

# Told by a file, but a caller may want them otherwise; if the weights then don't fit, loading says.
_SOFT = ("image_size", "pool", "pool_norm", "num_classes", "mask_token", "distillation_head")


@dataclasses.dataclass(frozen=True)
class Recognised:
    """A file that is understood: what its network is, and how its names map to ours.

    state: in common names (or Flax's), lazy; rules, ignored: the name map.
    shown: the file's own name of each. stored_size: pixels that its positions were made for.
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


def recognise(checkpoint: Checkpoint, family: str | None, given: Fields) -> Recognised:
    """The network in a file. ValueError naming the field when something doesn't fit.

    family: its name, None to be told. given: the caller's fields, `decoder` for MAE's included.
    """
    if family is not None and family not in FAMILIES:
        raise ValueError(f"family {family!r} is unknown; families: {', '.join(sorted(FAMILIES))}")
    names = _Names(checkpoint.state)
    given = dict(given)
    decoder = _decoder(names.state, given)
    reading = Reading(names.state, names.rules, names.shown)
    fields = told(reading, given.get("image_size"))
    if "decoder_embed.weight" in names.state:
        fields["mask_token"] = False  # the decoder's, not the encoder's
    evidence = Evidence(names.dialect, fields, reading, checkpoint.left_out)
    refuse_post_norm(evidence)
    found = _choose_family(evidence, family)
    stored_size = fields.get("image_size")
    encoders = {k: v for k, v in given.items() if not (decoder and k.startswith("decoder_"))}
    settled = _settle(evidence, found, checkpoint, encoders)
    settled["preprocessing"] = given.get("preprocessing") or _preprocessing(
        checkpoint, found, stored_size or settled["image_size"]
    )
    rules = names.rules
    if decoder:
        rules = common.autoencoder_rules()
        stored = config_fields(checkpoint.config).get("decoder_num_heads")
        whole = Reading(names.state, rules, names.shown)
        model = _autoencoder(whole, settled, given, stored)
    else:
        from vit_jax_xfer.models.registry import build
        from vit_jax_xfer.models.vit import VisionTransformer

        model = build(VisionTransformer, settled)
    state = _without_what_is_off(evidence, model, decoder)
    return Recognised(
        model=model,
        family=found,
        dialect=names.dialect,
        state=state,
        rules=rules,
        ignored=names.ignored,
        shown=names.shown,
        stored_size=stored_size,
        left_out=checkpoint.left_out,
    )


class _Names:
    """A file in common names, or Flax's; what the dialect is; and how a name stood in the file."""

    def __init__(self, state: LazyState) -> None:
        if flax_names.is_flax(state):
            self.dialect, self.rules, self.ignored = "flax", flax_names.RULES, ()
            self.state = flax_names.flax_state(state)
            self.shown = str
            return
        dialect = next((d for d in DIALECTS if d.speaks(state)), None)
        if dialect is None:
            few = ", ".join(list(state)[:5]) + (", …" if len(state) > 5 else "")
            raise ValueError(
                f"the file's names fit no family: {few} ({len(state)} names); "
                f"families: {', '.join(sorted(FAMILIES))}"
            )
        self.dialect, self.ignored = dialect.name, dialect.ignored
        self.originals: dict[str, str] = {}
        self.state = state.mapped(lambda name: self._rename(dialect, name))
        self.rules = common.rules(_mlp_kind(self.state))
        self.shown = lambda name: self.originals.get(name) or dialect.from_common(name)

    def _rename(self, dialect: Dialect, name: str) -> str:
        # DINOv2's and DINOv3's training checkpoints number blocks as chunk.block.
        new = re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", dialect.to_common(name))
        self.originals[new] = name
        return new


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


def _choose_family(evidence: Evidence, name: str | None) -> Family:
    if name is not None:
        FAMILIES[name].check(evidence)
        return FAMILIES[name]
    found = next((family for family in FAMILIES.values() if family.fits(evidence)), None)
    if found is None:
        raise ValueError(
            "the file is a vision transformer of no known family; pass the nearest one as family=: "
            f"{', '.join(sorted(FAMILIES))}"
        )
    return found


def _settle(evidence: Evidence, family: Family, checkpoint: Checkpoint, given: Fields) -> Fields:
    """All fields of the vision transformer.

    Where several tell one, the later wins: what the file hints at, the family, the configuration,
    what shapes tell for sure, the caller.
    """
    fields = evidence.fields
    soft = {k: fields[k] for k in _SOFT if k in fields}
    hard = {k: v for k, v in fields.items() if k not in soft}
    config = config_fields(checkpoint.config)
    config.pop("decoder_num_heads", None)
    if _reads_mean(evidence) and given.get("num_classes") != 0:
        if fields["class_token"]:
            raise ValueError(
                "classifier: reads a mean of tokens before the last norm, which no network here "
                "does; num_classes=0 loads without it"
            )
        soft |= {"pool": "avg", "pool_norm": False}
    usual = {"image_size": 224, "layer_scale": 1e-5}
    own = family.fields_for(evidence)
    # What shapes tell alike of several kinds: the family, or the caller, knows which.
    hard = {k: v for k, v in hard.items() if k not in {**usual, **own} or k in config}
    if not evidence.reading.has("blocks_0/layer_scale1"):
        hard["layer_scale"] = None
    heads = config.pop("num_heads", None) or stored_heads(evidence.reading)
    settled = {**usual, **soft, **own, **config, **agree(hard, given)}
    settled["num_heads"] = number_of_heads(
        "num_heads", given.get("num_heads"), heads, fields["width"], family.heads
    )
    settled["num_classes"] = classes_of(fields["num_classes"], given.get("num_classes"))
    if not settled["num_classes"]:
        settled["distillation_head"], settled["head_bias"] = None, True
    elif not settled["distillation_token"] and "distillation_head" not in given:
        settled["distillation_head"] = None
    return settled


def _reads_mean(evidence: Evidence) -> bool:
    """Whether it is a classifier of transformers' CLIP or SigLIP, which leave their pooling out."""
    return evidence.dialect == "hf_clip" and evidence.reading.has("head/bias")


def _preprocessing(checkpoint: Checkpoint, family: Family, size: Any) -> Preprocessing:
    """The directory's own, else the publisher's usual one at the file's native size."""
    found = config_preprocessing(checkpoint.config, checkpoint.preprocessor, size)
    return found or dataclasses.replace(family.preprocessing, size=size)


def _decoder(state: LazyState, given: dict[str, Any]) -> bool:
    """Whether to load MAE's decoder; takes `decoder` out of the caller's fields."""
    present = "decoder_embed.weight" in state
    decoder = given.pop("decoder", present)
    if decoder and not present:
        raise ValueError("decoder: got True, but the file has no decoder_embed.weight")
    return decoder


def _autoencoder(
    reading: Reading, settled: Fields, given: Mapping[str, Any], stored_heads: int | None
) -> nn.Module:
    """A MaskedAutoencoder: the decoder's fields begin with `decoder_`."""
    from vit_jax_xfer.models.mae import MaskedAutoencoder
    from vit_jax_xfer.models.registry import build

    own = {name: value for name, value in given.items() if name.startswith("decoder_")}
    width = reading.shape("decoder_embed/kernel")[-1]
    fields = {
        "decoder_width": width,
        "decoder_depth": reading.count("decoder_blocks_{i}/norm1/scale"),
        "decoder_mlp_dim": reading.shape("decoder_blocks_0/mlp/fc2/kernel")[0],
    }
    heads = number_of_heads(
        "decoder_num_heads",
        own.get("decoder_num_heads"),
        stored_heads,
        width,
        {512: 16},
        usual=False,
    )
    encoder = {**settled, "pool": "none", "num_classes": 0, "mask_token": False}
    return build(MaskedAutoencoder, {**encoder, **agree(fields, own), "decoder_num_heads": heads})


def _without_what_is_off(evidence: Evidence, model: nn.Module, decoder: bool) -> LazyState:
    """The file without what the caller's fields turned off: the head, the mask token, a decoder."""
    drop: Sequence[str] = ()
    if not decoder:
        drop = ("decoder_",)
        if not model.mask_token:
            drop += ("mask_token", "masked_embed")
        if not model.num_classes:
            drop += ("head.", "head/", "head_dist.")
        elif _reads_mean(evidence):
            drop += ("attn_pool.",)
    state = evidence.reading.state
    return state.mapped(lambda name: None if name.startswith(tuple(drop)) else name)

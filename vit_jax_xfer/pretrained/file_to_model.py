"""From a file to a model and its variables, in five steps.

Read (read_files.py), rename (rename.py), measure (fields_from_shapes.py), recognise (below, with
families/), fill (fill.py). A model that this project saved needs none of them (saved_models.py).
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, Literal, overload

import flax.linen as nn
import jax.numpy as jnp

from vit_jax_xfer.arguments.whole_numbers import check_whole
from vit_jax_xfer.models.filter.network import FilterViT
from vit_jax_xfer.models.lifting.lift import LiFT
from vit_jax_xfer.models.preprocessing import Preprocessing
from vit_jax_xfer.models.protocol import Network
from vit_jax_xfer.models.transformer.patches import grid_of
from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.pretrained.config_json import (
    folder_class_names,
    folder_preprocessing,
    read_folder_config,
)
from vit_jax_xfer.pretrained.families import FAMILIES, vit_dialects
from vit_jax_xfer.pretrained.family_entry import (
    Evidence,
    Family,
    Recognised,
    StoredNetwork,
    agree,
    classes_of,
    number_of_heads,
)
from vit_jax_xfer.pretrained.fields_from_shapes import (
    Fields,
    Reading,
    fields_from_shapes,
    norm_place,
    stored_heads,
)
from vit_jax_xfer.pretrained.fill import fill
from vit_jax_xfer.pretrained.folder_config import weights_show
from vit_jax_xfer.pretrained.hub import local_source
from vit_jax_xfer.pretrained.loading_notes import note
from vit_jax_xfer.pretrained.look_alikes import (
    perhaps_rotary,
    refuse_look_alikes,
    refuse_without_positions,
)
from vit_jax_xfer.pretrained.network_prefix import under_its_prefix
from vit_jax_xfer.pretrained.read_files import Checkpoint, read_checkpoint
from vit_jax_xfer.pretrained.rename import Renamed, rename
from vit_jax_xfer.pretrained.saved_models import (
    is_saved_model,
    load_saved_model,
    saved_network,
    with_class_names,
)

Source = str | os.PathLike[str] | Mapping[str, Any]
# The families whose networks are VisionTransformers, for type checkers.
VisionTransformerFamily = Literal[
    "beit", "beit3", "beitv2", "clip", "deit", "deit3", "dino", "dinov2", "dinov3", "eva", "eva02",
    "flip", "ibot", "ijepa", "moco_v3", "siglip", "supervised", "timm_rotary", "torchvision",
    "vitdet",
]  # fmt: skip

# A file hints at these, but a caller may want them otherwise; if the weights then don't fit,
# filling says so.
_HINTS = ("image_size", "pool", "pool_norm", "num_classes", "mask_token", "distillation_head")
_HINTS += ("in_channels",)


@overload
def load_pretrained(
    source: Source,
    family: VisionTransformerFamily,
    weights: str | None = None,
    *,
    seed: int = 0,
    **fields: Any,
) -> tuple[VisionTransformer, dict[str, Any]]: ...
@overload
def load_pretrained(
    source: Source,
    family: Literal["filter_vit"],
    weights: str | None = None,
    *,
    seed: int = 0,
    **fields: Any,
) -> tuple[FilterViT, dict[str, Any]]: ...
@overload
def load_pretrained(
    source: Source,
    family: Literal["lift"],
    weights: str | None = None,
    *,
    seed: int = 0,
    **fields: Any,
) -> tuple[LiFT, dict[str, Any]]: ...
@overload
def load_pretrained(
    source: Source,
    family: str | None = None,
    weights: str | None = None,
    *,
    seed: int = 0,
    **fields: Any,
) -> tuple[Network, dict[str, Any]]: ...
def load_pretrained(
    source: Source,
    family: str | None = None,
    weights: str | None = None,
    *,
    seed: int = 0,
    **fields: Any,
) -> tuple[Network, dict[str, Any]]:
    """A model and its variables (float32 jax arrays), whole, from a file or a mapping.

    source: .pth, .pt, .bin, .safetensors, .npz, .msgpack, a Hugging Face directory, an Orbax or
        T5X folder, a mapping {publisher's name: array}, nested or not, or what this project wrote:
        a model directory, a .safetensors file, a run's folder (its finished model) or one of its
        checkpoints. "hf:ORG/NAME" and "timm/NAME" are downloaded from the Hugging Face hub
        (hub.py).
    family: one of FAMILIES; None = told from the names.
    weights: which network, where a file holds several: "teacher", "student", "model_ema",
        "momentum_encoder", …, or what its names begin with: "model.backbone"; of a run's
        checkpoint "ema" for the average of its parameters; None = the usual one.
    fields: the model's fields that shapes can't tell or that should differ: num_heads, image_size
        (positions are resized), num_classes (0 drops the head, another number than the file's
        puts a fresh one in its place), class_names (None leaves out those of a folder's
        config.json), in_channels (of a VisionTransformer, whose first layer goes over as timm's
        does, see patches.for_channels), dtype, scan, drop_path, …;
        family "mae" also takes decoder=False (the encoder alone), and "lift" needs patch_size.
    seed: a fresh head is the one that model.init(jax.random.key(seed), images) has.
    ValueError when anything in the file is left over, missing or of another shape, when the family
    can't be told, and when a field is unknown or disagrees with the file.
    """
    model, variables, _ = load_on_host(source, family, weights, seed=seed, **fields)
    return model, _on_device(variables)


def load_on_host(
    source: Source,
    family: str | None = None,
    weights: str | None = None,
    *,
    seed: int = 0,
    **fields: Any,
) -> tuple[nn.Module, dict[str, Any], Recognised | None]:
    """As `load_pretrained`, but with numpy arrays, so that the caller chooses where they go.

    Besides, what the file was recognised as; None for a model that this project saved.
    """
    if weights is not None and not isinstance(weights, str):
        raise ValueError(f"weights: got {weights!r}, expected text, such as 'teacher'")
    check_whole("seed", seed, 0)
    if not isinstance(source, Mapping):
        source = local_source(source)
        if is_saved_model(source):
            given = {"family": family, "weights": weights, **fields}
            return *load_saved_model(source, given, seed), None
    checkpoint = read_checkpoint(source, weights)
    found = recognise(checkpoint, family, fields)
    return found.model, fill(found, seed), found


def network_of(source: str | os.PathLike[str], num_heads: int = 0) -> Network:
    """The network that `load_pretrained` would give; no array is read, and no device is touched.

    num_heads: of a file that doesn't tell; 0 = it does.
    """
    source = local_source(source)
    if is_saved_model(source):
        return saved_network(source)
    given = {"num_heads": num_heads} if num_heads else {}
    return recognise(read_checkpoint(source, None), None, given).model


def recognise(checkpoint: Checkpoint, family: str | None, given: Fields) -> Recognised:
    """The network in a file. ValueError naming the field when something doesn't fit.

    family: its name, None to be told. given: the caller's fields, `decoder` for MAE's included.
    """
    if family is not None and (not isinstance(family, str) or family not in FAMILIES):
        raise ValueError(f"family {family!r} is unknown; families: {_known()}")
    every = [dialect for known in FAMILIES.values() for dialect in known.dialects]
    checkpoint = under_its_prefix(checkpoint, every)
    other = _no_vision_transformer(checkpoint, family)
    if other is not None:
        network = other.other.network(checkpoint, given)
        (dialect,) = other.dialects
        return _recognised(checkpoint, other, network, Renamed(dialect, network.state, (), {}))
    renamed = rename(checkpoint.state, vit_dialects())
    if renamed is None:
        few = ", ".join(list(checkpoint.state)[:5]) + (", …" if len(checkpoint.state) > 5 else "")
        raise ValueError(
            f"the file's names fit no family: {few} ({len(checkpoint.state)} names); "
            f"families: {_known()}"
        )
    dialect = renamed.dialect
    config = read_folder_config(checkpoint, dialect.name, given, forced=family is not None)
    renamed = renamed.with_beginnings(config.renames)
    reading = Reading(renamed.state, renamed.rules, renamed.shown, dialect.class_has_position)
    stored = fields_from_shapes(reading, given.get("image_size"), config.image_size, config.file)
    config.check(reading, stored)
    evidence = Evidence(renamed.dialect.name, stored, reading, checkpoint.left_out, config.fields)
    found = _choose_family(evidence, family, given)
    decoder = {name: value for name, value in given.items() if name.startswith("decoder")}
    encoder = {name: value for name, value in given.items() if name not in decoder}
    fields = _all_fields(evidence, found, dialect.fields, encoder)
    if "position" not in given and not config.speaks_of("a table of positions"):
        refuse_without_positions(fields)
    stored_size = stored.get("image_size")
    doubts = {
        **_resized(found, dialect.name, fields, stored_size),
        **perhaps_rotary(evidence, fields),
        **found.doubts(evidence),
    }
    for field, doubt in doubts.items():
        if field not in given and field not in config.fields:
            note(doubt)
    known = {**dialect.fields, **given}.get("drop_remainder") or config.image_size is not None
    if given.get("image_size") is not None and not known:
        grid_of(given["image_size"], fields["patch_size"])  # its error
    fields["preprocessing"] = given.get("preprocessing")
    if fields["in_channels"] != 3:
        note(f"in_channels: images of {fields['in_channels']} channels are yours to prepare")
    elif fields["preprocessing"] is None:
        fields["preprocessing"] = _preprocessing(
            checkpoint, dialect.name, found, config.seen or _seen_size(fields, stored_size)
        )
    names, classes = given.get("class_names"), weights_show(reading, stored)["classes"]
    if "class_names" not in given and classes == fields["num_classes"]:
        names = folder_class_names(checkpoint, dialect.name, classes)
    network = found.network(evidence, {**fields, "class_names": None}, decoder)
    if names is not None:
        network = network._replace(model=with_class_names(network.model, names))
    return _recognised(checkpoint, found, network, renamed, stored_size, stored["in_channels"])


def _resized(family: Family, dialect: str, fields: Fields, stored_size: Any) -> dict[str, str]:
    """The doubt of a table that goes to another size: whose code reads a file in timm's names."""
    how, timms = fields.get("position_resize"), "bicubic_antialias"
    resized = fields["position"] == "learned" and stored_size not in (None, fields["image_size"])
    if not resized or dialect != "timm" or how in (None, timms):
        return {}
    return {
        "position_resize": f"position_resize: positions go to {fields['image_size']} pixels as the "
        f"code of {family.name} does it, by {how!r}; timm, in whose names files come too, does it "
        f"by {timms!r}"
    }


def _seen_size(fields: Fields, stored_size: Any) -> Any:
    """Pixels of the images that the network is for: those of its positions, where it has no own."""
    if stored_size is None or fields.get("position_size") is not None:
        return fields["image_size"]
    return stored_size


def _known() -> str:
    return ", ".join(sorted(FAMILIES))


def _no_vision_transformer(checkpoint: Checkpoint, family: str | None) -> Family | None:
    """The family whose network is none, where it was asked for or the file's names are its own."""
    if family is not None:
        return FAMILIES[family] if FAMILIES[family].other else None
    others = (known for known in FAMILIES.values() if known.other)
    return next((known for known in others if known.other.is_in(checkpoint.state)), None)


def _recognised(
    checkpoint: Checkpoint,
    family: Family,
    network: StoredNetwork,
    renamed: Renamed,
    stored_size: Any = None,
    stored_channels: int | None = None,
) -> Recognised:
    return Recognised(
        model=network.model,
        family=family,
        dialect=renamed.dialect.name,
        state=network.state,
        rules=network.rules,
        ignored=renamed.dialect.ignored + renamed.dialect.left_out,
        shown=renamed.shown,
        stored_size=stored_size,
        left_out=(*checkpoint.left_out, *renamed.left_out),
        stored_channels=stored_channels,
        fresh=network.fresh,
    )


def _choose_family(evidence: Evidence, name: str | None, given: Fields) -> Family:
    """The family asked for, or the first that the evidence fits. ValueError where there is none."""
    refuse_look_alikes(evidence, given)
    for family in FAMILIES.values():
        if why := family.refuses(evidence):
            raise ValueError(why)
    if name is not None:
        FAMILIES[name].check(evidence)
        return FAMILIES[name]
    found = next((family for family in FAMILIES.values() if family.fits(evidence)), None)
    if found is None:
        raise ValueError(
            "the file is a vision transformer of no known family; pass the nearest one as family=: "
            f"{_known()}; it has no positions, so where the network has none either, pass "
            "position='none' too"
        )
    return found


def _all_fields(
    evidence: Evidence, family: Family, by_dialect: Mapping[str, Any], given: Fields
) -> Fields:
    """All fields of the vision transformer.

    Where several tell one, the later wins: what the file hints at, the dialect, the family, the
    configuration, what shapes tell for sure, the caller.
    """
    fields = evidence.fields
    hints = {k: fields[k] for k in _HINTS if k in fields}
    sure = {k: v for k, v in fields.items() if k not in hints}
    config = {k: v for k, v in evidence.config.items() if k != "decoder_num_heads"}
    number = classes_of(fields["num_classes"], given.get("num_classes"))
    keeps_head = number == fields["num_classes"]
    if evidence.reads_mean and keeps_head:
        if fields["class_token"]:
            raise ValueError(
                "classifier: reads a mean of tokens before the last norm, which no network here "
                "does; num_classes=0 loads without it"
            )
        hints |= {"pool": "avg", "pool_norm": False}
    elif "pool" in config:
        hints["pool_norm"] = norm_place(evidence.reading, config["pool"])
    elif "pool" in given and not (number and keeps_head) and evidence.reading.has("norm/scale"):
        # No head is there that was trained on another pooling: all tokens are normed, as before.
        hints["pool_norm"] = False if given["pool"] == "avg" else None
    usual = {"image_size": 224, "layer_scale": 1e-5}
    of_family = {**by_dialect, **family.fields_for(evidence)}
    # What shapes tell alike of several kinds: the family, or the caller, knows which.
    sure = {k: v for k, v in sure.items() if k not in {**usual, **of_family} or k in config}
    if "mlp" in config:  # which function a gate has
        sure.pop("mlp")
    if not keeps_head:
        sure["head_bias"] = given.get("head_bias", True)
    if not evidence.reading.has("blocks_0/layer_scale1"):
        sure["layer_scale"] = None
    heads = config.pop("num_heads", None) or stored_heads(evidence.reading)
    chosen = {**usual, **hints, **of_family, **config, **agree(sure, given)}
    chosen["num_heads"] = number_of_heads(
        "num_heads", given.get("num_heads"), heads, fields["width"], family.heads
    )
    chosen["num_classes"] = number
    if not number:
        chosen["distillation_head"], chosen["head_bias"] = None, True
    elif not keeps_head:
        chosen["distillation_head"] = given.get("distillation_head")
    elif not chosen["distillation_token"] and "distillation_head" not in given:
        chosen["distillation_head"] = None
    return chosen


def _preprocessing(
    checkpoint: Checkpoint, dialect: str, family: Family, size: Any
) -> Preprocessing:
    """That of the directory, else the publisher's usual one at the file's native size."""
    found = folder_preprocessing(checkpoint, dialect, size)
    return found or dataclasses.replace(family.preprocessing, size=size)


def _on_device(tree: dict[str, Any]) -> dict[str, Any]:
    """The same as jax arrays; each numpy array is let go at once, so that one is there twice."""
    for name, value in tree.items():
        tree[name] = _on_device(value) if isinstance(value, dict) else jnp.asarray(value)
    return tree

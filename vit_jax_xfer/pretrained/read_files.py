"""Everybody's checkpoints as {name: array} of one network, whatever a publisher saved around it.

A source is opened (weight_files.py), then wrappers, prefixes and other networks are taken off.
"""

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vit_jax_xfer.pretrained.lazy_arrays import LazyState, Unbuilt, is_array
from vit_jax_xfer.pretrained.weight_files import open_directory, open_weights, read_json


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a file, a directory or a mapping holds of one network.

    state: {publisher's name: array}, read on access.
    config: a Hugging Face directory's config.json. preprocessor: its preprocessor_config.json, or
    the image processor of its processor_config.json. open_clip: its open_clip_config.json.
    where: what errors call the source.
    left_out: what stood beside the network, such as "momentum_encoder.* (152 names)".
    """

    state: LazyState
    config: dict[str, Any] | None
    preprocessor: dict[str, Any] | None
    where: str
    left_out: tuple[str, ...]
    open_clip: dict[str, Any] | None = None


def read_checkpoint(
    source: str | os.PathLike[str] | Mapping[str, Any], weights: str | None = None
) -> Checkpoint:
    """One network's weights, out of whatever a publisher saved; arrays are read on access.

    source: a file (.npz, .safetensors, PyTorch's), a Hugging Face directory, or a mapping of
        numpy, jax or torch arrays. Wrappers ({"model": …}), prefixes ("module.") and known networks
        beside it (text towers, projectors, optimizers) are taken off.
    weights: which network, where there are several: "student", "teacher", "model_ema",
        "momentum_encoder", …; None = the usual one.
    FileNotFoundError or ValueError in one line that names the file when it is missing, damaged, of
    an unknown kind, or holds pickled code, and when there are no such weights.
    """
    config = preprocessor = open_clip = None
    if isinstance(source, LazyState):
        content, where = source.stored, source.where
    elif isinstance(source, Mapping):
        content, where = source, "source"
    else:
        path, where = Path(source), str(source)
        if path.is_dir():
            content = open_directory(path)
            config = read_json(path / "config.json")
            preprocessor = _preprocessor(path)
            open_clip = read_json(path / "open_clip_config.json")
        else:
            content = open_weights(path)
    arrays, left_out = unwrap(content, weights, where)
    return Checkpoint(LazyState(arrays, where), config, preprocessor, where, left_out, open_clip)


def _preprocessor(folder: Path) -> dict[str, Any] | None:
    """How transformers prepares images for the folder's network; it looks in this order, too."""
    whole = read_json(folder / "processor_config.json") or {}
    found = whole.get("image_processor")
    if found is not None and not isinstance(found, dict):
        raise ValueError(
            f"{folder / 'processor_config.json'}: image_processor is {found!r}, expected an object"
        )
    return found or read_json(folder / "preprocessor_config.json")


def read_state(source: str | os.PathLike[str] | Mapping[str, Any]) -> LazyState:
    """The weights alone of `read_checkpoint`."""
    return read_checkpoint(source).state


# Where training scripts put weights, beside the optimizer and the epoch; the first counts.
WRAPPERS = (
    "model",
    "state_dict",
    "model_state_dict",
    "teacher",
    "module",
    "model_ema",
    "ema",
    "ema_state_dict",
    "state_dict_ema",
    "student",
)


class Group(NamedTuple):
    """Names that begin alike and are the network, whatever stands beside them.

    prefixes: taken off. Of several that are there the first is the network, the others are left
        out, unless the caller chooses.
    beside, inside: regular expressions of whole names that belong to something else, and are left
        out: beside the group, and in it once the prefix is off.
    kept: the same of names beside it that belong to the network.
    """

    prefixes: tuple[str, ...]
    beside: str = ""
    inside: str = ""
    kept: str = ""


# No "encoder." or "layers.": networks have names of their own that begin so.
GROUPS = (
    # Data parallel, torch.compile, trainers, open_clip's timm towers, Flax's training states.
    *(
        Group((prefix,))
        for prefix in ("module.", "_orig_mod.", "model.", "trunk.", "target/", "optimizer/target/")
    ),
    # MoCo v3, whose encoders end in a projector of several layers.
    Group(("base_encoder.", "momentum_encoder."), beside=r"predictor\..+", inside=r"head\.\d+\..+"),
    # DINO, iBOT and DINOv2 while they train.
    Group(("teacher.", "model_ema.", "student."), beside=r"(dino|ibot_patch|koleo|gram)_loss\..+"),
    # Their networks, with the projectors; another head beside a backbone is a classifier.
    Group(
        ("backbone.",),
        beside=r"(dino|ibot)_head\..+|head\.(mlp|last_layer|last_norm)2?\..+",
    ),
    # OpenAI's CLIP and open_clip, with the text towers of both.
    Group(
        ("visual.",),
        beside=r"(transformer|token_embedding|ln_final|text)\..+|positional_embedding|attn_mask"
        r"|text_projection(\.(weight|bias))?|logit_scale|logit_bias"
        r"|context_length|input_resolution|vocab_size",
    ),
    # CLIP and SigLIP of Hugging Face.
    Group(
        ("vision_model.",),
        beside=r"text_model\..+|text_projection\.weight|logit_scale|logit_bias",
        kept=r"visual_projection\.weight|classifier\.(weight|bias)",
    ),
    # big_vision: SigLIP and LiT, and training states.
    Group(("img/",), beside=r"txt/.+|t|b"),
    Group(("params/",), beside=r"(opt|extra)/.+"),
    Group(("opt/target/",), beside=r"(opt/state|extra)/.+"),
)


class Unwrapped(NamedTuple):
    """arrays: {name: array} of one network; left_out: what stood beside it, "predictor.* (9 …"."""

    arrays: dict[str, Any]
    left_out: tuple[str, ...]


def unwrap(content: Mapping[str, Any], weights: str | None, where: str) -> Unwrapped:
    """One network's names and arrays, out of all that a training script saved.

    weights: which, where there are several ("student", "model_ema", "momentum_encoder", …).
    ValueError, which names `where`, when it isn't there, or when there are no arrays.
    """
    left_out: list[str] = []
    choices: list[str] = []
    while mappings := _mappings(content):
        choices += mappings
        taken = weights if weights in mappings else mappings[0]
        if taken != weights and taken not in WRAPPERS:
            break
        left_out += _beside(content, taken)
        content = content[taken]
    if whole := next((n for n in WRAPPERS if isinstance(content.get(n), Unbuilt)), None):
        raise ValueError(
            f"{where}: {whole} is a whole {content[whole].name}, whose code is not run; "
            "save its state_dict() instead"
        )
    arrays = {str(name): value for name, value in content.items()}
    while found := _find_group(arrays):
        group, present = found
        names = [prefix[:-1] for prefix in present]
        choices += names if len(group.prefixes) > 1 else []
        prefix = present[names.index(weights)] if weights in names else present[0]
        arrays, more = _take(arrays, group, prefix, where)
        left_out += more
    if weights is not None and weights not in choices:
        raise ValueError(
            f"{where}: no {weights!r}, the weights= asked for; "
            f"there is {', '.join(dict.fromkeys(choices)) or 'only one network, without a name'}"
        )
    if not arrays:
        raise ValueError(f"{where}: holds no arrays")
    return Unwrapped(arrays, tuple(left_out))


def _mappings(content: Mapping[str, Any]) -> list[str]:
    """The keys of mappings that may hold weights: the usual ones in order, then others."""
    usual = [name for name in WRAPPERS if isinstance(content.get(name), Mapping)]
    usual.sort(key=lambda name: not content[name])  # those that are empty last
    return usual + [
        name for name, value in content.items() if name not in usual and _holds_arrays(value)
    ]


def _holds_arrays(value: Any) -> bool:
    return isinstance(value, Mapping) and any(is_array(one) for one in value.values())


def _beside(content: Mapping[str, Any], taken: str) -> list[str]:
    """What to say of the arrays, in mappings or not, that stand beside the one that is taken.

    And of objects that aren't built, for nobody knows what is in them.
    """
    beside = {name: value for name, value in content.items() if name != taken}
    mappings = set(_mappings(beside))
    sizes = {
        name: 1 if is_array(value) else len(value)
        for name, value in beside.items()
        if is_array(value) or name in mappings and value
    }
    unbuilt = {name: x.name for name, x in beside.items() if isinstance(x, Unbuilt)}
    return [
        *(_counted(name, size) for name, size in sizes.items()),
        *(f"{name} (a {kind}, which is not read)" for name, kind in unbuilt.items()),
    ]


def _find_group(arrays: Mapping[str, Any]) -> tuple[Group, list[str]] | None:
    """A group that the names show, and which of its prefixes are there; None = none does.

    It shows when all names are in it, or when one beside it is known to stand there.
    """
    for group in GROUPS:
        present = [p for p in group.prefixes if any(name.startswith(p) for name in arrays)]
        others = [name for name in arrays if not name.startswith(group.prefixes)]
        known = f"{group.beside}|{group.kept}"
        if present and (not others or any(re.fullmatch(known, name) for name in others)):
            return group, present
    return None


def _take(
    arrays: Mapping[str, Any], group: Group, prefix: str, where: str
) -> tuple[dict[str, Any], list[str]]:
    """The network's arrays without the prefix, and what was left out.

    Names that nothing is known of stay, so that loading fails on them. ValueError when two names
    become one.
    """
    taken: dict[str, Any] = {}
    left_out: Counter[str] = Counter()
    for name, value in arrays.items():
        inside = name.startswith(prefix)
        short = name[len(prefix) :] if inside else name
        if re.fullmatch(group.inside if inside else group.beside, short) or (
            not inside and name.startswith(group.prefixes)
        ):
            first = re.sub(r"([./]).*", r"\1*", short)
            left_out[prefix + first if inside else first] += 1
        elif short in taken:
            raise ValueError(f"{where}: {name} has the same place as another name, {short}")
        else:
            taken[short] = value
    return taken, [_counted(name, number) for name, number in left_out.items()]


def _counted(name: str, number: int) -> str:
    return f"{name} ({number} {'name' if number == 1 else 'names'})"

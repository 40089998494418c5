"""One network out of all that a training script saved: wrappers, prefixes, other networks off.

What a file is and how it is opened: weight_files.py. Prefixes that stand in no table here are told
from the names behind them, once these can be recognised (network_prefix.py).
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from vit_jax_xfer.pretrained.array_trees import (
    count_arrays,
    flat_names,
    is_state_dict,
    is_tree,
)
from vit_jax_xfer.pretrained.hugging_face_flax import in_pytorch_names
from vit_jax_xfer.pretrained.lazy_arrays import Unbuilt, is_array, one_line_errors
from vit_jax_xfer.pretrained.loading_notes import note
from vit_jax_xfer.pretrained.refused_weights import refuse_empty_arrays, refuse_no_weights

# Where training scripts put weights, beside the optimizer and the epoch; the first counts.
WRAPPERS = (
    "model",
    "state_dict_ema",  # timm's own rule: the average before what it averages
    "state_dict",
    "model_state_dict",
    "teacher",
    "module",
    "model_ema",
    "ema",
    "ema_state_dict",
    "student",
    "params",
    "target",
    "params_ema",
    "ema_params",
)
# Put into names by what wraps single modules: sharding, recomputing, compiling, Lightning.
_MARKS = re.compile(
    r"(?:(?<=\.)|^)(?:_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\."
    r"|(?<=\.)_orig_mod\."
)
_MOST_WRAPPERS = 16


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
    # Data parallel, trainers, open_clip's timm towers, Flax's variables and training states.
    *(Group((prefix,)) for prefix in ("module.", "_orig_mod.", "model.", "trunk.")),
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
    Group(("params/",), beside=r"(opt|extra|opt_state|batch_stats|state)/.+|step"),
    Group(("opt/target/",), beside=r"(opt/state|extra)/.+"),
    # Flax's and T5X's training states of old.
    Group(("optimizer/target/",), beside=r"optimizer/state/.+|step"),
    Group(("target/",), beside=r"state/.+|step"),
)


_PREFIXES = frozenset(prefix for group in GROUPS for prefix in group.prefixes)


class Unwrapped(NamedTuple):
    """arrays: {name: array} of one network; left_out: what stood beside it, "predictor.* (9 …"."""

    arrays: dict[str, Any]
    left_out: tuple[str, ...]


def unwrap(content: Mapping[str, Any], weights: str | None, where: str) -> Unwrapped:
    """One network's names and arrays, out of all that a training script saved.

    weights: which, where there are several ("student", "model_ema", "momentum_encoder", …).
    ValueError, which names `where`, when it isn't there, or when there are no arrays.
    """
    with one_line_errors(where):
        count_arrays(content)  # which fails where mappings have no end
    content, choices, left_out = _unwrapped(content, weights, where)
    if weights in choices:
        weights = None
    if is_tree(content):
        content = flat_names(content, where)
    arrays = in_pytorch_names(_without_marks(content, where), where)
    if weights is not None and f"{weights}." not in _PREFIXES:
        arrays, weights = _under(arrays, weights, left_out)
    arrays, names = _ungrouped(arrays, weights, where, left_out)
    if weights is not None and weights not in names:
        arrays, weights = _under(arrays, weights, left_out)
        if weights is not None:
            there = ", ".join(dict.fromkeys(choices + names)) or "only one network, without a name"
            raise ValueError(f"{where}: no {weights!r}, the weights= asked for; there is {there}")
    if not arrays:
        raise ValueError(f"{where}: holds no arrays")
    refuse_no_weights(arrays, where)
    shapes = {name: tuple(one.shape) for name, one in arrays.items() if is_array(one)}
    refuse_empty_arrays(shapes, where)
    return Unwrapped(arrays, tuple(left_out))


def _ungrouped(
    arrays: dict[str, Any], weights: str | None, where: str, left_out: list[str]
) -> tuple[dict[str, Any], list[str]]:
    """One network without its GROUPS' prefixes, and the names of the choices among them."""
    choices: list[str] = []
    while found := _find_group(arrays):
        group, present = found
        names = [prefix[:-1] for prefix in present]
        prefix = present[names.index(weights)] if weights in names else present[0]
        _say(where, prefix[:-1], names, weights)
        # A prefix of its own kind is no choice: it only came off.
        choices += names if len(group.prefixes) > 1 or weights in names else []
        arrays, more = _take(arrays, group, prefix, where)
        left_out += more
    return arrays, choices


def _unwrapped(
    content: Mapping[Any, Any], weights: str | None, where: str
) -> tuple[Mapping[Any, Any], list[str], list[str]]:
    """The innermost mapping that is a network's; the names of choices; what is left out."""
    left_out: list[str] = []
    choices: list[str] = []
    for _ in range(_MOST_WRAPPERS):
        mappings = _mappings(content)
        choices += mappings
        taken = _choose(content, mappings, weights, where)
        if taken is None:
            return content, choices, left_out
        left_out += _beside(content, taken)
        content = content[taken]
    raise ValueError(
        f"{where}: more than {_MOST_WRAPPERS} mappings in one another: {choices[0]}, …"
    )


def _choose(
    content: Mapping[Any, Any], mappings: list[str], weights: str | None, where: str
) -> str | None:
    """The key of the mapping that is or holds the network; None where the content itself is it.

    ValueError where several may be, and where it is no mapping but a network's whole object.
    """
    if weights in mappings:
        return weights
    if mappings and mappings[0] in WRAPPERS:
        number = count_arrays(content[mappings[0]])
        rivals = [
            name
            for name in mappings
            if not re.match(r"opt|state$", name) and 2 * count_arrays(content[name]) >= number
        ]
        _say(where, mappings[0], rivals, weights)
        return mappings[0]
    whole = next((name for name in WRAPPERS if isinstance(content.get(name), Unbuilt)), None)
    if whole is not None:
        raise ValueError(
            f"{where}: {whole} is a whole {content[whole].name}, whose code is not run; "
            "save its state_dict() instead"
        )
    networks = [name for name in mappings if is_state_dict(content[name])]
    if any(map(is_array, content.values())) or not networks:
        return None
    if len(networks) == 1:
        return networks[0]
    if weights is not None:
        return None
    raise ValueError(
        f"{where}: holds several networks: {', '.join(networks)}; pass one of these names as "
        "weights="
    )


def _say(where: str, taken: str, all_of_them: list[str], weights: str | None) -> None:
    """Says which of several networks is taken, where nobody asked for it."""
    others = [name for name in all_of_them if name != taken]
    if others and weights is None:
        note(
            f"{where}: takes {taken}; for {' or '.join(others)}, which it holds too, pass weights="
        )


def _without_marks(content: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """The same under names without what wrappers of single modules put into them."""
    arrays: dict[str, Any] = {}
    for name, value in content.items():
        short = _MARKS.sub("", str(name))
        if short in arrays:
            raise ValueError(f"{where}: {name} has the same place as another name, {short}")
        arrays[short] = value
    return arrays


def _under(
    arrays: dict[str, Any], prefix: str, left_out: list[str]
) -> tuple[dict[str, Any], str | None]:
    """The arrays whose names begin with a prefix, without it, and None; else all, and the prefix.

    left_out: gets what is said of the others.
    """
    begins = tuple(prefix.rstrip("./") + mark for mark in "./")
    found = {n[len(begins[0]) :]: x for n, x in arrays.items() if n.startswith(begins)}
    if not found:
        return arrays, prefix
    others = Counter(_first(name) for name in arrays if not name.startswith(begins))
    left_out += [_counted(name, number) for name, number in others.items()]
    return found, None


def _mappings(content: Mapping[Any, Any]) -> list[str]:
    """The keys of mappings that may hold weights: the usual ones in order, then others."""
    usual = [name for name in WRAPPERS if isinstance(content.get(name), Mapping)]
    usual.sort(key=lambda name: not content[name])  # those that are empty last
    return usual + [
        name
        for name, value in content.items()
        if isinstance(name, str) and name not in usual and _holds_arrays(value)
    ]


def _holds_arrays(value: Any) -> bool:
    return isinstance(value, Mapping) and count_arrays(value) > 0


def _beside(content: Mapping[Any, Any], taken: str) -> list[str]:
    """What to say of the arrays, in mappings or not, that stand beside the one that is taken.

    And of objects that aren't built, for nobody knows what is in them.
    """
    beside = {name: value for name, value in content.items() if name != taken}
    said = []
    for name, value in beside.items():
        if isinstance(value, Unbuilt):
            said.append(f"{name} (a {value.name}, which is not read)")
        elif number := count_arrays(value):
            said.append(_counted(name, number))
    return said


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
            left_out[prefix + _first(short) if inside else _first(short)] += 1
        elif short in taken:
            raise ValueError(f"{where}: {name} has the same place as another name, {short}")
        else:
            taken[short] = value
    return taken, [_counted(name, number) for name, number in left_out.items()]


def _first(name: str) -> str:
    """What is said of all names that begin alike: "head.*"."""
    return re.sub(r"([./]).*", r"\1*", name)


def _counted(name: str, number: int) -> str:
    return f"{name} ({number} {'name' if number == 1 else 'names'})"

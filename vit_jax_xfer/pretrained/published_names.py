"""What a publisher's config.json calls the classes: transformers' and timm's."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from vit_jax_xfer.pretrained.loading_notes import note

# timm's word, then transformers'. timm's label_descriptions say the same in other words, and a
# class has one name, so these stay unread.
_KEYS = ("label_names", "id2label", "label2id")


def published_names(config: Mapping[str, Any] | None, classes: int) -> tuple[str, ...] | None:
    """The names of a head's classes, in order; None where a config.json has none for them.

    Placeholders such as "LABEL_0" are none. Names that leave a class without one, or of which two
    keys tell different things, are left out, and a name that several classes have gets their
    numbers behind it; a note says so. ValueError for a list of another length than `classes`, and
    for a key that holds neither a list nor an object.
    """
    for key in _KEYS:
        found = (config or {}).get(key)
        if found:
            by_number = _by_number(key, found, classes)
            what = _wrong(key, by_number, config or {}, classes)
            if what:
                note(f"config.json: {key} {what}; the classes go without names (class_names=…)")
                return None
            names = [by_number[number] for number in range(classes)]
            return None if _are_placeholders(names) else _distinct(key, names)
    return None


def _by_number(key: str, found: Any, classes: int) -> dict[Any, Any]:
    """{class: name} as it is written; of "label2id" the other way round."""
    if isinstance(found, list) and key == "label_names":
        if len(found) != classes:
            raise ValueError(
                f"config.json: {key} has {len(found)} names, but the weights have {classes} classes"
            )
        return dict(enumerate(found))
    if not isinstance(found, Mapping):
        raise ValueError(f"config.json: {key} is {found!r:.80}, expected an object")
    pairs = found.items() if key != "label2id" else ((b, a) for a, b in found.items())
    return {_number(one): name for one, name in pairs}


def _number(written: Any) -> Any:
    """JSON's keys are text, also those that are numbers."""
    return int(written) if isinstance(written, str) and written.isdecimal() else written


def _wrong(key: str, by_number: Mapping[Any, Any], config: Mapping[str, Any], classes: int) -> str:
    """Why these are not the names of so many classes; "" where they are."""
    lacking = [number for number in range(classes) if number not in by_number]
    if lacking:
        return f"has no name for {len(lacking)} of {classes} classes, such as {lacking[0]}"
    if len(by_number) > classes:
        other = next(one for one in by_number if one not in range(classes))
        return f"names a class {other!r}, and the weights have {classes}"
    for number, name in by_number.items():
        if not isinstance(name, str) or not name.strip():
            return f"is {name!r} for class {number}, expected a name"
    back = config.get("label2id") if key == "id2label" else None
    counts = Counter(by_number.values())
    for number, name in by_number.items() if isinstance(back, Mapping) else ():
        # Of classes with one name label2id holds the last alone.
        if counts[name] == 1 and _number(back.get(name, number)) != number:
            return f"says {name!r} is class {number}, and label2id {back[name]!r}"
    return ""


def _are_placeholders(names: list[str]) -> bool:
    """Whether names are "LABEL_0", "LABEL_1", … or the numbers alone, as libraries fill them in."""
    return all(
        re.fullmatch(rf"(LABEL_)?{number}", name) is not None for number, name in enumerate(names)
    )


def _distinct(key: str, names: list[str]) -> tuple[str, ...] | None:
    """The names, with its number behind each that several classes have ("crane (134)")."""
    counts = Counter(names)
    twice = [name for name, count in counts.items() if count > 1]
    if not twice:
        return tuple(names)
    found = [f"{name} ({i})" if counts[name] > 1 else name for i, name in enumerate(names)]
    if len(set(found)) < len(found):
        note(f"config.json: {key} has {twice[0]!r} several times; the classes go without names")
        return None
    note(
        f"config.json: {key} has {len(twice)} names of several classes, which get their numbers: "
        + ", ".join(repr(name) for name in found if name not in counts)
    )
    return tuple(found)

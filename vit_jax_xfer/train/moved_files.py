"""Whether a run goes on with what it began with, where its images or weights lie elsewhere now.

A path is a setting as others are, and another one is refused; of these fields what lies there is
known by what a checkpoint says of it, so that they may move.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from vit_jax_xfer import data
from vit_jax_xfer.tasks.task import Variables
from vit_jax_xfer.train.console import say
from vit_jax_xfer.train.inputs import Inputs
from vit_jax_xfer.train.workdir import MOVABLE, changed_fields, fingerprint

_PROBED = 16  # images of a set whose pixels are looked at, spread over it


def moved_fields(folder: pathlib.Path, config: ConfigDict) -> tuple[str, ...]:
    """Those of MOVABLE that a run in this folder had otherwise; () without a run."""
    written = folder / "config.json"
    if not written.is_file():
        return ()
    return tuple(name for name, _ in changed_fields(written, config) if name in MOVABLE)


def contents_of(inputs: Inputs, initial: Variables | None) -> dict[str, str]:
    """A digest of what each field of MOVABLE names, for a checkpoint."""
    found = {field: digest_of(source) for field, source in inputs.sources().items()}
    return found if initial is None else {**found, "init_from": fingerprint(initial)}


def check_moved(moved: tuple[str, ...], before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Says that what has moved is the same; ValueError, naming the field, where it is not.

    before, now: what `contents_of` gave when the run began, and gives.
    """
    for field in moved:
        if field not in before:
            raise ValueError(
                f"{field}: it is another than that of this run, whose checkpoint doesn't say what "
                "lay there; put it back, or choose another --workdir"
            )
        what = "weights" if field == "init_from" else "images"
        if now.get(field) != before[field]:
            raise ValueError(
                f"{field}: its {what} are not those with which this run began; put those back, or "
                "choose another --workdir"
            )
        say(f"{field}: the same {what} as before, in another place")


def digest_of(source: data.Source) -> str:
    """Of how many images a source has, of their classes in order, and of some images and targets.

    Names of files are none of it.
    """
    digest = hashlib.sha256(json.dumps([len(source), list(source.class_names)]).encode())
    digest.update(np.ascontiguousarray(source.labels(), np.int64).data)
    for place in sorted({round(i * (len(source) - 1) / (_PROBED - 1)) for i in range(_PROBED)}):
        digest.update(f"{place}:".encode())
        try:
            example = source[place]
        except (ValueError, OSError):  # broken: the stream of batches says so
            continue
        _add(digest, {name: value for name, value in example.items() if name != "name"})
    return digest.hexdigest()[:16]


def _add(digest: Any, value: Any) -> None:
    """Adds an example's values: arrays and numbers, in dicts, tuples and dataclasses of such."""
    if dataclasses.is_dataclass(value):
        value = {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
    if isinstance(value, dict):
        for name in sorted(value):
            digest.update(f"{name}=".encode())
            _add(digest, value[name])
    elif isinstance(value, list | tuple):
        for one in value:
            _add(digest, one)
    else:
        array = np.asarray(value)
        digest.update(f"{array.shape}{array.dtype.str}".encode())
        digest.update(array.tobytes())

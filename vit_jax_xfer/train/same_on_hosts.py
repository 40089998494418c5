"""What all processes of a run must have alike, compared before the first step.

Each reads its own command line, its own files and its own copy of the code: one that differs would
train on in silence, or hang in an exchange of which the others know nothing.
"""

import functools
import hashlib
import importlib.metadata
import json
import pathlib
import types
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

import vit_jax_xfer
from vit_jax_xfer import data
from vit_jax_xfer.pretrained.description import describe
from vit_jax_xfer.tasks.task import Task
from vit_jax_xfer.train import hosts
from vit_jax_xfer.train.inputs import Inputs
from vit_jax_xfer.train.workdir import OF_A_HOST, fingerprint, leaves_of

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
_PROBED = 5  # examples of a source whose label and size are compared


def check_same_arguments(config: ConfigDict) -> None:
    """HostsDisagree, on every process in the same words, where configs or the code differ."""
    if hosts.several():
        leaves = leaves_of(config)
        facts = {name: repr(value) for name, value in leaves.items() if name not in OF_A_HOST}
        hosts.check_same(facts, "give every process the same arguments")
        hosts.check_same(_code(), "install the same on every host")


def check_same_files(
    inputs: Inputs,
    task: Task,
    frozen: str,
    more: Mapping[str, data.Source] = types.MappingProxyType({}),
) -> None:
    """As `check_same_arguments`, where data differ, loaded weights, or the network itself.

    frozen: the fingerprint of the task's frozen arrays. more: other sources, by what a message
    calls them.
    """
    if not hosts.several():
        return
    facts = {task.frozen_field: f"weights {frozen}"}
    facts["init_from"] = f"weights {fingerprint(task.initial)}"
    # It may be like weights (model.like) that lie elsewhere on each host.
    fields = describe(task.model)["fields"]
    facts |= {f"model.{field}": repr(value) for field, value in fields.items()}
    sources = {"data.source": inputs.train, "unlabeled.source": inputs.unlabeled}
    sources |= {f"{one.field}.source": one.source for one in inputs.eval_sets.values()}
    sources |= more
    for field, source in sources.items():
        if source is not None:
            facts |= {f"{field}{part}": text for part, text in _described(source).items()}
    hosts.check_same(facts, "give every process the same files")


@functools.cache
def _code() -> dict[str, str]:
    """Versions of packages, and a digest of the project's own files."""
    root = pathlib.Path(vit_jax_xfer.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(f"{file.relative_to(root)}\n".encode() + file.read_bytes())
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"the code of vit_jax_xfer": digest.hexdigest()[:12], **versions}


def _described(source: data.Source) -> dict[str, str]:
    """A source's size, its classes, and a few of its examples, which show their order."""
    names = source.class_names
    places = sorted({round(i * (len(source) - 1) / (_PROBED - 1)) for i in range(_PROBED)})
    order = _digest([_example(source, place) for place in places])
    return {
        "": f"{len(source)} images",
        ", its classes": f"{len(names)}: {', '.join(names[:3])}, … ({_digest(names)})",
        ", its order": order,
    }


def _example(source: data.Source, place: int) -> list[Any]:
    try:
        found = source[place]
    except (ValueError, OSError):  # broken: the stream of batches says so
        return [place]
    return [place, int(found["label"]), *found["image"].shape]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:8]

"""The folder of a run: its config is written once, and another run's folder is never touched."""

import hashlib
import json
import os
import pathlib
from typing import Any

import flax.traverse_util
import jax
import numpy as np
from ml_collections import ConfigDict

from vit_jax_xfer.config import default_config
from vit_jax_xfer.local_paths import local_path
from vit_jax_xfer.storage.model_paths import RUN_MODELS, is_model_directory
from vit_jax_xfer.tasks.registration import has_use_for
from vit_jax_xfer.train.console import say
from vit_jax_xfer.whole_files import write_whole

# A resumed run must agree in these; in others (length, cadence, mesh, …) it may differ.
FIXED = ("seed", "task", "model", "init_from", "batch_size", "data", "unlabeled", "mix", "optim")
# What may differ from host to host: where things lie, and how many read them. It changes no number;
# what lies there is compared itself (same_on_hosts.py).
OF_A_HOST = ("data.workers", "data.threads", "data.tfds_dir", "task.teacher", "task.backbone")
OF_A_HOST += ("task.members", "model.like")
# Of FIXED, what a resumed run may have otherwise. A teacher is known by its fingerprint in the
# checkpoint and not by its path; members leave none.
FREE = tuple(field for field in OF_A_HOST if field != "task.members")
# How a run goes on that has met what ended it: a loss or an image that is broken, no memory left.
FREE += ("optim.skip_nonfinite", "data.max_broken", "model.remat")
# These too, where a checkpoint says what lay there (moved_files.py).
MOVABLE = ("data.source", "unlabeled.source", "init_from")
_SECTIONS = {"task", "model", "data", "optim"}  # some of a run's config.json
# What a run writes, beside config.json: in a folder without that, it is someone else's.
_WRITTEN = ("checkpoints", *RUN_MODELS, "result.json", "metrics.jsonl")


def folder_of(workdir: str) -> pathlib.Path:
    """The folder that --workdir names, as a path.

    ValueError for an address, a file, blanks alone, and a name that the system refuses.
    """
    if not os.fspath(workdir).strip():
        raise ValueError(f"workdir: got {workdir!r}, expected a folder")
    folder = local_path(workdir, "workdir").absolute()
    try:
        there = folder.exists()
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise ValueError(f"workdir: {folder}: {error.strerror}") from error
    if there and not folder.is_dir():
        raise ValueError(f"workdir: {folder} is a file, not a folder")
    return folder


def check_workdir(workdir: str, config: ConfigDict) -> pathlib.Path:
    """The folder as a path. Changes nothing.

    ValueError where it holds another run, what isn't a run's under the name of what a run writes,
    or a finished model without a checkpoint to go on from.
    """
    folder = folder_of(workdir)
    check_ours(folder)
    kept = any((folder / name).exists() for name in ("checkpoints", "model"))
    if not kept and not _holds(folder / "result.json"):
        return folder  # nothing to lose: a run that failed before its first checkpoint, or none
    changed = changed_fields(folder / "config.json", config)
    goes_on = any((folder / "checkpoints").glob("[0-9]*"))
    free = FREE + MOVABLE if goes_on else FREE
    fixed = [text for name, text in changed if name.split(".")[0] in FIXED and name not in free]
    if fixed:
        raise ValueError(
            f"workdir: {folder} holds a run with other settings ({'; '.join(fixed[:3])}); "
            "choose another --workdir, or remove this one"
        )
    if (folder / "model").exists() and not goes_on:
        raise ValueError(
            f"workdir: {folder} holds a finished model and no checkpoint to go on from; choose "
            "another --workdir, or remove this one"
        )
    if changed:
        say("resuming with changed settings: " + "; ".join(text for _, text in changed))
    return folder


def check_ours(folder: pathlib.Path) -> None:
    """ValueError for what bears a name that a run writes under, and is not a run's.

    A folder is a run's where its config.json is one. What a run of it may have left half is no
    stranger's.
    """
    config, result = folder / "config.json", folder / "result.json"
    if not config.exists():
        found = next((name for name in _WRITTEN if (folder / name).exists()), None)
        if found is not None:
            raise ValueError(f"workdir: {folder} holds {found} but no config.json; choose another")
    elif not (isinstance(found := _stored(config), dict) and set(found) >= _SECTIONS):
        raise ValueError(f"workdir: {config} is not a run's; choose another --workdir, or move it")
    if _holds(result) and read_result(folder) is None:
        raise ValueError(f"workdir: {result} is not a run's; choose another --workdir, or move it")
    for name in RUN_MODELS:
        if (folder / name).exists() and not is_model_directory(folder / name):
            raise ValueError(
                f"workdir: {folder / name} is no model of a run; choose another --workdir, or move "
                "it"
            )


def _holds(path: pathlib.Path) -> bool:
    """Whether there is anything that could be lost: a file with bytes in it, a folder, a link."""
    return path.is_symlink() or path.is_dir() or (path.is_file() and path.stat().st_size > 0)


def read_result(folder: pathlib.Path) -> dict[str, Any] | None:
    """What the `result.json` of a finished run says; None where there is no whole one of a run."""
    try:
        found = json.loads((folder / "result.json").read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and {"finished", "metrics"} <= set(found) else None


def changed_fields(path: pathlib.Path, config: ConfigDict) -> list[tuple[str, str]]:
    """(field, "field: old → new") of each in which a run's config.json differs from a config."""
    found = _differences(_stored(path), _plain(config), _defaults(config))
    # Earlier versions wrote down what a task has no use for.
    return [(name, text) for name, text in found if has_use_for(config, name)]


def _stored(path: pathlib.Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"workdir: {path} is damaged ({type(error).__name__}: {error}); put a whole one back, "
            "or choose another --workdir"
        ) from error


def claim_workdir(folder: pathlib.Path, config: ConfigDict) -> None:
    """Makes the folder, which `check_workdir` has passed, and writes `config.json`."""
    if jax.process_index() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(_plain(config), indent=2) + "\n"
        write_whole(folder / "config.json", text, durable=True)


def fingerprint(tree: Any) -> str:
    """A digest of every array of a tree, which tells one teacher from another."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        array = np.asarray(leaf)
        digest.update(repr((array.shape, array.dtype.name)).encode())
        # As bytes, because bfloat16 is no type that Python's buffers know.
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:16]


def _defaults(config: ConfigDict) -> dict[str, Any]:
    """Every field of such a config as it is where nobody sets it."""
    return _plain(default_config(config.task["name"], config.model["name"], settings={}))


def leaves_of(config: ConfigDict) -> dict[str, Any]:
    """Every field that is no section, such as "optim.lr", and its value in config.json."""
    return flax.traverse_util.flatten_dict(_plain(config), sep=".")


def _plain(config: ConfigDict) -> dict[str, Any]:
    return json.loads(config.to_json())


def _differences(old: Any, new: Any, usual: Any, prefix: str = "") -> list[tuple[str, str]]:
    """(field, "field: old → new") of every field in which two configs differ.

    usual: the defaults. A field that is newer than the old config does what the run did without it
    where it has its default, so only another value is a difference.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        usual = usual if isinstance(usual, dict) else {}
        found = []
        for name in sorted({*old, *new}):
            default = usual.get(name)
            if name not in old and (new[name] == default or not new[name]):
                continue
            # A section that is newer than the old config has each of its fields so.
            before = old.get(name, {} if isinstance(new.get(name), dict) else None)
            found += _differences(before, new.get(name), default, f"{prefix}{name}.")
        return found
    name = prefix.rstrip(".")
    return [] if old == new else [(name, f"{name}: {old!r} → {new!r}")]

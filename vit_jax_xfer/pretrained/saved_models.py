"""Models that this project saved: a model directory, or one .safetensors file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import numpy as np

from vit_jax_xfer.pretrained.description import describe, from_description
from vit_jax_xfer.pretrained.lazy_arrays import one_line_errors

# The key of a .safetensors file's metadata under which the model is written down.
_KEY = "vit_jax_xfer"
# Fields that don't change a model's variables, so that a caller may set them.
_RUNTIME = (
    "dtype",
    "attention",
    "blockwise_above",
    "remat",
    "drop_path",
    "preprocessing",
    "patch_stride",
)


def is_saved_model(path: Path) -> bool:
    """Whether a path is a model that this project wrote."""
    if (path / "model.json").is_file():
        return True
    return path.suffix == ".safetensors" and path.is_file() and _metadata(path) is not None


def load_saved_model(path: Path, given: Mapping[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
    """The model and its variables, float32 numpy arrays.

    given: the caller's arguments, of which only fields that change no variable may be set.
    """
    given = {name: value for name, value in given.items() if value is not None}
    fixed = [name for name in given if name not in _RUNTIME]
    if fixed:
        raise ValueError(f"{path}: a model of this project has its fields; drop {', '.join(fixed)}")
    if path.is_dir():
        from vit_jax_xfer.storage.checkpoints import load_model

        variables, description = load_model(path)
    else:
        variables, description = _read_file(path)
    model = from_description(description).clone(**given)
    return model, jax.tree.map(lambda x: np.asarray(x, np.float32), variables)


def save_file(path: Path, model: nn.Module, variables: Mapping[str, Any]) -> None:
    """Writes a model as one .safetensors file, which holds its description too.

    The file appears when it is complete.
    """
    flat = flax.traverse_util.flatten_dict(dict(variables), sep="/")
    write_safetensors(path, flat, {_KEY: json.dumps(describe(model))})


def write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """{name: array} as an .npz file, beside its place first, so that it is never half."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, **arrays)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_safetensors(
    path: Path, arrays: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """{name: array} as a .safetensors file, beside its place first, so that it is never half."""
    try:
        from safetensors.numpy import save_file as save
    except ImportError as error:
        raise ImportError(f"{path}: needs `pip install vit_jax_xfer[hf]`") from error
    partial = path.with_name(f".{path.name}.partial")
    try:
        contiguous = {name: np.ascontiguousarray(x) for name, x in arrays.items()}
        save(contiguous, partial, dict(metadata or {}))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _metadata(path: Path) -> str | None:
    """What this project wrote into a file; None for other people's and for damaged ones."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        return None
    try:
        with safe_open(path, framework="np") as file:
            return (file.metadata() or {}).get(_KEY)
    except (SafetensorError, OSError):
        return None  # reading it as a foreign file will say what is wrong


def _read_file(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    from safetensors import safe_open

    with one_line_errors(str(path)), safe_open(path, framework="np") as file:
        flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        description = json.loads(file.metadata()[_KEY])
    return flax.traverse_util.unflatten_dict(flat, sep="/"), description

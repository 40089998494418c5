"""Models that this project saved: a folder, a .safetensors or .npz file, a run's checkpoint."""

import json
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import numpy as np

from vit_jax_xfer.arguments.given_arrays import check_variables
from vit_jax_xfer.arguments.listed_values import listed
from vit_jax_xfer.local_paths import FILE_ENDINGS, local_path
from vit_jax_xfer.models.protocol import Network
from vit_jax_xfer.models.registry import checked_fields
from vit_jax_xfer.pretrained.description import describe, from_description
from vit_jax_xfer.pretrained.fresh_head import with_classes
from vit_jax_xfer.pretrained.lazy_arrays import one_line_errors
from vit_jax_xfer.pretrained.weight_files import open_weights
from vit_jax_xfer.storage.checkpoint_model import (
    is_checkpoint,
    load_checkpoint_model,
    locate_model,
    read_description,
)
from vit_jax_xfer.whole_files import write_npz, written_whole

# Under which a model is written down in a .safetensors file's metadata, or as a .npz file's array.
_KEY = "vit_jax_xfer"
_WRITTEN = (".safetensors", ".npz")
# Fields that don't change a model's variables, so that a caller may set them.
_RUNTIME = (
    "dtype",
    "product_dtype",
    "attention",
    "blockwise_above",
    "remat",
    "drop_path",
    "preprocessing",
    "class_names",
    "patch_stride",
)


def is_saved_model(path: Path) -> bool:
    """Whether a path is a model that this project wrote."""
    if path.is_dir():
        return locate_model(path) is not None
    return path.is_file() and _written_down(path) is not None


def saved_network(path: Path) -> Network:
    """The network of a model that this project wrote, of which no array is read."""
    with one_line_errors(str(path)):
        return from_description(_description(path))


def _description(path: Path) -> dict[str, Any]:
    """What is written of a model beside its arrays; {} where this project wrote none."""
    folder = locate_model(path) if path.is_dir() else None
    if folder is not None:
        return read_description(folder)
    written = _written_down(path) if path.is_file() else None
    return _as_object(path, written) if written else {}


def save(
    path: str | os.PathLike[str],
    model: nn.Module,
    variables: Mapping[str, Any],
    class_names: Sequence[str] | None = None,
) -> None:
    """Writes a model so that `load_pretrained(path)` gives it and its variables back.

    path: ends in .safetensors or .npz for one file, else a folder (Orbax); a model that is there is
    replaced when the new one is complete. class_names: of its outputs, in order, which the loaded
    model has as `class_names`; None = the model's own. ValueError for names or variables that are
    not the model's, and for a path of another kind of file.
    """
    path = local_path(path, "path")
    check_form(path, "path")
    if class_names is not None:
        model = with_class_names(model, class_names)
    description = describe(model)
    check_variables("variables", variables)
    _check_arrays(model, variables)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(path, model, variables)
    elif path.suffix == ".npz":
        # As float32, because numpy's files hold no bfloat16; so it is loaded anyway.
        arrays = {name: np.asarray(x, np.float32) for name, x in _flat(variables).items()}
        write_npz(path, {**arrays, _KEY: np.array(json.dumps(description))})
    else:
        from vit_jax_xfer.storage.checkpoints import save_model

        save_model(path, dict(variables), description)


def check_form(path: Path, field: str) -> None:
    """ValueError, naming the field, for a file of a kind that isn't written."""
    ending = path.suffix
    if ending.lower() in FILE_ENDINGS and ending not in _WRITTEN:
        hint = "; vjx.export_onnx writes ONNX" if ending.lower() == ".onnx" else ""
        raise ValueError(
            f"{field}: {path} ends in {ending}; give .safetensors, .npz or a folder{hint}"
        )


def _check_arrays(model: nn.Module, variables: Mapping[str, Any]) -> None:
    """ValueError that names an array which a model wants and has not, or the other way round."""
    wanted = _flat(jax.eval_shape(model.init_variables, jax.random.key(0)))
    found = _flat(variables)
    for name in sorted({*wanted, *found}):
        shapes = [tree[name].shape if name in tree else None for tree in (found, wanted)]
        if shapes[0] != shapes[1]:
            has, wants = ("no such array" if shape is None else str(shape) for shape in shapes)
            raise ValueError(f"variables: {name} is {has}, and the model has {wants}")


def with_class_names(model: nn.Module, class_names: Sequence[str]) -> nn.Module:
    """The network with names for its outputs. ValueError for names that don't fit."""
    names = listed("class_names", class_names)
    if len(names) != model.num_classes:
        raise ValueError(
            f"class_names: got {len(names)}, and the model has {model.num_classes} classes"
        )
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        raise ValueError(f"class_names: got {wrong[0]!r}, expected strings")
    return model.clone(class_names=tuple(map(str, names)))


def load_saved_model(
    path: Path, given: Mapping[str, Any], seed: int = 0
) -> tuple[nn.Module, dict[str, Any]]:
    """The model and its variables, float32 numpy arrays.

    given: the caller's arguments, of which only fields that change no variable may be set, besides
    num_classes (`with_classes`, with this seed), and of a checkpoint `weights`: "params" or "ema".
    ValueError naming a field that may not be set, or not so.
    """
    folder = locate_model(path) if path.is_dir() else None
    weights = None
    if folder is not None and is_checkpoint(folder):
        given = dict(given)
        weights = given.pop("weights", None)
    given = {name: value for name, value in given.items() if value is not None}
    num_classes, names = given.pop("num_classes", None), given.pop("class_names", None)
    fixed = [name for name in given if name not in _RUNTIME]
    if fixed:
        raise ValueError(f"{path}: a model of this project has its fields; drop {', '.join(fixed)}")
    if folder is None:
        variables, description = _read_file(path)
    elif is_checkpoint(folder):
        variables, description = load_checkpoint_model(folder, weights)
    else:
        from vit_jax_xfer.storage.checkpoints import load_model

        variables, description = load_model(folder)
    with one_line_errors(str(path)):
        model = from_description(description)
        if num_classes not in (None, model.num_classes):
            model, variables = with_classes(model, variables, num_classes, seed)
    model = model.with_fields(**checked_fields(type(model), given))
    if names is not None:
        model = with_class_names(model, names)
    return model, jax.tree.map(lambda x: np.asarray(x, np.float32), variables)


def save_file(path: Path, model: nn.Module, variables: Mapping[str, Any]) -> None:
    """Writes a model as one .safetensors file, which holds its description too.

    The file appears when it is complete.
    """
    write_safetensors(path, _flat(variables), {_KEY: json.dumps(describe(model))})


def write_safetensors(
    path: Path, arrays: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """{name: array} as a .safetensors file, beside its place first, so that it is never half.

    OSError naming it where it can't be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file as save

    with written_whole(path) as partial:
        contiguous = {name: np.ascontiguousarray(x) for name, x in arrays.items()}
        try:
            save(contiguous, partial, dict(metadata or {}))
        except SafetensorError as error:  # of a full disk too
            raise OSError(f"{path}: {error}") from error


def _flat(variables: Mapping[str, Any]) -> dict[str, Any]:
    return flax.traverse_util.flatten_dict(dict(variables), sep="/")


def _written_down(path: Path) -> str | None:
    """The model that this project wrote into a file, as JSON; None for other files."""
    if path.suffix.lower() == ".npz":
        try:
            stored = open_weights(path).get(_KEY)
            return None if stored is None else str(stored.read())
        except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error):
            return None  # as in `_metadata`
    return _metadata(path) if path.suffix.lower() == ".safetensors" else None


def _metadata(path: Path) -> str | None:
    """What this project wrote into a file; None for other people's and for damaged ones."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return (file.metadata() or {}).get(_KEY)
    except (SafetensorError, OSError):
        return None  # reading it as a foreign file will say what is wrong


def _read_file(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    if path.suffix.lower() == ".npz":
        with one_line_errors(str(path)):
            flat = {name: stored.read() for name, stored in open_weights(path).items()}
        description = _as_object(path, str(flat.pop(_KEY)))
    else:
        from safetensors import safe_open

        with one_line_errors(str(path)), safe_open(path, framework="np") as file:
            flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            description = _as_object(path, file.metadata()[_KEY])
    with one_line_errors(str(path)):
        return flax.traverse_util.unflatten_dict(flat, sep="/"), description


def _as_object(path: Path, written: str) -> dict[str, Any]:
    with one_line_errors(f"{path}: its description"):
        description = json.loads(written)
        if not isinstance(description, dict):
            raise ValueError(f"a JSON {type(description).__name__}, expected an object")
        return description

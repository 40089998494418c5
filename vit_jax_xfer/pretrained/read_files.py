"""Everybody's checkpoints as {name: array} of one network, whatever a publisher saved around it.

A source is opened (weight_files.py), then wrappers, prefixes and other networks are taken off.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vit_jax_xfer.pretrained.lazy_arrays import LazyState
from vit_jax_xfer.pretrained.loading_notes import note
from vit_jax_xfer.pretrained.networks_in_file import unwrap
from vit_jax_xfer.pretrained.weight_files import open_directory, open_weights, read_json

CONFIGURATIONS = ("config.json", "open_clip_config.json")


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

    source: a file (.npz, .safetensors, .msgpack, PyTorch's), a directory of Hugging Face, Orbax or
        T5X, or a mapping of numpy, jax or torch arrays, nested or not. Wrappers ({"model": …}),
        prefixes ("module.") and known networks beside it (text towers, projectors, optimizers) are
        taken off.
    weights: which network, where there are several: "student", "teacher", "model_ema",
        "momentum_encoder", …, or what its names begin with; None = the usual one, which a
        note says where there are several.
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
            _say_what_is_not_read(path)
    arrays, left_out = unwrap(content, weights, where)
    return Checkpoint(LazyState(arrays, where), config, preprocessor, where, left_out, open_clip)


def _say_what_is_not_read(path: Path) -> None:
    """A file is read alone, whatever its folder says of the network."""
    beside = [name for name in CONFIGURATIONS if (path.parent / name).exists()]
    if beside:
        note(
            f"{path}: {' and '.join(beside)} beside it {'are' if len(beside) > 1 else 'is'} not "
            "read; pass the folder to have it read"
        )


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

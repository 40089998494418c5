"""Everybody's checkpoints as {name: array}, without running anything that a file holds."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vit_jax_xfer.pretrained.directories import open_directory, read_json
from vit_jax_xfer.pretrained.lazy import LazyState
from vit_jax_xfer.pretrained.readers import open_weights
from vit_jax_xfer.pretrained.wrappers import unwrap


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a file, a directory or a mapping holds of one network.

    state: {publisher's name: array}, read on access.
    config, preprocessor: a Hugging Face directory's config.json and preprocessor_config.json.
    where: what errors call the source.
    left_out: what stood beside the network, such as "momentum_encoder.* (152 names)".
    """

    state: LazyState
    config: dict[str, Any] | None
    preprocessor: dict[str, Any] | None
    where: str
    left_out: tuple[str, ...]


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
    config = preprocessor = None
    if isinstance(source, LazyState):
        content, where = source.stored, source.where
    elif isinstance(source, Mapping):
        content, where = source, "source"
    else:
        path, where = Path(source), str(source)
        if path.is_dir():
            content = open_directory(path)
            config = read_json(path / "config.json")
            preprocessor = read_json(path / "preprocessor_config.json")
        else:
            content = open_weights(path)
    arrays, left_out = unwrap(content, weights, where)
    return Checkpoint(LazyState(arrays, where), config, preprocessor, where, left_out)


def read_state(source: str | os.PathLike[str] | Mapping[str, Any]) -> LazyState:
    """The weights alone of `read_checkpoint`."""
    return read_checkpoint(source).state

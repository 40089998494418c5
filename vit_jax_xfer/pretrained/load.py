"""Weights of other people, and of this project's own runs, as a model and its variables."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax_xfer.pretrained import mae, vit
from vit_jax_xfer.pretrained.description import from_description
from vit_jax_xfer.pretrained.family import Family, choose_family
from vit_jax_xfer.pretrained.files import read_state
from vit_jax_xfer.pretrained.names import State

_FAMILIES: dict[str, Family] = {family.name: family for family in (mae.FAMILY, vit.FAMILY)}

FAMILIES: tuple[str, ...] = tuple(sorted(_FAMILIES))


def load_pretrained(
    source: str | os.PathLike[str] | Mapping[str, Any], family: str | None = None, **fields: Any
) -> tuple[nn.Module, dict[str, Any]]:
    """A model and its variables (float32 jax arrays), whole, from a file or a mapping.

    source: .pth, .pt, .bin, .safetensors, .npz, a mapping {publisher's name: array}, or a model
        directory that this project wrote.
    family: one of FAMILIES; None = told from the names.
    fields: the model's fields that shapes can't tell or that should differ: num_heads, image_size
        (positions are resized), num_classes=0 (drops the head), dtype, scan, drop_path, …;
        family "mae" also takes decoder=False (the encoder alone).
    ValueError when anything in the file is left over, missing or of another shape, when the family
    can't be told, and when a field is unknown or disagrees with the file.
    """
    if not isinstance(source, Mapping) and (Path(source) / "model.json").is_file():
        return _load_own(Path(source), family, fields)
    state = read_state(source)
    return choose_family(_FAMILIES, state, family).load(state, fields)


def to_publisher_names(variables: Mapping[str, Any], family: str) -> State:
    """{publisher's name: numpy array} of a model's variables: what `load_pretrained` takes."""
    return choose_family(_FAMILIES, {}, family).save(variables)


def _load_own(
    path: Path, family: str | None, fields: Mapping[str, Any]
) -> tuple[nn.Module, dict[str, Any]]:
    """A model directory of this project, which knows its family and all its fields."""
    from vit_jax_xfer.storage.checkpoints import load_model

    given = [*(["family"] if family else []), *fields]
    if given:
        raise ValueError(f"{path}: a model of this project has its fields; drop {', '.join(given)}")
    variables, description = load_model(path)
    variables = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), variables)
    return from_description(description), variables

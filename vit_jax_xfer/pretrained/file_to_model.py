"""Weights of other people, and of this project's own runs, as a model and its variables."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from vit_jax_xfer.pretrained import filter_vit, lift
from vit_jax_xfer.pretrained.families import FAMILIES as _FAMILIES
from vit_jax_xfer.pretrained.files import read_checkpoint
from vit_jax_xfer.pretrained.fill import fill
from vit_jax_xfer.pretrained.recognise import Recognised, recognise
from vit_jax_xfer.pretrained.saved_models import is_saved_model, load_saved_model

# Families that are no vision transformers: whether a file is one, and what network is in it.
_OTHERS = {
    "filter_vit": (filter_vit.is_filter_vit, filter_vit.recognise_filter_vit),
    "lift": (lift.is_lift, lift.recognise_lift),
}

FAMILIES: tuple[str, ...] = tuple(sorted(_FAMILIES))


def load_pretrained(
    source: str | os.PathLike[str] | Mapping[str, Any],
    family: str | None = None,
    weights: str | None = None,
    **fields: Any,
) -> tuple[nn.Module, dict[str, Any]]:
    """A model and its variables (float32 jax arrays), whole, from a file or a mapping.

    source: .pth, .pt, .bin, .safetensors, .npz, a Hugging Face directory, a mapping {publisher's
        name: array}, or a model directory or .safetensors file that this project wrote.
    family: one of FAMILIES; None = told from the names.
    weights: which network, where a file holds several: "teacher", "student", "model_ema",
        "momentum_encoder", …; None = the usual one.
    fields: the model's fields that shapes can't tell or that should differ: num_heads, image_size
        (positions are resized), num_classes=0 (drops the head), dtype, scan, drop_path, …;
        family "mae" also takes decoder=False (the encoder alone), and "lift" needs patch_size.
    ValueError when anything in the file is left over, missing or of another shape, when the family
    can't be told, and when a field is unknown or disagrees with the file.
    """
    model, variables, _ = load_on_host(source, family, weights, **fields)
    return model, _on_device(variables)


def load_on_host(
    source: str | os.PathLike[str] | Mapping[str, Any],
    family: str | None = None,
    weights: str | None = None,
    **fields: Any,
) -> tuple[nn.Module, dict[str, Any], Recognised | None]:
    """As `load_pretrained`, but with numpy arrays, so that the caller chooses where they go.

    Besides, what the file was recognised as; None for this project's own models.
    """
    if not isinstance(source, Mapping) and is_saved_model(Path(source)):
        given = {"family": family, "weights": weights, **fields}
        return *load_saved_model(Path(source), given), None
    checkpoint = read_checkpoint(source, weights)
    other = family
    if family is None:
        other = next((name for name, (fits, _) in _OTHERS.items() if fits(checkpoint.state)), None)
    if other in _OTHERS:
        found = _OTHERS[other][1](checkpoint, fields)
    else:
        found = recognise(checkpoint, family, fields)
    return found.model, fill(found), found


def _on_device(tree: dict[str, Any]) -> dict[str, Any]:
    """The same as jax arrays; each numpy array is let go at once, so that one is there twice."""
    for name, value in tree.items():
        tree[name] = _on_device(value) if isinstance(value, dict) else jnp.asarray(value)
    return tree

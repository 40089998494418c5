"""Detectors and networks of segmentation as commands open them, and what they see."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np

from vit_jax_xfer.data.objects import NO_OBJECTS
from vit_jax_xfer.data.sources.upright_photo import read_photograph
from vit_jax_xfer.data.target_arrays import BOXES, TargetForm
from vit_jax_xfer.data.transforms import Pipeline, parse
from vit_jax_xfer.pretrained.file_to_model import load_pretrained
from vit_jax_xfer.tasks.copying_runs import copying_run

_WANTED = {"boxes": "a detector", "masks": "a network of semantic segmentation"}


def open_dense_network(
    source: str, predicts: str, family: str | None = None, **fields: Any
) -> tuple[Any, Any]:
    """A network that predicts "boxes" or "masks", and its variables, as `load_pretrained` reads it.

    ValueError for one that predicts something else, and for one that computes with a teacher's
    attention, which is not in its file.
    """
    run = copying_run(source)
    if run is not None:
        raise ValueError(
            f"{source} computes with its teacher's attention, which isn't in it; its figures are "
            f"those of its run, {run / 'result.json'}"
        )
    model, variables = load_pretrained(source, family, **fields)
    if model.predicts != predicts:
        raise ValueError(f"{source} predicts {model.predicts}, expected {_WANTED[predicts]}")
    return model, variables


def names_of_classes(model: Any) -> tuple[str, ...]:
    """The names of a network's classes, numbers where they have none."""
    return tuple(model.class_names or map(str, range(model.num_classes)))


@dataclasses.dataclass(frozen=True, eq=False)
class PreparedPhotograph:
    """file: its path. photo: uint8 (h, w, 3). rows: as a row of an evaluation's batch, in bytes."""

    file: str
    photo: np.ndarray
    rows: dict[str, np.ndarray]


def prepare_photograph(file: str | os.PathLike[str], pipeline: str) -> PreparedPhotograph:
    """Reads and prepares a photograph. BrokenImage or OSError where it can't be read."""
    photo = read_photograph(Path(file))
    parsed: Pipeline = parse(pipeline, TargetForm(BOXES, max_boxes=1, whole=True)).in_bytes()
    found = parsed({"image": photo, "objects": NO_OBJECTS}, np.random.default_rng(0))
    rows = {name: found[name] for name in ("image", "content", "original")}
    return PreparedPhotograph(os.fspath(file), photo, rows)


def stacked(prepared: list[PreparedPhotograph], batch_size: int) -> dict[str, np.ndarray]:
    """Their rows as one batch, filled up with zeros so that one compilation serves all."""
    found = {}
    for name, first in prepared[0].rows.items():
        found[name] = np.zeros((batch_size, *first.shape), first.dtype)
        found[name][: len(prepared)] = [one.rows[name] for one in prepared]
    return found

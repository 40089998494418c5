"""The evaluation sets of a run: where each comes from, and how its classes stand to the model's."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from vit_jax_xfer import data
from vit_jax_xfer.data.finish import Finish
from vit_jax_xfer.data.row_maker import FIRST, readable_example
from vit_jax_xfer.data.sources.class_match import ClassMatch, match_classes, rename_classes
from vit_jax_xfer.data.target_arrays import VOID

LOGITS = ("all", "present")


@dataclasses.dataclass
class EvaluationSet:
    """Images of a set, prepared, and its classes matched to the model's by name.

    field: its section of the config, for messages. prefix: of its metrics' names, "real/", or ""
    where it is the only set. logits: whether "all" of the model's classes can be predicted, or only
    those "present" in the set.
    """

    field: str
    prefix: str
    source: data.Source
    pipeline: str
    batch_size: int
    logits: str
    model_classes: tuple[str, ...]

    @functools.cached_property
    def match(self) -> ClassMatch:
        """Its classes among the model's. ValueError, naming the field, for one that is not."""
        try:
            return match_classes(self.source.class_names, self.model_classes)
        except ValueError as error:
            raise ValueError(
                f"{self.field}.source: {self.source.name}: {error}; rename it, or give "
                f"{self.field}.class_map"
            ) from None

    def labels(self, rows: Mapping[str, np.ndarray]) -> np.ndarray:
        """The labels of a batch's rows, as the model numbers its classes; int32, 0 on padding."""
        try:
            return self.match(np.where(rows["mask"], rows["label"], 0))
        except ValueError as error:
            raise ValueError(f"{self.field}.source: {self.source.name}: {error}") from None

    def in_models_numbers(self, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What of a batch's rows tells classes, as the model numbers them.

        Boxes stay as they are: those of an evaluation come from the source.
        """
        if "label_map" in rows:
            table = np.full(256, VOID, np.uint8)
            table[: len(self.match.table)] = self.match.table
            return {"label_map": table[rows["label_map"]]}
        return {} if "boxes" in rows else {"label": self.labels(rows)}

    def scored(self, num_classes: int) -> np.ndarray | None:
        """(num_classes,) bool: the outputs that can be predicted; None for all."""
        return self.match.present(num_classes) if self.logits == "present" else None

    @property
    def finish(self) -> Finish:
        """What its pipeline leaves to the device."""
        return Finish.of(self.pipeline)

    @property
    def identity(self) -> tuple[Any, ...]:
        """What its figures hang on beside the network; plain values."""
        source = self.source
        names = source.name, len(source), source.class_names
        return (self.prefix, *names, self.pipeline, self.logits)

    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, 3) of a prepared image."""
        return prepared_shape(self.source, self.pipeline, f"{self.field}.pipeline")

    def said(self) -> str:
        """How its classes stand to the model's; "" where they are all of them, by name."""
        said = "; classes have no names and are matched by number" if self.match.numbers else ""
        if lacking := self.match.lacking:
            names = ", ".join(map(repr, lacking[:3])) + (", …" if len(lacking) > 3 else "")
            what = "not scored" if self.logits == "present" else "scored all the same"
            said += f"; it lacks {len(lacking)} of the model's classes, which are {what}: {names}"
        return said


def open_evaluation_sets(
    config: ConfigDict, model_classes: tuple[str, ...]
) -> dict[str, EvaluationSet]:
    """The sets of `config.eval.sets` by name; without any, that of `config.eval` as "eval".

    What a named set leaves at "" or 0 is `config.eval`'s. ValueError, naming the field.
    """
    usual = {name: config.eval[name] for name in ("source", "split", "pipeline", "batch_size")}
    usual |= {name: config.eval[name] for name in ("classes", "class_map", "logits")}
    named = config.eval.sets
    if not named:
        return {"eval": _open_set(config, "eval", "", usual, model_classes)}
    found = {}
    for name, section in named.items():
        fields = {key: section[key] or value for key, value in usual.items()}
        prefix = f"{name}/" if len(named) > 1 else ""
        found[name] = _open_set(config, f"eval.sets.{name}", prefix, fields, model_classes)
    return found


def _open_set(
    config: ConfigDict,
    field: str,
    prefix: str,
    fields: dict[str, Any],
    model_classes: tuple[str, ...],
) -> EvaluationSet:
    if fields["logits"] not in LOGITS:
        raise ValueError(f"{field}.logits: {fields['logits']!r} is none of {', '.join(LOGITS)}")
    source = open_for(
        field,
        fields["source"] or config.data.source,
        fields["split"],
        config,
        classes=fields["classes"] or config.data.classes,
        class_map=fields["class_map"],
    )
    batch_size = fields["batch_size"] or config.batch_size
    return EvaluationSet(
        field, prefix, source, fields["pipeline"], batch_size, fields["logits"], model_classes
    )


def open_for(
    field: str,
    spec: str,
    split: str,
    config: ConfigDict,
    *,
    classes: str = "",
    class_map: str = "",
    per_class: int = 0,
) -> data.Source:
    """Opens a source for a section of a config. ValueError that says which field was wrong.

    classes: as in config.data, "" = all. class_map: from the set's names to the model's, by which
    the classes are then chosen.
    """
    inherited = classes == config.data.classes
    takes_folder = field == "data" or spec.startswith("tfds:")
    folder = (config.data.tfds_dir or None) if takes_folder else None
    try:
        source = data.open_source(spec, split, data_dir=folder)
        if class_map:
            source = rename_classes(source, class_map)
        return data.choose_examples(
            source,
            classes=classes,
            # A set may lack some of the model's classes, but not of those chosen for itself.
            some_classes=field.startswith("eval") and inherited,
            per_class=per_class or None,
            subset_seed=config.data.subset_seed,
        )
    except (ValueError, OSError) as error:
        kind = str(error).partition(":")[0]
        if kind == "classes":
            where = "data." if inherited else f"{field}."
        else:
            where = f"{field}." if kind == "class_map" else f"{field}.source: "
        raise ValueError(f"{where}{error}") from None


def prepared_shape(source: data.Source, pipeline: str, field: str) -> tuple[int, int, int]:
    """(H, W, 3) of a source's image through a pipeline. ValueError that names its field."""
    try:
        return first_readable(source, pipeline)["image"].shape
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None


def first_readable(source: data.Source, pipeline: str = "to_float") -> dict[str, Any]:
    """The first of a source's examples that can be read, prepared. ValueError without one."""
    first = range(min(len(source), FIRST))
    return readable_example(source, data.parse_pipeline(pipeline), first, np.random.default_rng(0))

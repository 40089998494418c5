"""What a family of published checkpoints adds to what its files tell."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from vit_jax_xfer.models.preprocessing import Preprocessing
from vit_jax_xfer.pretrained.reading import Fields, Reading


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What speaks for a family: the file's dialect, its fields, itself, and what stood beside."""

    dialect: str
    fields: Fields
    reading: Reading
    beside: tuple[str, ...] = ()

    @property
    def headless(self) -> bool:
        return not self.fields["num_classes"] and not self.reading.has("head_norm/scale")


@dataclasses.dataclass(frozen=True)
class Family:
    """One publisher's pre-training.

    name: what `load_pretrained(family=…)` takes.
    fits: whether a file may be this family's; where several fit, the first in FAMILIES is taken.
    needs: fields that every file of the family has, {field: value}, for a clear error.
    defaults: fields that no shape tells. choose: those that the file's evidence decides.
    preprocessing: how the publisher prepares images; `size` is replaced by the file's.
    prefer: marks of the publisher's own names, for export; timm: marks of timm's names for it.
    packed: whether the publisher keeps gate and value of a gated MLP as one array.
    apart: more marks for a gated MLP that is not packed, {what `names` is: marks}.
    heads: number of heads by width, where it is not one for 64 channels.
    """

    name: str
    fits: Callable[[Evidence], bool]
    source: str
    preprocessing: Preprocessing
    needs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    choose: Callable[[Evidence], Fields] = lambda evidence: {}
    prefer: tuple[str, ...] = ()
    timm: tuple[str, ...] = ()
    packed: bool = False
    apart: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    heads: Mapping[int, int] = dataclasses.field(default_factory=dict)

    def fields_for(self, evidence: Evidence) -> Fields:
        """The family's fields for a file."""
        by_dialect = _BY_DIALECT.get(evidence.dialect, {})
        return {**by_dialect, **self.defaults, **self.choose(evidence)}

    def check(self, evidence: Evidence) -> None:
        """ValueError when a file asked for as this family's can't be one."""
        for field, value in self.needs.items():
            found = evidence.fields.get(field)
            wrong = not found if value is True else found != value
            if wrong:
                raise ValueError(
                    f"family: {self.name!r} has {field}={value!r}, but the file has {found!r}; "
                    "leave family out to have it told from the names"
                )


# How each way of naming fits positions to another grid, and transformers' usual epsilon.
_BY_DIALECT: dict[str, Fields] = {
    "timm": {"position_resize": "bicubic_antialias"},
    "openai": {"position_resize": "bicubic_antialias"},
    "flax": {"position_resize": "bilinear_corners"},
    "hf_vit": {"position_resize": "bicubic", "norm_eps": 1e-12, "relative_resize": "bilinear"},
    "hf_dinov2": {"position_resize": "bicubic"},
    "hf_dinov3": {},
    "hf_clip": {"position_resize": "bicubic"},
}

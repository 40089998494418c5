"""What each filter stage of a FilterViT or DropoutViT kept, and where on the image: arrays."""

import copy
import dataclasses
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax_xfer.explain.cells import Cells, stage_cells
from vit_jax_xfer.models.extract import extract
from vit_jax_xfer.models.filter import selection


@dataclasses.dataclass(frozen=True, eq=False)
class StageMask:
    """What one filter stage chose on one image.

    kept: (K,) int32, ascending, row by row on the map (h, w) = cells.shape.
    importance: (h, w) float32, None where tokens are drawn and not scored.
    """

    cells: Cells
    kept: np.ndarray
    importance: np.ndarray | None

    @property
    def mask(self) -> np.ndarray:
        """Which pixels of the map were kept, (h, w) bool."""
        mask = np.zeros(self.cells.shape, bool)
        mask.reshape(-1)[self.kept] = True
        return mask


class KeptTokens:
    """Images (B, H, W, 3) float32, prepared for the network → the stages' choices on each image.

    seed: of a network that draws its tokens, for another draw than that of its evaluation; all
    images share it, as they do there.
    ValueError for a network that chooses no tokens, and for a seed where none is drawn.
    """

    def __init__(self, model: Any, variables: Any, seed: int | None = None) -> None:
        check_model(model, seed)
        # What a network draws anew at every evaluation has no picture; the fixed draw has.
        self.model = model.clone(random_evaluation=False)
        self.seed = seed
        self._variables = variables
        self._choose = jax.jit(self._choices)

    def with_variables(self, variables: Any) -> Self:
        """The same with other weights; what is compiled is shared."""
        other = copy.copy(self)
        other._variables = variables
        return other

    def __call__(self, images: np.ndarray) -> list[tuple[StageMask, ...]]:
        cells = stage_cells(self.model, images.shape[1:3])
        kept = None if self.seed is None else self._draw(cells, len(images))
        chosen = jax.device_get(self._choose(self._variables, jnp.asarray(images), kept))
        return [
            tuple(
                StageMask(where, kept[i], None if importance is None else importance[i])
                for where, (kept, importance) in zip(cells, chosen, strict=True)
            )
            for i in range(len(images))
        ]

    def _choices(self, variables: Any, images: jax.Array, kept: Any) -> list[tuple[Any, Any]]:
        found = extract(self.model, variables, images, kept=kept).filters
        return [(stage.kept, stage.importance) for stage in found]

    def _draw(self, cells: tuple[Cells, ...], batch: int) -> list[jax.Array]:
        key = jax.random.key(self.seed)
        drawn = []
        for place, where in enumerate(cells):
            tokens = where.shape[0] * where.shape[1]
            number = selection.number_kept(self._share(place, where.stage), tokens)
            stage_key = jax.random.fold_in(key, place)
            drawn.append(selection.random(stage_key, batch, tokens, number, shared=True))
        return drawn

    def _share(self, place: int, stage: int) -> int | float:
        keep = self.model.keep
        if isinstance(keep, tuple):
            return keep[place]
        return self.model.stages[stage].keep if keep is None else keep


def check_model(model: Any, seed: int | None = None) -> None:
    """ValueError, in one line, for a network without choices, and a seed that nothing takes."""
    if "filter" not in model.collections:
        raise ValueError(
            f"a {type(model).__name__} has no filter stages; choose a FilterViT or a DropoutViT"
        )
    if model.attend != "kept":
        raise ValueError(f"attend: {model.attend!r} chooses no tokens, so that none can be shown")
    if not model.filter_stages:
        raise ValueError("this network has no filter stages: none of its stages is a 'filter'")
    if seed is not None and model.choose != "random":
        raise ValueError("seed: this network scores its tokens; only a DropoutViT draws them")

"""What one query looks at in every block and head of a network: arrays, of any batch."""

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax_xfer.explain.cells import Axis, Cells, stage_cells
from vit_jax_xfer.explain.kept_tokens import check_model
from vit_jax_xfer.explain.network_view import map_cells
from vit_jax_xfer.explain.overlay import Box
from vit_jax_xfer.models.extract import encoder_of, extract, resolve_layers

Point = tuple[float, float]  # x, y in pixels
# Of one block, arrays with a leading axis over images.
_Looks = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True, eq=False)
class BlockView:
    """Where the query looks in one block, on one image. float32, raw shares.

    maps: (H, h, w), its attention to each patch; None where it is a patch that this block dropped.
    prefix: (H, P), to each token before the patches; with them a head's shares sum to 1.
    registers: (R, h, w), where each register looks, means over heads. kept: (h, w) bool, the
    patches that take part in the block, None = all.
    """

    name: str
    cells: Cells
    maps: np.ndarray | None
    prefix: np.ndarray
    registers: np.ndarray
    kept: np.ndarray | None = None


class AttentionViews:
    """Images (B, H, W, 3) float32, prepared for the network → a `BlockView` a block of each.

    layers: which blocks (negative counts from the end), None = all. The query is the class token,
    of a network without one the mean over patches, or the patch at a point. Of a FilterViT or
    DropoutViT the layers of its filter stages are shown, whose patches are the kept cells.
    ValueError, naming the argument, for a network without attention maps and for layers that it
    has not.
    """

    def __init__(self, model: Any, variables: Any, layers: Sequence[int] | None = None) -> None:
        self.model, self._variables = encoder_of(model, variables)
        self._filters = "filter" in self.model.collections
        if self._filters:
            check_model(self.model)
            self.model = self.model.clone(random_evaluation=False)
        elif "attention" not in self.model.collections:
            raise ValueError(f"a {type(self.model).__name__} has no attention from patch to patch")
        self._blocks = self._all_blocks()
        self.layers = resolve_layers(layers, len(self._blocks))
        self._look = jax.jit(
            self._filter_looks if self._filters else self._looks, static_argnames="clicked"
        )

    def with_variables(self, variables: Any) -> Self:
        """The same with other weights of the encoder; what is compiled is shared."""
        other = copy.copy(self)
        other._variables = variables
        return other

    def _all_blocks(self) -> list[tuple[str, int, int]]:
        """Of each layer: its name, which filter stage it is of, counted from 0, its heads."""
        if not self._filters:
            return [(f"block {i}", 0, self.model.num_heads) for i in range(self.model.depth)]
        stages = [(i, self.model.stages[i]) for i in self.model.filter_stages]
        return [
            (f"stage {i}" + (f" layer {layer}" if stage.layers > 1 else ""), place, stage.heads)
            for place, (i, stage) in enumerate(stages)
            for layer in range(stage.layers)
        ]

    @property
    def names(self) -> list[str]:
        """What the chosen blocks are called, in order."""
        return [self._blocks[layer][0] for layer in self.layers]

    @property
    def heads(self) -> int:
        """The most heads that one of them has."""
        return max(self._blocks[layer][2] for layer in self.layers)

    @property
    def query(self) -> str:
        """What looks, where no patch is asked for."""
        if self._filters:
            return "the mean over kept patches"
        return "the class token" if self.model.class_token else "the mean over patches"

    @property
    def prefix_names(self) -> list[str]:
        """What the tokens before the patches are, in order."""
        if self._filters:
            return []
        model = self.model
        names = ["class"] * model.class_token + ["distillation"] * model.distillation_token
        return [*names, *(f"register {i}" for i in range(model.registers))]

    def cells(self, image_size: tuple[int, int]) -> list[Cells]:
        """Where the patches of each chosen block lie on an image of (height, width)."""
        if not self._filters:
            even = map_cells(self.model, self.model.grid_in((*image_size, 3)), image_size)
            return [even for _ in self.layers]
        stages = stage_cells(self.model, image_size)
        return [stages[self._blocks[layer][1]] for layer in self.layers]

    def __call__(
        self, images: np.ndarray, points: Sequence[Point] | None = None
    ) -> list[list[BlockView]]:
        """points: of each image, in its pixels, where the patch that looks is; None = as above."""
        cells = self.cells(images.shape[1:3])
        index = np.zeros((len(images), len(cells)), np.int32)
        if points is not None:
            index[:] = [[_number_at(point, one) for one in cells] for point in points]
        found = jax.device_get(
            self._look(self._variables, jnp.asarray(images), index, clicked=points is not None)
        )
        return [
            [
                _view(name, where, {key: array[i] for key, array in looks.items()})
                for name, where, looks in zip(self.names, cells, found, strict=True)
            ]
            for i in range(len(images))
        ]

    def _looks(
        self, variables: Any, images: jax.Array, index: jax.Array, clicked: bool
    ) -> list[_Looks]:
        maps = extract(self.model, variables, images, attention=True, layers=self.layers).attention
        prefix, registers = self.model.prefix_tokens, self.model.registers
        found = []
        for place, one in enumerate(maps):  # (B, H, T, T)
            if clicked:
                rows = one[jnp.arange(len(one)), :, prefix + index[:, place]]
            elif self.model.class_token:
                rows = one[:, :, 0]
            else:
                rows = one[:, :, prefix:].mean(axis=2)
            own = one[:, :, prefix - registers : prefix].mean(axis=1)
            found.append(
                {
                    "patches": rows[..., prefix:],
                    "prefix": rows[..., :prefix],
                    "registers": own[..., prefix:],
                }
            )
        return found

    def _filter_looks(
        self, variables: Any, images: jax.Array, index: jax.Array, clicked: bool
    ) -> list[_Looks]:
        _, out = self.model.apply(
            variables, images, mutable=["attention", "filter"], method="forward"
        )
        layers = [
            (f"stage_{i}", f"encoder_{layer}")
            for i in self.model.filter_stages
            for layer in range(self.model.stages[i].layers)
        ]
        found = []
        for place, chosen in enumerate(self.layers):
            stage, layer = layers[chosen]
            maps, kept = out["attention"][stage][layer]["map"], out["filter"][stage]["kept"]
            if clicked:
                asked = (kept == index[:, place, None]).astype(maps.dtype)
                rows, there = jnp.einsum("bq,bhqk->bhk", asked, maps), asked.any(axis=-1)
            else:
                rows, there = maps.mean(axis=2), jnp.ones(len(maps), bool)
            found.append({"patches": rows, "kept": kept, "there": there})
        return found


def _view(name: str, cells: Cells, look: dict[str, np.ndarray]) -> BlockView:
    """A block's view of one image from its rows of maps."""
    rows, grid = look["patches"], cells.shape
    if "kept" not in look:
        registers = look["registers"].reshape(-1, *grid)
        return BlockView(name, cells, rows.reshape(-1, *grid), look["prefix"], registers)
    kept = np.zeros(grid, bool)
    kept.reshape(-1)[look["kept"]] = True
    maps = np.zeros((len(rows), *grid), np.float32)
    maps[:, kept] = rows  # kept indices ascend, row by row, as the mask's cells do
    none = np.zeros((0, *grid), np.float32)
    prefix = np.zeros((len(rows), 0), np.float32)
    return BlockView(name, cells, maps if look["there"] else None, prefix, none, kept)


def seen_point(point: Point, photo: tuple[int, int], box: Box, image: tuple[int, int]) -> Point:
    """Where a photograph's pixel (x, y) is in the network's image, in that one's pixels.

    photo, image: their (height, width). box: where in the photograph the image lies. ValueError for
    a point outside of the photograph, or of what the network sees of it.
    """
    (x, y), (height, width), (top, left, bottom, right) = point, photo, box
    if not (0 <= x < width and 0 <= y < height):
        raise ValueError(f"at: ({x:g}, {y:g}) is outside of its {width}×{height} pixels")
    if not (left <= x < right and top <= y < bottom):
        raise ValueError(
            f"at: ({x:g}, {y:g}) was cut off; the network sees x from {max(left, 0):.0f} to "
            f"{min(right, width):.0f} and y from {max(top, 0):.0f} to {min(bottom, height):.0f} "
            "(--whole shows it all)"
        )
    return (x - left) / (right - left) * image[1], (y - top) / (bottom - top) * image[0]


def _number_at(point: Point, cells: Cells) -> int:
    """The number, row by row, of the cell that a point is in, or next to."""
    row, column = (
        _place(axis, value) for axis, value in ((cells.rows, point[1]), (cells.columns, point[0]))
    )
    return row * len(cells.columns) + column


def _place(axis: Axis, value: float) -> int:
    """Strips at the border that no cell covers go to the nearest."""
    return int(np.clip(np.searchsorted(axis.edges, value, "right") - 1, 0, len(axis) - 1))

"""Feature extractors of a photograph: as the backbone gives them, enlarged, of a larger input.

Every evaluation takes a FeatureExtractor, so that one table can hold them all.
"""

import dataclasses
import functools
import time
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vit_jax_xfer.compiler import compiled
from vit_jax_xfer.features.backbone import Backbone
from vit_jax_xfer.models.cell_places import CellPlaces, patch_places
from vit_jax_xfer.models.lifting.lift import lift
from vit_jax_xfer.models.multiply_adds import count


@dataclasses.dataclass(eq=False)
class FeatureExtractor:
    """Photographs uint8 (B, H, W, 3) → features (B, h, w, C) float32.

    upsampler: a network that doubles features under LiFT's interface, applied `steps` times; None
    leaves them. enlarge: how many times larger the photographs are that it wants (`side`).
    variables: (the backbone's, the upsampler's). The network is compiled once for each shape.
    seconds_per_image: the mean of all calls but the first of each shape, NaN before.
    """

    name: str
    backbone: Backbone
    variables: tuple[Any, Any]
    upsampler: nn.Module | None = None
    steps: int = 1
    enlarge: int = 1

    def __post_init__(self) -> None:
        # Not a method of this object, which would keep these weights where others are used.
        fixed = self.backbone, self.upsampler, self.steps
        self._jitted = jax.jit(functools.partial(_features, *fixed))
        self._programs: dict[tuple[int, ...], jax.stages.Compiled] = {}
        self._timed = np.zeros(2)

    def __call__(self, photos: np.ndarray) -> jax.Array:
        photos = np.asarray(photos)
        if photos.ndim != 4 or photos.shape[-1] != 3 or photos.dtype != np.uint8:
            raise ValueError(
                f"photos: expected uint8 (B, H, W, 3), got {photos.dtype} {photos.shape}"
            )
        start = time.monotonic()
        seen = photos.shape in self._programs
        features = self._compute(self.variables, photos).block_until_ready()
        if seen:
            self._timed += time.monotonic() - start, len(photos)
        return features

    def _compute(self, variables: tuple[Any, Any], photos: np.ndarray) -> jax.Array:
        if photos.shape not in self._programs:
            self._programs[photos.shape] = compiled(self._jitted.trace(variables, photos))
        return self._programs[photos.shape](variables, photos)

    def compute(self, variables: tuple[Any, Any], photos: jax.Array) -> jax.Array:
        """The same as a pure function, to trace."""
        return _features(self.backbone, self.upsampler, self.steps, variables, photos)

    def side(self, size: int) -> int:
        """The side in pixels of the photographs it wants where the others get `size`."""
        return self.enlarge * size

    def grid(self, size: int) -> tuple[int, int]:
        """(h, w) of the features of square photographs."""
        return self._shape(size)[1:3]

    def channels(self, size: int) -> int:
        """Numbers in each of these features."""
        return self._shape(size)[3]

    def places(self, image_size: tuple[int, int]) -> CellPlaces:
        """Where the features' cells lie on photographs of (height, width), as they are given."""
        backbone = self.backbone
        step = getattr(backbone, "step", backbone.patch_size)
        found = patch_places(image_size, backbone.patch_size, step)
        for _ in range(self.steps if self.upsampler is not None else 0):
            found = found.doubled()
        return found

    def multiply_adds(self, size: int) -> int:
        """Of one square photograph of `side(size)` pixels, as models/multiply_adds.py counts."""
        portable = self.backbone.model.clone(dtype=jnp.float32, attention="plain")
        extractor = dataclasses.replace(
            self, backbone=dataclasses.replace(self.backbone, model=portable)
        )
        totals = [
            sum(
                count(jax.make_jaxpr(extractor.compute)(extractor.variables, photos).jaxpr).values()
            )
            for photos in (self._photos(size, batch) for batch in (2, 3))
        ]
        # What doesn't grow with the batch is done to parameters alone.
        return totals[1] - totals[0]

    @property
    def seconds_per_image(self) -> float:
        seconds, images = self._timed
        return float(seconds / images) if images else float("nan")

    def with_variables(self, variables: tuple[Any, Any]) -> "FeatureExtractor":
        """The same with other weights of the same shapes and types; nothing is compiled again."""
        other = dataclasses.replace(self, variables=variables)
        other._jitted, other._programs = self._jitted, self._programs
        return other

    def _photos(self, size: int, batch: int = 1) -> jax.ShapeDtypeStruct:
        side = self.side(size)
        return jax.ShapeDtypeStruct((batch, side, side, 3), jnp.uint8)

    def _shape(self, size: int) -> tuple[int, ...]:
        return jax.eval_shape(self.compute, self.variables, self._photos(size)).shape


def _features(
    backbone: Backbone,
    upsampler: nn.Module | None,
    steps: int,
    variables: tuple[Any, Any],
    photos: jax.Array,
) -> jax.Array:
    mean, std = (jnp.asarray(values, jnp.float32) for values in backbone.mean_std)
    images = (jnp.asarray(photos, jnp.float32) / 255 - mean) / std
    features = backbone(variables[0], images)
    if upsampler is not None:
        features = lift(upsampler, variables[1], images, features, steps)
    return features.astype(jnp.float32)

"""A detector, compiled once: batches of prepared images in, objects on photographs out."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from vit_jax_xfer.data.finish import Finish
from vit_jax_xfer.data.prepare import photograph_pipeline
from vit_jax_xfer.evaluate.detection.found_objects import FoundObjects, on_photographs


class DetectorProgram:
    """Called with a batch's image, content and original, gives the objects of each photograph.

    Images are bytes as `pipeline` leaves them. size: as of `photograph_pipeline`. masks, names: as
    of `on_photographs`.
    """

    def __init__(self, model: Any, variables: Any, size: int | None = None):
        self.pipeline = photograph_pipeline(model, size)
        self._variables = variables
        finish = Finish.of(self.pipeline)

        @jax.jit
        def run(variables: Any, images: jax.Array, content: jax.Array) -> Any:
            finished = finish({"image": images})["image"]
            return model.apply(variables, finished, content, method="detect")

        self._run = run

    def __call__(
        self, rows: Mapping[str, np.ndarray], masks: bool = True, names: Sequence[object] = ()
    ) -> list[FoundObjects]:
        found = jax.device_get(self._run(self._variables, rows["image"], rows["content"]))
        arrays = {name: getattr(found, name) for name in ("boxes", "scores", "classes", "valid")}
        if found.masks is not None:
            arrays["masks"] = found.masks
        given = {name: rows[name] for name in ("content", "original")}
        return on_photographs({**arrays, **given}, masks, names)

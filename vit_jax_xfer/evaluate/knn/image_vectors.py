"""One vector for each image of a source: what a frozen network makes of it."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax_xfer.arguments.array_checks import require_finite_images
from vit_jax_xfer.compiler import Jitted
from vit_jax_xfer.data.prepare import preprocess
from vit_jax_xfer.data.sources.source import Source, example_name
from vit_jax_xfer.models.extract import extract
from vit_jax_xfer.models.preprocessing import stated_preprocessing

# Of what a network computes, by the name of --feature.
FEATURES: tuple[str, ...] = ("cls", "avg", "pooled")


def image_vectors(
    model: Any,
    variables: Any,
    source: Source,
    feature: str = "cls",
    size: int | tuple[int, int] | None = None,
    batch: int = 32,
    report: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """(N, C) float32 of a source's N images, prepared as `model.preprocessing` says.

    feature: "cls", the class token after the last norm; "avg", the mean of the patch tokens after
    it; "pooled", what a head would see. size: pixels, None = the native ones. report: called with
    how many are done. ValueError where the network has no such feature or no preprocessing.
    """
    if feature not in FEATURES:
        raise ValueError(f"feature: {feature!r} is none of {', '.join(FEATURES)}")
    stated_preprocessing(model)

    @Jitted
    def vectors(variables: Any, images: jax.Array) -> jax.Array:
        out = extract(model, variables, images)
        found = {
            "cls": out.cls,
            "avg": out.patch_tokens.mean(axis=(1, 2)),
            "pooled": out.pooled,
        }[feature]
        if found is None:
            raise ValueError(f"feature: this network has no {feature!r}")
        return found.astype(jnp.float32)

    parts = []
    for start in range(0, len(source), batch):
        rows = range(start, min(start + batch, len(source)))
        images = preprocess(model, [source[i]["image"] for i in rows], size)
        # A short batch is filled up, so that one compilation serves.
        filled = np.concatenate([images, np.zeros((batch - len(rows), *images.shape[1:]), "f4")])
        parts.append(np.asarray(vectors(variables, filled))[: len(rows)])
        name_of = functools.partial(example_name, source)
        require_finite_images("features", parts[-1], name_of, start)
        report(rows.stop)
    return np.concatenate(parts)

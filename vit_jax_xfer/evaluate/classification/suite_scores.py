"""A network's figures on the sets of a suite: shares of hits, and the mean corruption error."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from vit_jax_xfer.data.streams import eval_batches
from vit_jax_xfer.evaluate.classification.hit_counts import hits
from vit_jax_xfer.suites.imagenet_labels import alexnet_errors, class_names_of, synsets
from vit_jax_xfer.suites.suite_set import SuiteSet

Figures = dict[str, float]


def output_names(model: Any) -> tuple[str, ...]:
    """The names of a classifier's outputs; those of ImageNet for 1,000 without names.

    ValueError where there is no head, and where outputs without names are none of ImageNet's.
    """
    names = class_names_of(model)
    if model.class_names is None and names != synsets():
        raise ValueError(
            f"the network's {len(names)} outputs have no names, by which classes are matched; save "
            "it with class_names"
        )
    return names


def score_set(
    model: Any,
    variables: Any,
    one: SuiteSet,
    batch_size: int = 64,
    threads: int = 2,
    report: Callable[[int], None] = lambda done: None,
) -> Figures:
    """top1, top5 and images of one set; top1_all as well where only some classes are predicted.

    model: a classifier with `preprocessing`; it runs on all devices, the batch split among them.
    Shares are of the images that are scored. report: called with how many images are done.
    ValueError for classes that are none of the model's, and images that can't be read.
    """
    outputs = output_names(model)
    targets, present = one.targets(outputs), one.predictable(outputs)
    devices = len(jax.devices())
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    scored = np.ones(len(outputs), bool) if present is None else present
    batch_size = -(-batch_size // devices) * devices
    pipeline = _preparation(model, one).pipeline()
    sums: dict[str, float] = {}
    done = 0
    with eval_batches(one.source, pipeline, batch_size=batch_size, threads=threads) as batches:
        for batch in batches:
            right = np.zeros((batch_size, len(outputs)), bool)
            real = min(batch_size, len(targets) - done)
            right[:real] = targets[done : done + real]
            placed = (jax.device_put(one, rows) for one in (batch["image"], right))
            for name, value in _counted(model, variables, scored, *placed).items():
                sums[name] = sums.get(name, 0.0) + float(value)
            done += real
            report(done)
    images = sums.pop("images")
    if present is None:
        del sums["top1_all"]  # the same
    if not images:
        raise ValueError(f"{one.name}: {one.source.name}: none of its images has a right class")
    return {"images": int(images), **{name: value / images for name, value in sums.items()}}


def _preparation(model: Any, one: SuiteSet) -> Any:
    """How a set's images are prepared for a network. ValueError where that isn't known."""
    if model.preprocessing is None:
        raise ValueError(
            "the network doesn't say how its images are prepared; save it with a Preprocessing"
        )
    if not one.crop_only:
        return model.preprocessing
    # At their own size, which is the usual one, no resize is left.
    return dataclasses.replace(model.preprocessing, crop=1.0)


# One program for all sets of a network: ImageNet-C has 75.
@functools.partial(jax.jit, static_argnums=0)
def _counted(
    model: Any, variables: Any, scored: jax.Array, images: jax.Array, right: jax.Array
) -> dict[str, jax.Array]:
    """Sums over a batch; images without a right class count for nothing.

    scored: (K,) bool, the outputs that can be predicted. right: (B, K) bool.
    """
    logits = model.apply(variables, images).astype(jnp.float32)
    taken = right.any(axis=-1)
    targets = right / jnp.maximum(right.sum(axis=-1, keepdims=True), 1)
    taking_part = jnp.where(scored, logits, -jnp.inf)
    found = {"top1": hits(taking_part, targets, 1), "top5": hits(taking_part, targets, 5)}
    found["top1_all"] = hits(logits, targets, 1)
    sums = {name: (each & taken).sum() for name, each in found.items()}
    return {**sums, "images": taken.sum()}


def mean_corruption_error(figures: dict[str, Figures]) -> Figures:
    """mCE, and the mean top-1, of ImageNet-C's sets: {"c/fog/3": figures, …}.

    A corruption's error is the sum over severities, over AlexNet's; mCE their mean, 1 = AlexNet's.
    """
    errors: dict[str, list[float]] = {}
    for name, found in sorted(figures.items()):
        errors.setdefault(name.split("/")[1], []).append(1 - found["top1"])
    relative = [sum(own) / sum(alexnet_errors(name)) for name, own in errors.items()]
    top1 = float(np.mean([found["top1"] for found in figures.values()]))
    top5 = float(np.mean([found["top5"] for found in figures.values()]))
    images = sum(found["images"] for found in figures.values())
    return {"images": images, "top1": top1, "top5": top5, "mce": float(np.mean(relative))}


def summary(sets: Sequence[SuiteSet], figures: dict[str, Figures]) -> Figures:
    """A suite's figures, of those of its sets by name."""
    if len(sets) == 1:
        return figures[sets[0].name]
    return mean_corruption_error(figures)

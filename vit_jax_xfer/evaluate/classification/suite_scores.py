"""A network's figures on the sets of a suite: shares of hits, and the mean corruption error."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from vit_jax_xfer.arguments.array_checks import require_finite_images
from vit_jax_xfer.data.finish import Finish
from vit_jax_xfer.data.sources.source import example_name
from vit_jax_xfer.data.streams import eval_batches
from vit_jax_xfer.evaluate.classification.hit_counts import hits
from vit_jax_xfer.models.preprocessing import stated_preprocessing
from vit_jax_xfer.suites.imagenet_labels import (
    CORRUPTIONS,
    SEVERITIES,
    alexnet_errors,
    class_names_of,
    synsets,
)
from vit_jax_xfer.suites.suite_set import SuiteSet

Figures = dict[str, float]


def output_names(model: Any, one: SuiteSet | None = None) -> tuple[str, ...]:
    """The names of a classifier's outputs; those of ImageNet for 1,000 without names.

    one: a set whose classes may have no names but numbers. ValueError where there is no head, and
    where outputs without names are neither ImageNet's nor as many as such a set has.
    """
    names = class_names_of(model)
    by_number = one is not None and one.matched_by_number(names)
    if model.class_names is None and names != synsets() and not by_number:
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

    No top5 where there are five outputs or fewer.

    model: a classifier with `preprocessing`; it runs on all devices, the batch split among them.
    Shares are of the images that are scored. report: called with how many images are done.
    ValueError for classes that are none of the model's, images that can't be read, and logits that
    aren't finite.
    """
    outputs = output_names(model, one)
    targets, present = one.targets(outputs), one.predictable(outputs)
    devices = len(jax.devices())
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    scored = np.ones(len(outputs), bool) if present is None else present
    batch_size = -(-batch_size // devices) * devices
    pipeline = suite_pipeline(model, one)
    sums: dict[str, float] = {}
    done = 0
    finish, reading = Finish.of(pipeline), {"batch_size": batch_size, "threads": threads}
    with eval_batches(one.source, pipeline, in_bytes=True, **reading) as batches:
        for batch in batches:
            real = min(batch_size, len(targets) - done)
            right = np.full((batch_size, targets.shape[1]), -1, np.int32)
            right[:real] = targets[done : done + real]
            placed = (jax.device_put(one, rows) for one in (batch["image"], right))
            found, finite = _counted(model, finish, variables, scored, *placed)
            name_of = functools.partial(example_name, one.source)
            require_finite_images("logits", np.where(finite, 0.0, np.nan)[:real], name_of, done)
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + float(value)
            done += real
            report(done)
    return shares(sums, one)


def suite_pipeline(model: Any, one: SuiteSet) -> str:
    """How a set's images are prepared for a network. ValueError where that isn't known.

    Images that were cropped when the set was made are cropped to the network's size, and enlarged
    only where they are smaller than that (1903.12261 crops, and never resizes).
    """
    preprocessing = stated_preprocessing(model)
    if not one.crop_only:
        return preprocessing.pipeline()
    enlarged = dataclasses.replace(preprocessing, crop=1.0).pipeline()
    height, width = preprocessing.height_width
    image = one.source[0]["image"]
    if image.shape[0] < height or image.shape[1] < width:
        return enlarged
    rounding = ", round_down=True" if preprocessing.crop_rounds_down else ""
    normalize = enlarged.rpartition("|")[2]
    return f"center_crop(({height}, {width}){rounding})|{normalize}"


# One program for all sets of a network: ImageNet-C has 75.
@functools.partial(jax.jit, static_argnums=(0, 1))
def _counted(
    model: Any,
    finish: Finish,
    variables: Any,
    scored: jax.Array,
    images: jax.Array,
    right: jax.Array,
) -> tuple[dict[str, jax.Array], jax.Array]:
    """The sums of `hit_sums` over a batch of images, and of which logits are finite, (B,) bool."""
    logits = model.apply(variables, finish({"image": images})["image"])
    return hit_sums(logits, right, scored), jnp.isfinite(logits).all(-1)


def hit_sums(logits: jax.Array, right: jax.Array, scored: jax.Array) -> dict[str, jax.Array]:
    """How many of a batch's images are hits; those without a right class count for nothing.

    logits (B, K). right: (B, M) int, the outputs that are right, -1 = none. scored: (K,) bool, the
    outputs that can be predicted, of which "top1" and "top5" are; "top1_all" is of all.
    """
    logits = logits.astype(jnp.float32)
    among = (right[..., None] == jnp.arange(logits.shape[-1])).any(axis=1)
    taken = among.any(axis=-1)
    targets = among / jnp.maximum(among.sum(axis=-1, keepdims=True), 1)
    taking_part = jnp.where(scored, logits, -jnp.inf)
    found = {"top1": hits(taking_part, targets, 1), "top1_all": hits(logits, targets, 1)}
    if logits.shape[-1] > 5:  # else every image is one
        found["top5"] = hits(taking_part, targets, 5)
    sums = {name: (each & taken).sum() for name, each in found.items()}
    return {**sums, "images": taken.sum()}


def shares(sums: Mapping[str, float], one: SuiteSet) -> Figures:
    """The figures of a set, of its sums: shares of the images that are scored, and their number.

    ValueError where none is.
    """
    images = sums["images"]
    if not images:
        raise ValueError(f"{one.name}: {one.source.name}: none of its images has a right class")
    left_out = {"images"} | ({"top1_all"} if one.scored is None else set())  # the same as top1
    found = {name: value / images for name, value in sums.items() if name not in left_out}
    return {"images": int(images), **found}


def mean_corruption_error(errors: Mapping[str, float], reference: Mapping[str, float]) -> float:
    """The mean over corruptions of errors at all severities over those of a reference.

    errors: {"fog/3": share of errors}. 1 = as many errors as the reference makes. KeyError for a
    set that the reference has not.
    """
    own: dict[str, list[float]] = {}
    theirs: dict[str, list[float]] = {}
    for name, error in sorted(errors.items()):
        corruption = name.split("/")[0]
        own.setdefault(corruption, []).append(error)
        theirs.setdefault(corruption, []).append(reference[name])
    relative = [sum(own[one]) / sum(theirs[one]) if sum(theirs[one]) else math.nan for one in own]
    return float(np.mean(relative))


def errors_of(figures: Mapping[str, Figures]) -> dict[str, float]:
    """{"fog/3": share of errors} of figures {"c/fog/3": …}."""
    return {name.split("/", 1)[1]: 1 - found["top1"] for name, found in sorted(figures.items())}


def corruption_errors(figures: Mapping[str, Figures], suite: str) -> dict[str, float]:
    """{"fog": mean share of errors over severities}, of a suite's figures {"c/fog/3": …}."""
    own: dict[str, list[float]] = {}
    for name, found in figures.items():
        if name.startswith(f"{suite}/"):
            own.setdefault(name.split("/")[1], []).append(1 - found["top1"])
    return {corruption: float(np.mean(errors)) for corruption, errors in own.items()}


def summary(sets: Sequence[SuiteSet], figures: Mapping[str, Figures]) -> Figures:
    """A suite's figures, of those of its sets by name: means of several, and ImageNet-C's mCE.

    mCE: errors over AlexNet's (`mean_corruption_error`).
    """
    if len(sets) == 1 and "/" not in sets[0].name:
        return figures[sets[0].name]
    own = {one.name: figures[one.name] for one in sets}
    found = {"images": sum(one["images"] for one in own.values())}
    for figure in [one for one in ("top1", "top5") if one in next(iter(own.values()))]:
        found[figure] = float(np.mean([one[figure] for one in own.values()]))
    if all(name.startswith("c/") for name in own):
        found["mce"] = mean_corruption_error(errors_of(own), _alexnet())
    return found


def add_relative_errors(
    rows: Mapping[str, dict[str, Figures]],
    sets: Mapping[str, Mapping[str, Figures]],
    suites: Mapping[str, Sequence[SuiteSet]],
    reference: str,
) -> None:
    """Adds "mce" to corrupted suites without one: over the errors of a row of `rows`.

    rows: network → suite → figures. sets: network → set → figures. Not where the reference makes no
    errors at some corruption, which nothing can be divided by.
    """
    for suite, opened in suites.items():
        if "mce" in rows[reference][suite] or "/" not in opened[0].name:
            continue
        errors = {
            name: errors_of({one.name: found[one.name] for one in opened})
            for name, found in sets.items()
        }
        relative = {
            name: mean_corruption_error(own, errors[reference]) for name, own in errors.items()
        }
        if not math.isnan(relative[reference]):
            for name, value in relative.items():
                rows[name][suite]["mce"] = value


def _alexnet() -> dict[str, float]:
    return {
        f"{corruption}/{severity}": error
        for corruption in CORRUPTIONS
        for severity, error in zip(SEVERITIES, alexnet_errors(corruption), strict=True)
    }

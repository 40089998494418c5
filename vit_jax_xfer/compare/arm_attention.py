"""What the networks of a comparison attend to on the same images, and how far from their teacher.

Of the first seed's runs, on some images of the evaluation.
"""

import dataclasses
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from PIL import Image

from vit_jax_xfer.analysis.head_matching import matched_divergence
from vit_jax_xfer.analysis.network_pair import AnalysedNetwork, NetworkPair, analyse
from vit_jax_xfer.compare.arms import Arm
from vit_jax_xfer.compare.comparison import Comparison
from vit_jax_xfer.data.transforms import normalisation_of
from vit_jax_xfer.explain.attention_maps import received
from vit_jax_xfer.explain.colour_scales import Scale
from vit_jax_xfer.explain.pictures import sheet, to_pixels
from vit_jax_xfer.tasks.build import build_task, load_run
from vit_jax_xfer.tasks.task import Shown
from vit_jax_xfer.train.inputs import Inputs, open_inputs
from vit_jax_xfer.train.training_pictures import FixedImages, fixed_images

IMAGES = 8
_CELL = 112  # pixels of a picture's side on the sheet
_BITS = 1 / math.log(2)  # in a nat


@dataclasses.dataclass(frozen=True)
class Distance:
    """How far a student is from its teacher; means over layers, None where it can't be told.

    same_head, matched_heads: Jensen-Shannon divergence of attention in bits, 0 equal to 1 disjoint,
    of heads of the same number and one to one by least mean. cka: of the patches' mean features.
    """

    same_head: float | None
    matched_heads: float
    cka: float


@dataclasses.dataclass(frozen=True, eq=False)
class Looks:
    """images: float32 (B, H, W, 3), and normalisation: by which they become pixels again.

    seen: {name: (B, h, w)}, how much each patch is looked at in the last block, the teacher's
    first. distances: of each arm. lacking: why an arm has none.
    """

    images: FixedImages
    normalisation: Any
    seen: dict[str, np.ndarray]
    distances: dict[str, Distance]
    lacking: dict[str, str]

    def draw(self, path: pathlib.Path) -> None:
        """One row an image: the image, then what each network looks at. One scale for all."""
        scale = Scale.of(list(self.seen.values()), signed=False, top=98.0)
        rows = [
            [_fitting(to_pixels(image, *self.normalisation)),
             *(scale.colours(maps[i]) for maps in self.seen.values())]
            for i, image in enumerate(self.images.prepared)
        ]  # fmt: skip
        bars = [[scale]] * len(rows)
        sheet(rows, ("image", *self.seen), path, cell=_CELL, bars=bars)


def look(comparison: Comparison, arms: Sequence[Arm]) -> Looks:
    """The networks of arms that have finished a run with seed 0, beside their teacher.

    ValueError where there are fewer than four images, and where the teacher has no maps.
    """
    config = comparison.config(Arm("distill"), 0)
    inputs = open_inputs(config)
    chosen = next(iter(inputs.eval_sets.values()))
    images = fixed_images(min(IMAGES, len(chosen.source)), chosen)
    normalisation = normalisation_of(chosen.pipeline)
    if normalisation is None:
        raise ValueError("eval.pipeline: it normalises twice, so that no pictures can be made")
    task = build_task(config, inputs.image_shape(), inputs.num_classes)
    teacher = _apply("teacher", task.networks_shown()["teacher"], {}, task.frozen, images)
    looks = Looks(images, normalisation, {"teacher": _seen(*teacher)}, {}, {})
    for arm in arms:
        folder = arm.folder(comparison.root, 0)
        student = _student(arm, folder, inputs, images)
        looks.seen[arm.title] = _seen(*student)
        try:
            looks.distances[arm.title] = _distance(student, teacher)
        except ValueError as error:
            looks.lacking[arm.title] = str(error)
    return looks


_Applied = tuple[AnalysedNetwork, jax.Array]  # with the variables for these very images


def _student(arm: Arm, folder: pathlib.Path, inputs: Inputs, images: FixedImages) -> _Applied:
    """A finished student as it computes: a copying one with its teacher's maps."""
    task, variables = load_run(str(folder), inputs.image_shape(), inputs.num_classes)
    return _apply(arm.title, task.networks_shown()["model"], variables, task.frozen, images)


def _apply(name: str, shown: Shown, variables: Any, frozen: Any, images: FixedImages) -> _Applied:
    applied, seen = jax.jit(shown.applied)(variables, frozen, images.prepared)
    return AnalysedNetwork(name, shown.network, applied), seen


def _seen(network: AnalysedNetwork, images: jax.Array) -> np.ndarray:
    """(B, h, w): how much each patch is looked at in the last block, a mean over its heads."""
    model = network.model
    last = network.watch(images).attention[-1]
    return np.asarray(received(last, model.grid_in(images.shape), model.prefix_tokens).mean(1))


def _distance(student: _Applied, teacher: _Applied) -> Distance:
    """ValueError where the two can't be compared."""
    (own, own_images), (other, other_images) = student, teacher
    layers = "same" if own.model.depth == other.model.depth else "even"
    pair = NetworkPair(own, other, layers)
    pair.check((own_images.shape, other_images.shape))
    found = analyse(pair, [(np.asarray(own_images), np.asarray(other_images))])

    def mean(how: str) -> float:
        by_layer = found.divergence.swapaxes(0, 1)  # (L, N, H, H')
        return _BITS * float(np.mean([matched_divergence(one, how).divergence for one in by_layer]))

    same = found.divergence.shape[2] == found.divergence.shape[3]
    layers_beside = np.arange(own.model.depth), list(found.beside)
    return Distance(
        mean("identity") if same else None,
        mean("hungarian"),
        float(np.mean(found.cka["mean"][layers_beside])),
    )


def _fitting(pixels: np.ndarray) -> np.ndarray:
    """A photograph (h, w, 3) uint8 no larger than its place, which the sheet fills unsmoothed."""
    if max(pixels.shape[:2]) <= _CELL:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((_CELL, _CELL), Image.Resampling.LANCZOS))

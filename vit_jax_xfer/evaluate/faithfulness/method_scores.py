"""Methods of attribution side by side: how faithful each one's maps are, where they lie, how fast.

Every method is measured on the same images, beside `random` and `edges`, which know nothing of the
network: a figure that doesn't beat theirs says nothing.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax_xfer.arguments.array_checks import require_finite_images
from vit_jax_xfer.evaluate.faithfulness.localisation import Counts, count, summary
from vit_jax_xfer.evaluate.faithfulness.perturbation import (
    FRACTIONS,
    Order,
    area,
    blurred,
    even_steps,
    perturb,
    predicted,
    saco,
)
from vit_jax_xfer.explain.methods.attribution import METHODS, Attribution, attribute

# Figure: whether more is better.
FIGURES: dict[str, bool] = {
    "deletion": False,
    "insertion": True,
    "positive": False,
    "negative": True,
    "abpc": True,
    "saco": True,
}
LOCALISATION: tuple[str, ...] = ("pixel_accuracy", "miou", "mean_ap", "f1", "pointing", "energy")
BASELINES = ("random", "edges")
_WIDTH = FRACTIONS[-1] - FRACTIONS[0]  # of the axis that published areas are under


class ExplainedBatch(NamedTuple):
    """images (B, H, W, 3) float32; target (B,), None = what is predicted; masks (B, H, W) int8."""

    images: np.ndarray
    target: np.ndarray | None = None
    masks: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class FaithfulnessProtocol:
    """What is measured, and how finely.

    parts: steps of the curves of deletion, insertion and of the area between them. patches: whether
    a map's own cells are ranked, in place of pixels of the map enlarged (bilinear); maps of pixels
    are ranked by their cells' sums as well, since pixels one by one beat cells by their grain
    alone, even at random. groups: SaCo's.
    black: what positive and negative perturbation put, a pixel of 0 before it is normalised, three
    numbers. ValueError for figures that there aren't.
    """

    figures: tuple[str, ...] = tuple(FIGURES)
    parts: int = 20
    patches: bool = False
    groups: int = 10
    black: tuple[float, ...] = (-1.0, -1.0, -1.0)

    @property
    def passes(self) -> int:
        """How often the figures of one map let its image through the network."""
        curves = sum(name in self.figures for name in ("deletion", "insertion", "abpc"))
        coarse = sum(name in self.figures for name in ("positive", "negative"))
        groups = self.groups + 1 if "saco" in self.figures else 0
        return curves * (self.parts - 1) + coarse * len(FRACTIONS) + groups

    def __post_init__(self) -> None:
        if self.parts < 3:
            raise ValueError(f"steps: got {self.parts}, expected 3 or more")
        if unknown := [name for name in self.figures if name not in FIGURES]:
            raise ValueError(f"figures: {unknown[0]!r} is none of {', '.join(FIGURES)}")


@dataclasses.dataclass
class MethodScores:
    """One method's values: {figure: one for each image}, counts against masks, and its time."""

    values: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    counts: list[Counts] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    timed: int = 0  # images in them; compilation is not

    def means(self) -> dict[str, float]:
        """{figure: its mean over images}, then those of localisation, pooled where they are."""
        found = {name: float(np.mean(values)) for name, values in self.values.items()}
        if self.counts:
            whole = summary(self.counts)
            found |= {name: float(np.mean(getattr(whole, name))) for name in LOCALISATION}
        return found

    @property
    def images_per_second(self) -> float:
        """Maps a second at the batch's size."""
        return self.timed / self.seconds if self.seconds else float("nan")


def score_methods(
    model: Any,
    variables: Any,
    batches: Iterable[ExplainedBatch],
    methods: Sequence[str],
    protocol: FaithfulnessProtocol,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    report: Callable[[int], None] = lambda done: None,
    name_of: Callable[[int], str] = "image {}".format,
) -> dict[str, MethodScores]:
    """{method: its scores} of all batches, which are of one size but for the last.

    options: a method's own, by its name. report: called with how many images times methods are
    done. name_of: an image by its place, for errors. ValueError of a method that isn't defined for
    the network (see `defined_methods`), and for answers and maps that aren't finite.
    """
    scores = {name: MethodScores() for name in methods}
    done = size = seen = 0
    for batch in batches:
        number = len(batch.images)
        size = size or number
        # A short batch is filled up, so that one compilation serves.
        images = jnp.asarray(_filled_up(batch.images, size))
        target = None if batch.target is None else _filled_up(batch.target, size)
        if target is None:
            target = np.asarray(predicted(model, variables, images))
        whole = Whole.of((model, variables), images, target, protocol)
        require_finite_images("probabilities", whole.ends[:number], name_of, seen)
        for name, one in scores.items():
            call = functools.partial(
                attribute, model, variables, images, name, target, **(options or {}).get(name, {})
            )
            found = _timed(call, one, size)
            require_finite_images(name, found.map[:number], name_of, seen)
            large = np.asarray(enlarged(found.map, images.shape))
            maps = np.asarray(found.map) if protocol.patches else large
            for figure, values in _figures(whole, maps, protocol).items():
                one.values.setdefault(figure, []).extend(values[:number].tolist())
            if batch.masks is not None:
                own = large if found.pixels is None else np.asarray(found.pixels)
                pairs = zip(own[:number], batch.masks, strict=True)
                one.counts += [count(*pair) for pair in pairs]
            done += number
            report(done)
        seen += number
    return scores


def _filled_up(rows: np.ndarray, size: int) -> np.ndarray:
    """Rows with the last one again and again, `size` of them."""
    return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])


class Whole(NamedTuple):
    """What of a batch is the same for all methods.

    ends: the target's probability in the whole image and in one that is all filled, (B, 2); of
    insertion, which goes from `blur` to the image, the same two.
    """

    network: tuple[Any, Any]
    images: jax.Array
    target: np.ndarray
    ends: np.ndarray
    blur: jax.Array | None
    blur_ends: np.ndarray | None

    @classmethod
    def of(
        cls,
        network: tuple[Any, Any],
        images: jax.Array,
        target: np.ndarray,
        protocol: FaithfulnessProtocol,
    ) -> "Whole":
        """network: model and variables. images (B, H, W, 3), target (B,)."""
        even = np.zeros(images.shape[:3])
        curve = functools.partial(perturb, *network, images, even, [0, even[0].size], target=target)
        ends = np.asarray(curve().probabilities)
        if "insertion" not in protocol.figures:
            return cls(network, images, target, ends, None, None)
        blur = blurred(images)
        return cls(
            network, images, target, ends, blur, np.asarray(curve(baseline=blur).probabilities)
        )

    def areas(
        self, maps: np.ndarray, steps: np.ndarray, order: Order, baseline: jax.Array | None = None
    ) -> np.ndarray:
        """Under the curve of each image, (B,), of which the ends are known."""
        ends = self.ends if baseline is None else self.blur_ends
        first, last = np.split(ends, 2, axis=1)
        inner = perturb(
            *(*self.network, self.images, maps, steps[1:-1], order),
            baseline=baseline,
            target=self.target,
        )
        return area(np.concatenate([first, inner.probabilities, last], axis=1))


def _figures(
    whole: Whole, maps: np.ndarray, protocol: FaithfulnessProtocol
) -> dict[str, np.ndarray]:
    """Each image's, (B,) by name."""
    wanted, cells = protocol.figures, maps[0].size
    network = *whole.network, whole.images, maps
    steps = even_steps(cells, min(protocol.parts, cells))
    found: dict[str, np.ndarray] = {}
    if "deletion" in wanted or "abpc" in wanted:
        found["deletion"] = whole.areas(maps, steps, "most")
    if "insertion" in wanted:
        found["insertion"] = whole.areas(maps, steps, "most", whole.blur)
    for name, order in (("positive", "most"), ("negative", "least")):
        if name in wanted:
            parts = [int(cells * share) for share in FRACTIONS]
            black = np.array(protocol.black)
            hits = perturb(*network, parts, order, black, target=whole.target).hits
            found[name] = _WIDTH * area(hits)
    if "abpc" in wanted:
        found["abpc"] = whole.areas(maps, steps, "least") - found["deletion"]
    if "saco" in wanted:
        groups = min(protocol.groups, cells)
        found["saco"] = np.asarray(saco(*network, groups, target=whole.target))
    return {name: found[name] for name in FIGURES if name in wanted}


def enlarged(cells: jax.Array, image_shape: Sequence[int]) -> jax.Array:
    """A map of cells (B, h, w) on an image's pixels, (B, H, W) float32, bilinear."""
    shape = (len(cells), *image_shape[1:3])
    return jax.image.resize(cells.astype(jnp.float32), shape, "bilinear")


def defined_methods(
    model: Any,
    variables: Any,
    image_shape: Sequence[int],
    methods: Sequence[str] = METHODS,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[list[str], dict[str, str]]:
    """Those of the methods that the network has, in their order, and {the others: why not}.

    image_shape: (B, H, W, 3). options: as of `score_methods`. Nothing is computed.
    """
    there, lacking = [], {}
    shape = jax.ShapeDtypeStruct(tuple(image_shape), jnp.float32)
    for name in methods:
        call = functools.partial(attribute, model, method=name, **(options or {}).get(name, {}))
        try:
            jax.eval_shape(lambda v, x, call=call: call(variables=v, images=x), variables, shape)
        except ValueError as error:
            lacking[name] = str(error).splitlines()[0]
        else:
            there.append(name)
    return there, lacking


def _timed(call: Callable[[], Attribution], one: MethodScores, images: int) -> Attribution:
    """A method's maps. Of its first batch it is called again, so that compiling isn't counted."""
    if not one.timed:
        jax.block_until_ready(call())
    start = time.perf_counter()
    found = jax.block_until_ready(call())
    one.seconds += time.perf_counter() - start
    one.timed += images
    return found

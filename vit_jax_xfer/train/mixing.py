"""Mixup and CutMix: pairs of images and their labels become one, each by a share.

Sources: mixup (1710.09412), CutMix (1905.04899), as timm 1.0 does both.
"""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vit_jax_xfer.arguments.given_arrays import given_array, host_array
from vit_jax_xfer.arguments.listed_values import listed
from vit_jax_xfer.arguments.whole_numbers import check_each_whole, check_number, check_whole
from vit_jax_xfer.tasks.task import Batch, Task
from vit_jax_xfer.train.config_ranges import check_numbers

MODES = ("batch", "pair", "element")
BOX_RULES = ("timm", "timm_0_3_2")

Box = tuple[int, int, int, int]


def mixing_of(config: ConfigDict, task: Task) -> Callable[[Batch, jax.Array], Batch] | None:
    """What a step does first to the batch of a config: (batch, key) → batch; None = nothing.

    Labels become shares of classes, (B, K). Images without labels stay as they are. All that is
    drawn hangs on the key alone, so that any mesh gives the same. ValueError naming the field.
    """
    settings, number = config.mix, config.batch_size
    _check(settings)
    if not settings.mixup and not settings.cutmix:
        return None
    _check_group(settings.group or number, number)
    if not task.needs_labels or task.targets:
        raise ValueError(f"mix: {config.task['name']} learns from no labels that could be mixed")
    group, classes = settings.group or number, task.model.num_classes

    def mixed(batch: Batch, key: jax.Array) -> Batch:
        rows = draw_rows(key, settings, number, group, batch["image"].shape[1:3])
        images, targets = mix_rows(batch["image"], batch["label"], classes, rows, group)
        return {**batch, "image": images.astype(batch["image"].dtype), "label": targets}

    return mixed


def _check(settings: ConfigDict) -> None:
    """ValueError naming the field of config.mix that makes no sense."""
    check_numbers(settings, "mix.")
    for field, known in (("mode", MODES), ("boxes", BOX_RULES)):
        if settings[field] not in known:
            raise ValueError(
                f"mix.{field}: got {settings[field]!r}, expected one of {', '.join(known)}"
            )


def _check_group(group: int, number: int) -> None:
    """ValueError where a batch of so many images is not made of pairs in such groups."""
    if group < 2 or group % 2 or number % group:
        raise ValueError(
            f"mix.group: got {group} images, expected an even number that divides batch_size, "
            f"{number}"
        )


class Mixed(NamedTuple):
    """images (B, H, W, 3) float32; targets (B, K) float32, shares of the classes."""

    images: jax.Array
    targets: jax.Array


class Decisions(NamedTuple):
    """What is mixed how, a row each: share (B,) of a row's own image, and which rows take a box.

    cutmix: (B,) bool. boxes: (B, 4) yl, yh, xl, xh of what comes from the partner, where cutmix is.
    """

    share: jax.Array
    cutmix: jax.Array
    boxes: jax.Array


def mix(
    images: Any,
    labels: Any,
    num_classes: int,
    lam: float | Sequence[float],
    cutmix: bool | Sequence[bool] = False,
    boxes: Sequence[Box] = (),
    mode: str = "batch",
    smoothing: float = 0.1,
) -> Mixed:
    """A batch mixed by given decisions: (B, H, W, 3), (B,) int → images and targets (B, K).

    The partner of row i is row B-1-i. lam: the share of a row's own image; cutmix: whether a box is
    exchanged instead; one of each for mode "batch", one a pair of rows for "pair" (B/2), one a row
    for "element" (timm's "elem"). boxes: (yl, yh, xl, xh) for each True in cutmix, in order; lam is
    then the share that they leave. smoothing: of the labels. ValueError naming what doesn't fit.
    """
    images = given_array("images", images).astype(jnp.float32)
    labels = given_array("labels", labels)
    if images.ndim != 4:
        raise ValueError(f"images: got {images.shape}, expected (B, H, W, 3)")
    number, mode = len(images), "element" if mode == "elem" else mode
    if mode not in MODES:
        raise ValueError(f"mode: got {mode!r}, expected one of {', '.join(MODES)}")
    if number % 2:
        raise ValueError(f"images: got {number}, expected an even number of them")
    check_whole("num_classes", num_classes)
    _check_labels(labels, number, num_classes)
    wanted = {"batch": 1, "pair": number // 2, "element": number}[mode]
    shares, chosen = (np.atleast_1d(x) for x in (host_array("lam", lam, np.float32),
                                                 host_array("cutmix", cutmix)))  # fmt: skip
    check_number("smoothing", smoothing)
    for field, given in (("lam", shares), ("cutmix", chosen)):
        if given.shape != (wanted,):
            raise ValueError(f"{field}: got {len(given)}, expected {wanted} with mode {mode!r}")
    for field, given in (("lam", shares), ("smoothing", np.asarray(smoothing))):
        if not ((given >= 0) & (given <= 1)).all():
            raise ValueError(f"{field}: got {given}, expected a share from 0 to 1")
    boxes = listed("boxes", boxes)
    if len(boxes) != int(chosen.sum()):
        raise ValueError(f"boxes: got {len(boxes)}, expected one for each of {int(chosen.sum())}")
    placed = np.zeros((wanted, 4), np.int32)
    placed[chosen.astype(bool)] = _boxes_inside(boxes, *images.shape[1:3])
    decided = (jnp.asarray(each)[None] for each in (shares, chosen, placed))
    rows = Decisions(*(_rows_of_groups(each, mode, number) for each in decided))
    return mix_rows(images, labels, num_classes, rows, number, smoothing)


def _check_labels(labels: jax.Array, number: int, num_classes: int) -> None:
    """ValueError unless labels are classes (B,), or shares (B, K) of them."""
    whole = jnp.issubdtype(labels.dtype, jnp.integer)
    if labels.shape != ((number,) if whole else (number, num_classes)):
        raise ValueError(
            f"labels: got {labels.dtype} {labels.shape}, expected a whole number for each of "
            f"{number} images, or shares ({number}, {num_classes})"
        )
    if not whole or isinstance(labels, jax.core.Tracer) or not number:
        return
    least, most = int(labels.min()), int(labels.max())
    if least < 0 or most >= num_classes:
        raise ValueError(
            f"labels: got {least} to {most}, expected classes from 0 to {num_classes - 1}"
        )


def _boxes_inside(boxes: Sequence[Box], height: int, width: int) -> np.ndarray:
    """Boxes (yl, yh, xl, xh) as an array (n, 4). ValueError for one that leaves the image."""
    given = np.asarray(boxes)
    if given.size and given.dtype.kind not in "iu":
        raise ValueError(f"boxes: got {given.dtype}, expected whole numbers of pixels")
    found = given.astype(np.int32).reshape(-1, 4)
    for yl, yh, xl, xh in found.tolist():
        if not (0 <= yl <= yh <= height and 0 <= xl <= xh <= width):
            raise ValueError(
                f"boxes: got {(yl, yh, xl, xh)}, expected yl, yh, xl, xh inside of {height}x{width}"
            )
    return found


def draw_rows(
    key: jax.Array, settings: ConfigDict, number: int, group: int, size: tuple[int, int]
) -> Decisions:
    """The decisions of a batch of `number` rows in groups, for images of (height, width)."""
    alone = {"batch": 1, "pair": group // 2, "element": group}[settings.mode]  # draws a group
    draws = (number // group, alone)
    keys = jax.random.split(key, 6)
    left_out = jax.random.uniform(keys[0], draws) >= settings.probability
    switch = settings.switch if settings.mixup and settings.cutmix else float(settings.cutmix > 0)
    cutmix = (jax.random.uniform(keys[1], draws) < switch) & ~left_out
    share = jnp.ones(draws)
    for at, alpha, which in ((2, settings.mixup, ~cutmix), (3, settings.cutmix, cutmix)):
        if alpha:
            share = jnp.where(which, jax.random.beta(keys[at], alpha, alpha, draws), share)
    share = jnp.where(left_out, 1.0, share)
    centres = (
        jax.random.randint(keys[at], draws, 0, side) for at, side in zip((4, 5), size, strict=True)
    )
    boxes = jnp.stack(box_edges(*size, share, *centres, settings.boxes), axis=-1)
    rows = (_rows_of_groups(each, settings.mode, group) for each in (share, cutmix, boxes))
    return Decisions(*rows)


def _rows_of_groups(draws: jax.Array, mode: str, group: int) -> jax.Array:
    """(groups, draws a group, …) as one a row."""
    if mode == "batch":
        draws = jnp.repeat(draws, group, axis=1)
    elif mode == "pair":
        draws = jnp.concatenate([draws, draws[:, ::-1]], axis=1)
    return draws.reshape(-1, *draws.shape[2:])


def mix_rows(
    images: jax.Array,
    labels: jax.Array,
    num_classes: int,
    rows: Decisions,
    group: int,
    smoothing: float = 0.0,
) -> Mixed:
    """The images and targets after a row's decisions; partners are rows of one group, turned round.

    images: (B, H, W, 3) float32. labels: (B,) int, or (B, K) shares. group: rows of a group.
    """
    height, width = images.shape[1:3]
    yl, yh, xl, xh = (rows.boxes[:, i, None, None, None] for i in range(4))
    y, x = jnp.arange(height)[None, :, None, None], jnp.arange(width)[None, None, :, None]
    inside = (y >= yl) & (y < yh) & (x >= xl) & (x < xh)
    areas = (rows.boxes[:, 1] - rows.boxes[:, 0]) * (rows.boxes[:, 3] - rows.boxes[:, 2])
    share = jnp.where(rows.cutmix, 1 - areas / (height * width), rows.share)
    own, other = images, partners(images, group)
    blend = share[:, None, None, None]
    exchanged = rows.cutmix[:, None, None, None]
    mixed = jnp.where(exchanged, jnp.where(inside, other, own), own * blend + other * (1 - blend))
    targets = smooth_targets(labels, num_classes, smoothing)
    mixed_targets = targets * share[:, None] + partners(targets, group) * (1 - share[:, None])
    return Mixed(mixed, mixed_targets)


def partners(rows: jax.Array, group: int) -> jax.Array:
    """(B, …) → each row's partner: in each group of so many rows, the rows from last to first."""
    return rows.reshape(-1, group, *rows.shape[1:])[:, ::-1].reshape(rows.shape)


def smooth_targets(labels: jax.Array, num_classes: int, smoothing: float) -> jax.Array:
    """(B,) int, or (B, K) shares → (B, K) float32, of which `smoothing` is spread over all K."""
    targets = labels if labels.ndim == 2 else jax.nn.one_hot(labels, num_classes)
    return targets.astype(jnp.float32) * (1 - smoothing) + smoothing / num_classes


def cutmix_box(
    height: int, width: int, lam: float, cy: int, cx: int, rule: str = "timm"
) -> tuple[Box, float]:
    """CutMix's box about (cy, cx), cut off at the image, and the share that it leaves.

    → ((yl, yh, xl, xh), lam). rule: "timm_0_3_2" is that of timm before 1.0.31, with which MAE and
    attention transfer were run: an odd box is one pixel smaller each way. ValueError otherwise.
    """
    if rule not in BOX_RULES:
        raise ValueError(f"rule: got {rule!r}, expected one of {', '.join(BOX_RULES)}")
    check_number("lam", lam)
    if not 0 <= lam <= 1:
        raise ValueError(f"lam: got {lam}, expected a share from 0 to 1")
    check_each_whole(0, height=height, width=width, cy=cy, cx=cx)
    yl, yh, xl, xh = (int(edge) for edge in box_edges(height, width, lam, cy, cx, rule, np))
    return (yl, yh, xl, xh), 1 - (yh - yl) * (xh - xl) / (height * width)


def box_edges(
    height: int, width: int, lam: Any, cy: Any, cx: Any, rule: str, numpy: ModuleType = jnp
) -> tuple[Any, Any, Any, Any]:
    """yl, yh, xl, xh of boxes whose side is √(1 - lam) of the image's; arrays of numpy or jax."""
    edges = []
    for size, centre in ((height, cy), (width, cx)):
        cut = numpy.floor(size * numpy.sqrt(1 - lam)).astype(int)
        upper = (cut + 1) // 2 if rule == "timm" else cut // 2
        edges += [numpy.clip(centre - cut // 2, 0, size), numpy.clip(centre + upper, 0, size)]
    return tuple(edges)

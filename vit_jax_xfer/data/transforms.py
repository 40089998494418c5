"""How images are prepared: pipelines written as strings, "resize(256)|center_crop(224)|normalize".

Operations are listed by `registry.names()`; a module that registers some is imported here.
"""

import ast
from dataclasses import dataclass
from typing import Any

import numpy as np

from vit_jax_xfer.data import (  # noqa: F401 - they register
    color_jitter,
    colour_operations,
    geometry,
    images,
    pixels,
    rand_augment,
    random_erasing,
    scaling,
    trivial_augment,
)
from vit_jax_xfer.data.frame import Frame
from vit_jax_xfer.data.operations import Geometric, Op, build, name_of
from vit_jax_xfer.data.target_arrays import LABEL_MAP, VOID, TargetForm

_LONGEST = 2000  # letters
# Entries of an example beside its image: boxes to erase, and the key of the noise in them.
ERASED, NOISE = "image_erased", "image_noise"
RAW_TARGETS = ("objects", "label_map")  # in the photograph's frame


@dataclass(frozen=True)
class Pipeline:
    """Operations applied in order; picklable. `text` is the string it was parsed from.

    left: its last ones, which are not applied but left to `finish.Finish`; () = it does all.
    form: of the arrays that it makes of an example's objects or map of classes; None = neither is
    looked at. ValueError for a form and an op that can't take them along.
    """

    text: str
    ops: tuple[Op, ...]
    left: tuple[Op, ...] = ()
    form: TargetForm | None = None

    def __post_init__(self):
        if self.form is not None:
            for op in (*self.ops, *self.left):
                _check_takes_targets(op, self.text)

    def __call__(self, example: dict, rng: np.random.Generator) -> dict:
        """The example with its image prepared: float32 (h, w, 3), other entries unchanged.

        Beside it are the arrays of `form`, in place of what they are made of.

        An image that is still bytes after the last op is divided by 255, as by `to_float`. Where
        ops are left it stays bytes, and what they draw are entries beside it; they are applied all
        the same to one that an op before them has made floats of.
        """
        image = example["image"]
        if not getattr((*self.ops, None)[0], "takes_pictures", False):
            image = images.as_array(image)
        ids = example["label_map"] if self.form and self.form.kind == LABEL_MAP else None
        image, frame = self._applied(image, rng, ids)
        image, drawn = images.as_array(image), {}
        example = {name: value for name, value in example.items() if name not in RAW_TARGETS} | (
            self.form.arrays(example, image, frame) if self.form else {"image": image}
        )
        image = example["image"]
        if not self.left or image.dtype != np.uint8:
            for op in self.left:
                image = op(image, rng)
            return {**example, "image": pixels.to_float(image)}
        for op in self.left:
            if isinstance(op, random_erasing.RandomErasing):
                drawn[ERASED] = op.boxes(*image.shape[:2], rng)
                drawn[NOISE] = rng.integers(2**32, size=2, dtype=np.uint32)
        return {**example, "image": image, **drawn}

    def _applied(
        self, image: Any, rng: np.random.Generator, ids: np.ndarray | None
    ) -> tuple[Any, Frame]:
        """The image after the ops, and where the photograph lies in it. ids: a map of classes."""
        frame = Frame.of(*images.height_width(image))
        for op in self.ops:
            if not isinstance(op, Geometric):
                image = op(image, rng)
                continue
            shown = ()
            if ids is not None and op.looks_at_classes:
                shown = (lambda move, at=frame: at.then(move).label_map(ids, VOID),)
            image, move = op.move(image, rng, *shown)
            frame = frame.then(move)
        return image, frame

    def in_bytes(self) -> "Pipeline":
        """The same as far as images are bytes: normalisation, and erasing after it, are left."""
        ops, left = self.ops, ()
        if ops and isinstance(ops[-1], random_erasing.RandomErasing):
            ops, left = ops[:-1], ops[-1:]
        while ops and isinstance(ops[-1], pixels.ToFloat | pixels.Normalize):
            ops, left = ops[:-1], (ops[-1], *left)
        return Pipeline(self.text, ops, (pixels.ToFloat(), *left), self.form)

    @property
    def kind(self) -> type[np.generic]:
        """Of what its ops make of bytes: float32 where one of them normalises, else bytes."""
        floats = any(isinstance(op, pixels.ToFloat | pixels.Normalize) for op in self.ops)
        return np.float32 if floats else np.uint8


def parse(pipeline: str, form: TargetForm | None = None) -> Pipeline:
    """Reads ops separated by |, each a name with optional arguments: "resize(64)|flip|normalize".

    form: of what stands beside the images, as in Pipeline.
    Arguments are Python literals, by position or name; nothing is evaluated. Raises ValueError for
    an unknown op (with the nearest name) and for bad arguments (with the op's signature).
    """
    if len(pipeline) > _LONGEST:
        raise ValueError(f"pipeline: {len(pipeline):,} letters, expected {_LONGEST:,} at most")
    try:
        body = ast.parse(pipeline.strip(), mode="eval").body
    # The last two: Python's parser runs out of its stack where brackets are nested without end.
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error) or "nested too deep"
        raise ValueError(f"pipeline: cannot read {pipeline!r} ({reason})") from error
    ops = tuple(_op(node, pipeline) for node in _flatten(body))
    return Pipeline(pipeline, ops, form=form)


def normalisation_of(
    pipeline: str,
) -> tuple[tuple[float, float, float], tuple[float, float, float]] | None:
    """The (mean, std) that the pipeline's images end in; 0 and 1 where nothing normalises them.

    Of pixels in [0, 1], red, green, blue. None with two `normalize`: neither tells it alone.
    """
    found = [op for op in parse(pipeline).ops if isinstance(op, pixels.Normalize)]
    if len(found) > 1:
        return None
    mean, std = (found[0].mean, found[0].std) if found else (0.0, 1.0)
    return _three(mean), _three(std)


def _three(value: float | tuple[float, ...] | list[float]) -> tuple[float, float, float]:
    """A number, or one or three in a tuple, as three."""
    red, green, blue = np.broadcast_to(value, 3).tolist()
    return float(red), float(green), float(blue)


def _check_takes_targets(op: Op, text: str) -> None:
    """ValueError for an op that moves pixels and doesn't say where, or can't be followed."""
    name = name_of(op)
    reason = "it doesn't say where it moves pixels"
    if isinstance(op, Geometric):
        reason = op.refused
    elif getattr(op, "in_place", False):
        reason = ""
    if reason:
        raise ValueError(
            f"pipeline: {name} in {text!r} can't take boxes or masks along: {reason}; leave it out"
        )


def _flatten(node: ast.expr) -> list[ast.expr]:
    # "a|b|c" parses as the Python expression (a | b) | c.
    left, found = [node], []
    while left:
        node = left.pop()
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            left += [node.left, node.right]
        else:
            found.append(node)
    return found[::-1]


def _op(node: ast.expr, pipeline: str) -> Op:
    if isinstance(node, ast.Name):
        return build(node.id, [], {})
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise ValueError(
            f"pipeline: got {ast.get_source_segment(pipeline.strip(), node)!r} in {pipeline!r}, "
            "expected name or name(arguments)"
        )
    try:
        args = [ast.literal_eval(arg) for arg in node.args]
        kwargs = {str(word.arg): ast.literal_eval(word.value) for word in node.keywords}
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(
            f"pipeline: {node.func.id} in {pipeline!r}: arguments must be literals such as 224 or "
            "(0.08, 1.0)"
        ) from error
    return build(node.func.id, args, kwargs)

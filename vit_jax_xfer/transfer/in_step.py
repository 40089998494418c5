"""Teacher and student side by side: one loop whose body runs a block of each and their loss.

For two scanned networks. A layer's tensors are compared, or handed over, where they are made: no
queries and keys are kept for all layers, and the program is as long for four layers as for forty.
For the backward pass the loop keeps what the student's own would, and two gradients a layer.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vit_jax_xfer.models.collections import head_mask
from vit_jax_xfer.models.transformer.block import Block
from vit_jax_xfer.models.transformer.stack import boundary, make_blocks
from vit_jax_xfer.models.transformer.token_positions import TokenPositions
from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.transfer.pair import Emitted, Pair, Variables
from vit_jax_xfer.transfer.spec import Pairing

Rngs = dict[str, jax.Array] | None
# The variables of some blocks, stacked, and their factors of stochastic depth (layers, 2, B).
Layers = tuple[Variables, jax.Array | None]


class Steps(NamedTuple):
    """How the two go along: blocks that one runs alone at first, then steps of both.

    A step is one of the student's blocks beside `ratio` of the teacher's, of which the last is the
    one that teaches; takes_part: in which steps it does.
    """

    student_lead: int
    teacher_lead: int
    ratio: int
    takes_part: tuple[bool, ...]


def plan_steps(pairing: Pairing) -> Steps | None:
    """The steps in which all layers meet their teacher's; None where that goes in no even steps."""
    (first, start), *rest = sorted(zip(pairing.layers, pairing.teacher_layers, strict=True))
    ratios = {divmod(theirs - start, own - first) for own, theirs in rest} or {(1, 0)}
    ratio, remainder = min(ratios)
    lead = start + 1 - ratio
    if len(ratios) > 1 or remainder or ratio < 1 or lead < 0:
        return None
    taking = set(pairing.layers)
    takes_part = tuple(layer in taking for layer in range(first, max(taking) + 1))
    return Steps(first, lead, ratio, takes_part)


class Track(NamedTuple):
    """One network between its embedding and its head."""

    block: Block
    layers: Layers
    place: TokenPositions | None

    def watch(
        self, tokens: jax.Array, layer: Layers, given: dict[str, jax.Array] | None = None
    ) -> tuple[jax.Array, Emitted]:
        """Tokens (B, T, C) through one block, and what it writes into `qkv`; given: see there."""
        variables, keep = layer
        if given is not None:
            variables = {**variables, "given": {"attention": given}}
        tokens, out = self.block.apply(variables, tokens, keep, self.place, mutable=["qkv"])
        return boundary(tokens), out["qkv"]

    def run(self, tokens: jax.Array, layers: Layers) -> jax.Array:
        """Tokens through some of the blocks, unwatched."""
        return jax.lax.scan(lambda x, layer: (self.watch(x, layer)[0], None), tokens, layers)[0]

    def part(self, first: int, last: int | None = None) -> Layers:
        """The layers from `first` to before `last`."""
        return jax.tree.map(lambda x: x[first:last], self.layers)


def forward_in_step(
    pair: Pair,
    steps: Steps,
    images: jax.Array,
    teacher_images: jax.Array,
    train: bool,
    rngs: Rngs,
    teacher_rngs: Rngs,
) -> tuple[jax.Array, jax.Array]:
    """Logits (B, K) and each image's loss (B,), see `transfer_forward`.

    teacher_rngs: where the teacher drops branches.
    """
    student, tokens = _enter(pair.student, pair.student_variables, images, train, rngs)
    teacher, other = _enter(
        pair.teacher, pair.teacher_variables, teacher_images, teacher_rngs is not None, teacher_rngs
    )
    if steps.student_lead:
        tokens = student.run(tokens, student.part(0, steps.student_lead))
    if steps.teacher_lead:
        other = teacher.run(other, teacher.part(0, steps.teacher_lead))
    number = len(steps.takes_part)
    end = steps.student_lead + number
    tokens, loss = _together(pair, steps, student, teacher, tokens, other)
    if end < pair.student.depth:
        tokens = student.run(tokens, student.part(end))
    grid = pair.student.grid_in(images.shape)
    out = pair.student.apply(pair.student_variables, tokens, grid=grid, method="after_blocks")
    return out.result, loss


def _enter(
    network: VisionTransformer, variables: Variables, images: jax.Array, train: bool, rngs: Rngs
) -> tuple[Track, jax.Array]:
    """A network at its first block, and the tokens that go into it."""
    tokens, keep, place = network.apply(variables, images, train, rngs=rngs, method="before_blocks")
    block = make_blocks(network.depth, network.block_designs(), scan=True, remat=network.remat)
    return Track(block, ({"params": variables["params"]["blocks"]}, keep), place), boundary(tokens)


def _together(
    pair: Pair,
    steps: Steps,
    student: Track,
    teacher: Track,
    tokens: jax.Array,
    other: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Both networks' tokens through the steps: the student's (B, T, C), and the loss (B,)."""
    number, ratio = len(steps.takes_part), steps.ratio
    theirs = teacher.part(steps.teacher_lead, steps.teacher_lead + number * ratio)
    if ratio > 1:
        theirs = jax.tree.map(lambda x: x.reshape(number, ratio, *x.shape[1:]), theirs)
    own = student.part(steps.student_lead, steps.student_lead + number)
    everywhere = all(steps.takes_part)
    masked = pair.transfer.heads is not None or not everywhere
    mask = head_mask(pair.student.num_heads, pair.transfer.heads)

    def step(carry: tuple[jax.Array, ...], layer: Any) -> tuple[tuple[jax.Array, ...], None]:
        tokens, other, total = carry
        own, theirs, takes_part = layer
        if ratio > 1:
            other = teacher.run(other, jax.tree.map(lambda x: x[:-1], theirs))
            theirs = jax.tree.map(lambda x: x[-1], theirs)
        other, emitted = teacher.watch(other, theirs)
        taught = pair.taught(emitted)
        if pair.transfer.copies:
            heads = {"heads": mask & takes_part} if masked else {}
            tokens, _ = student.watch(tokens, own, {**pair.given(taught), **heads})
            return (tokens, other, total), None
        tokens, emitted = student.watch(tokens, own)
        if everywhere:
            return (tokens, other, total + pair.loss(emitted, taught)), None
        total = jax.lax.cond(
            takes_part,
            lambda total, *layer: total + pair.loss(*layer),
            lambda total, *_: total,
            total,
            emitted,
            taught,
        )
        return (tokens, other, total), None

    wide = jnp.promote_types(pair.student.dtype, jnp.float32)
    carry = tokens, other, jnp.zeros(tokens.shape[0], wide)
    (tokens, _, total), _ = jax.lax.scan(step, carry, (own, theirs, jnp.asarray(steps.takes_part)))
    return tokens, total

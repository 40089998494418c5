"""The teacher's pass, then the student's: for networks whose blocks are not scanned in step."""

from typing import Any

import jax
import jax.numpy as jnp

from vit_jax_xfer.models.collections import block_values, give_attention
from vit_jax_xfer.models.extract import first_blocks
from vit_jax_xfer.transfer.pair import Pair

Rngs = dict[str, jax.Array] | None


def forward_in_turn(
    pair: Pair,
    images: jax.Array,
    teacher_images: jax.Array,
    train: bool,
    rngs: Rngs,
    teacher_rngs: Rngs,
) -> tuple[Any, jax.Array]:
    """Logits (B, K), or maps where `pair.read` says so, and each image's loss (B,).

    teacher_rngs: where the teacher drops branches. Two scanned networks' losses, or what is copied,
    come from stacks of tensors in one loop, so that here too the program is as long for any depth.
    """
    theirs = _teachers(pair, teacher_images, teacher_rngs)
    student, variables = pair.student, pair.student_variables
    given, how = (images, train), {"rngs": rngs}
    if pair.read is not None:
        given, how = (*given, pair.read), {**how, "method": "feature_maps"}
    if pair.transfer.copies:
        variables = {**variables, "given": _given(pair, theirs)}
        result = student.apply(variables, *given, **how)
        return result, jnp.zeros(images.shape[0])
    result, own = student.apply(variables, *given, **how, mutable=["qkv"])
    return result, _loss(pair, own["qkv"], theirs)


def given_by_teacher(pair: Pair, teacher_images: jax.Array) -> dict[str, Any]:
    """The collection `given` of a student that copies, for its teacher's view of some images."""
    return _given(pair, _teachers(pair, teacher_images, None))


def _teachers(pair: Pair, images: jax.Array, rngs: Rngs) -> Any:
    """What the teacher's blocks write into `qkv`. rngs: where it drops branches."""
    teacher, variables = pair.teacher, pair.teacher_variables
    if rngs is None:
        # Under a scan the compiler can't tell that nobody asks for the later blocks.
        needed = max(pair.pairing.teacher_layers) + 1
        teacher, variables = first_blocks(teacher, variables, needed)
    _, out = teacher.apply(variables, images, rngs is not None, rngs=rngs, mutable=["qkv"])
    return out["qkv"]


def _loss(pair: Pair, own: Any, theirs: Any) -> jax.Array:
    """The sum over layers, (B,)."""
    layers = pair.pairing.layers, pair.pairing.teacher_layers
    if "blocks" in own and "blocks" in theirs:
        stacks = _layers(own, layers[0]), _layers(theirs, layers[1])

        def step(_: None, blocks: tuple[Any, Any]) -> tuple[None, jax.Array]:
            return None, pair.loss(blocks[0], pair.taught(blocks[1]))

        return jax.lax.scan(step, None, stacks)[1].sum(axis=0)
    return sum(
        pair.loss(block_values(own, layer), pair.taught(block_values(theirs, other)))
        for layer, other in zip(*layers, strict=True)
    )


def _given(pair: Pair, theirs: Any) -> dict[str, Any]:
    """The student's collection `given`."""
    if "blocks" in theirs:
        stack = _layers(theirs, pair.pairing.teacher_layers)
        found = jax.vmap(lambda block: pair.given(pair.taught(block)))(stack)
    else:
        blocks = [
            pair.given(pair.taught(block_values(theirs, layer)))
            for layer in pair.pairing.teacher_layers
        ]
        found = {name: [block[name] for block in blocks] for name in blocks[0]}
    return give_attention(
        found,
        pair.pairing.layers,
        depth=pair.student.depth,
        num_heads=pair.student.num_heads,
        heads=pair.transfer.heads,
        scan=pair.student.scan,
    )


def _layers(emitted: Any, layers: tuple[int, ...]) -> Any:
    """A scanned network's tensors of these layers, in this order."""
    return jax.tree.map(lambda x: x[jnp.asarray(layers)], emitted["blocks"])

"""One forward pass of a student beside its teacher: copied or distilled attention (2411.09702)."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax_xfer.models.collections import give_attention, layer_values
from vit_jax_xfer.models.extract import encoder_of
from vit_jax_xfer.models.patches import check_images
from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.transfer import losses
from vit_jax_xfer.transfer.spec import Transfer

Variables = Any
Rngs = dict[str, jax.Array] | None


def transfer_forward(
    student: nn.Module,
    student_variables: Variables,
    teacher: nn.Module,
    teacher_variables: Variables,
    images: jax.Array,
    mode: str = "distill",
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    materialize: bool = False,
    train: bool = False,
    rngs: Rngs = None,
    share_drop_path: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """The student's logits (B, K) and its transfer loss (), summed over layers; 0 for copies.

    images: (B, H, W, 3) float32, seen by both. mode, layers, heads, materialize: see `Transfer`.
    train, rngs: the student's drop path; share_drop_path drops the same branches in the teacher,
    as the published code does. No gradient reaches the teacher.
    """
    transfer = Transfer(
        mode,
        None if layers is None else tuple(layers),
        None if heads is None else tuple(heads),
        materialize,
    )
    logits, per_image = paired_forward(
        transfer,
        student,
        student_variables,
        teacher,
        teacher_variables,
        jnp.asarray(images),
        train=train,
        rngs=rngs,
        share_drop_path=share_drop_path,
    )
    return logits, per_image.mean()


def paired_forward(
    transfer: Transfer,
    student: nn.Module,
    student_variables: Variables,
    teacher: nn.Module,
    teacher_variables: Variables,
    images: jax.Array,
    *,
    train: bool = False,
    rngs: Rngs = None,
    share_drop_path: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """As `transfer_forward`, with the loss of each image: logits (B, K), loss (B,) float32."""
    check_images(images)
    student, student_variables = encoder_of(student, student_variables)
    teacher, teacher_variables = encoder_of(teacher, teacher_variables)
    transfer.check(student, teacher, images.shape)
    layers = transfer.resolve_layers(student)
    shared = train and share_drop_path
    if shared:
        teacher = teacher.clone(drop_path=student.drop_path)
    teacher_out = _teacher_values(
        transfer, teacher, teacher_variables, images, layers, shared, rngs if shared else None
    )
    if transfer.copies:
        given = give_attention(
            teacher_out,
            layers,
            depth=student.depth,
            num_heads=student.num_heads,
            heads=transfer.heads,
            scan=student.scan,
        )
        logits = student.apply({**student_variables, "given": given}, images, train, rngs=rngs)
        return logits, jnp.zeros(images.shape[0])
    logits, own = student.apply(student_variables, images, train, rngs=rngs, mutable=["qkv"])
    names = ("q", "k") if transfer.part == "map" else (transfer.part,)
    student_out = {name: layer_values(own["qkv"], ("attention", name), layers) for name in names}
    return logits, _distillation(transfer, student, student_out, teacher_out)


def _teacher_values(
    transfer: Transfer,
    teacher: VisionTransformer,
    variables: Variables,
    images: jax.Array,
    layers: Sequence[int],
    train: bool,
    rngs: Rngs,
) -> dict[str, list[jax.Array]]:
    """What the teacher hands over, {name: one array a layer}, cut off from its gradient."""
    maps = transfer.copies and transfer.part == "map" and transfer.materialize
    collection = "attention" if maps else "qkv"
    names = ("map",) if maps else ("q", "k") if transfer.part == "map" else (transfer.part,)
    _, out = teacher.apply(variables, images, train, rngs=rngs, mutable=[collection])
    values = {name: layer_values(out[collection], ("attention", name), layers) for name in names}
    return jax.lax.stop_gradient(values)


def _distillation(
    transfer: Transfer,
    student: VisionTransformer,
    student_out: dict[str, list[jax.Array]],
    teacher_out: dict[str, list[jax.Array]],
) -> jax.Array:
    """The loss of each image, (B,): summed over layers, averaged over heads and tokens."""

    def layer_loss(index: int) -> jax.Array:
        own = {name: _pick(values[index], transfer.heads) for name, values in student_out.items()}
        other = {name: _pick(values[index], transfer.heads) for name, values in teacher_out.items()}
        if transfer.part != "map":
            return losses.mean_square(own[transfer.part], other[transfer.part])
        tensors = own["q"], own["k"], other["q"], other["k"]
        if transfer.materialize:
            rows = losses.map_cross_entropy(*tensors)
        else:
            rows = losses.cross_entropy(*tensors, student.attention, student.blockwise_above)
        return rows.mean(axis=(1, 2))

    return sum(layer_loss(i) for i in range(len(next(iter(student_out.values())))))


def _pick(tensor: jax.Array, heads: Sequence[int] | None) -> jax.Array:
    """The chosen heads of (B, T, H, d)."""
    return tensor if heads is None else tensor[:, :, jnp.asarray(heads)]

"""One forward pass of a student beside its teacher: copied or distilled attention (2411.09702)."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
from jax.typing import ArrayLike

from vit_jax_xfer.arguments.given_arrays import given_array
from vit_jax_xfer.models.attention.kernel_choice import LossKernel
from vit_jax_xfer.models.collections import resolve_layers
from vit_jax_xfer.models.extract import encoder_of
from vit_jax_xfer.models.transformer.patches import check_images
from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.transfer.averaging import Average
from vit_jax_xfer.transfer.in_step import forward_in_step, plan_steps
from vit_jax_xfer.transfer.in_turn import forward_in_turn, given_by_teacher
from vit_jax_xfer.transfer.matching import MatchHeads, MatchLayers
from vit_jax_xfer.transfer.pair import Pair
from vit_jax_xfer.transfer.spec import Mode, Transfer
from vit_jax_xfer.transfer.tokens import Tokens

Variables = Any
Rngs = dict[str, jax.Array] | None


def transfer_forward(
    student: nn.Module,
    student_variables: Variables,
    teacher: nn.Module,
    teacher_variables: Variables,
    images: ArrayLike,
    mode: Mode | Transfer = "distill",
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    materialize: bool = False,
    train: bool = False,
    rngs: Rngs = None,
    share_drop_path: bool = False,
    match_layers: MatchLayers | tuple[int, ...] = "same",
    match_heads: MatchHeads = "same",
    tokens: Tokens = "all",
    teacher_images: ArrayLike | None = None,
    average: Average = "none",
    loss_kernel: LossKernel = "auto",
) -> tuple[jax.Array, jax.Array]:
    """The student's logits (B, K) and its transfer loss (), summed over layers; 0 for copies.

    images: (B, H, W, 3) float32, seen by both. mode, layers, heads, materialize, match_layers,
    match_heads, tokens, average, loss_kernel: the fields of `Transfer`; a whole Transfer may stand
    as `mode` for all of them. train, rngs: the student's drop path; share_drop_path drops the same
    branches in the teacher, as the published code does. teacher_images: (B, H', W', 3), the
    teacher's own view of the same images, of the student's grid of patches; None = `images`. No
    gradient reaches the teacher.
    """
    fields = {
        "layers": layers,
        "heads": heads,
        "materialize": materialize,
        "match_layers": match_layers,
        "match_heads": match_heads,
        "tokens": tokens,
        "average": average,
        "loss_kernel": loss_kernel,
    }
    if isinstance(mode, Transfer) and Transfer(**fields) != Transfer():
        raise ValueError("mode: a Transfer says which layers, heads and tokens by its own fields")
    logits, per_image = paired_forward(
        mode if isinstance(mode, Transfer) else Transfer(mode, **fields),
        student,
        student_variables,
        teacher,
        teacher_variables,
        given_array("images", images),
        train=train,
        rngs=rngs,
        share_drop_path=share_drop_path,
        teacher_images=(
            None if teacher_images is None else given_array("teacher_images", teacher_images)
        ),
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
    teacher_images: jax.Array | None = None,
    counted: jax.Array | None = None,
    maps_of: Sequence[int] | None = None,
) -> tuple[Any, jax.Array]:
    """As `transfer_forward`, with the loss of each image: logits (B, K), loss (B,) float32.

    counted: (B,) bool, the images that means over images are of; None = all. maps_of: layers whose
    feature maps (B, h, w, C), in this order, stand in place of logits; the student is then a
    network without a head (`Network.headless`).
    """
    teacher_images = images if teacher_images is None else teacher_images
    student, student_variables = encoder_of(
        student, student_variables, "student", "student_variables"
    )
    teacher, teacher_variables = encoder_of(
        teacher, teacher_variables, "teacher", "teacher_variables"
    )
    check_views(images, teacher_images, student.in_channels, teacher.in_channels)
    shares = train and share_drop_path
    _check_still(student, train)
    _check_still(teacher, shares)
    pairing = transfer.pair(student, teacher, images.shape, teacher_images.shape)
    if transfer.materialize and transfer.part == "map":
        student, teacher = (_with_maps(network) for network in (student, teacher))
    if shares:
        check_shared_depth(student, teacher)
        teacher = teacher.clone(drop_path=student.drop_path)
    pair = Pair(
        transfer,
        pairing,
        student,
        student_variables,
        teacher,
        jax.lax.stop_gradient(teacher_variables),
        len(images),
        counted,
        None if maps_of is None else resolve_layers(maps_of, student.depth),
    )
    given = images, teacher_images, train, rngs, rngs if shares else None
    last = pair.read is None or pair.read == (student.depth - 1,)
    if student.scan and teacher.scan and last and (steps := plan_steps(pairing)):
        result, loss = forward_in_step(pair, steps, *given)
        return (result if pair.read is None else (result,)), loss
    return forward_in_turn(pair, *given)


def copied_attention(
    transfer: Transfer,
    student: nn.Module,
    teacher: nn.Module,
    teacher_variables: Variables,
    images: jax.Array,
    teacher_images: jax.Array,
) -> dict[str, Any]:
    """The collection `given` with which a copying student computes on images (B, H, W, 3).

    teacher_images: as in `transfer_forward`. With it among its variables the student is a network
    by itself, for these images: what it attends to can be looked at.
    """
    pairing = transfer.pair(student, teacher, images.shape, teacher_images.shape)
    pair = Pair(transfer, pairing, student, {}, teacher, teacher_variables, len(images))
    return given_by_teacher(pair, teacher_images)


def check_views(
    images: jax.Array, teacher_images: jax.Array, channels: int, teacher_channels: int
) -> None:
    """ValueError unless both are (B, H, W, channels), of as many images."""
    check_images(images, channels)
    wanted = (images.shape[0], teacher_channels)
    if teacher_images.ndim != 4 or (teacher_images.shape[0], teacher_images.shape[-1]) != wanted:
        raise ValueError(
            f"teacher_images: expected shape ({wanted[0]}, H, W, {wanted[1]}), got "
            f"{tuple(teacher_images.shape)}"
        )


def _check_still(network: VisionTransformer, train: bool) -> None:
    """ValueError for a network whose statistics a training pass would have to move."""
    if train and network.batch_norm:
        raise ValueError(
            "batch_norm: is for a probe, whose other layers stand still; leave it out, or pass "
            "train=False"
        )


def check_shared_depth(student: VisionTransformer, teacher: VisionTransformer) -> None:
    """ValueError unless the student's dropped branches exist in the teacher, layer by layer."""
    if student.depth != teacher.depth:
        raise ValueError(
            f"share_drop_path: the teacher has {teacher.depth} layers and the student "
            f"{student.depth}, so they can't drop the same branches; turn it off"
        )


def _with_maps(network: VisionTransformer) -> VisionTransformer:
    """A network whose attention goes by the maps that are there anyway, unless told otherwise."""
    return network.clone(attention="plain") if network.attention == "auto" else network

"""Which tokens two networks have in common: prefix tokens differ from family to family."""

import contextlib
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.transfer.views import size_for_grid

Tokens = Literal["all", "common"]
TOKENS: tuple[str, ...] = get_args(Tokens)

# Places among a network's tokens; None = all of them, in their order.
Places = tuple[int, ...] | None


class TokenLayout(NamedTuple):
    """What a network's tokens are: class, distillation, registers, then the patches row by row."""

    class_token: bool
    distillation_token: bool
    registers: int
    grid: tuple[int, int]


def layout_of(model: VisionTransformer, image_shape: Sequence[int]) -> TokenLayout:
    """The tokens that an image (…, H, W, 3) becomes. ValueError where patches don't fill it."""
    grid = model.grid_in(tuple(image_shape))
    return TokenLayout(model.class_token, model.distillation_token, model.registers, grid)


def pair_layouts(
    student: VisionTransformer,
    teacher: VisionTransformer,
    image_shape: Sequence[int],
    teacher_shape: Sequence[int],
) -> tuple[TokenLayout, TokenLayout]:
    """Both layouts, each on its own images. ValueError unless their patches form one grid."""
    own, other = layout_of(student, image_shape), None
    with contextlib.suppress(ValueError):
        other = layout_of(teacher, teacher_shape)
    if other is None or other.grid != own.grid:
        (height, width), (h, w), patch = teacher_shape[-3:-1], own.grid, teacher.patch_size
        down, across = size_for_grid(own.grid, patch, teacher.patch_stride)
        raise ValueError(
            f"teacher: {height}×{width} pixels are not the student's {h}×{w} patches to it; with "
            f"its patch_size {patch} give it {down}×{across} (teacher_images, or "
            "task.teacher_image_size=-1)"
        )
    return own, other


def check_same_layout(student: TokenLayout, teacher: TokenLayout, way_out: str) -> None:
    """ValueError that names the kind of token in which the two differ, and ends in `way_out`."""
    for kind, own, other in zip(TokenLayout._fields, student, teacher, strict=True):
        if own != other:
            raise ValueError(
                f"teacher: its {kind} is {other} and the student's {own}, so that their tokens "
                f"are not the same; {way_out}"
            )


def common_tokens(student: TokenLayout, teacher: TokenLayout) -> tuple[Places, Places]:
    """The places of the tokens that both have, in the student and in the teacher.

    Registers count as common where both have as many. The grids must be equal.
    """
    shared = (
        student.class_token and teacher.class_token,
        student.distillation_token and teacher.distillation_token,
        student.registers == teacher.registers,
    )
    return _places(student, shared), _places(teacher, shared)


def _places(layout: TokenLayout, shared: Sequence[bool]) -> Places:
    """Where the shared kinds of token sit in one network."""
    numbers = (*map(int, layout[:3]), layout.grid[0] * layout.grid[1])
    places: list[int] = []
    start = 0
    for number, kept in zip(numbers, (*shared, True), strict=True):
        places += range(start, start + number) if kept else ()
        start += number
    return None if len(places) == start else tuple(places)

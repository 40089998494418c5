"""What is transferred from a teacher to a student, checked against both before anything runs."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, get_args

from vit_jax_xfer.arguments.declared_types import check_choice, check_declared
from vit_jax_xfer.arguments.listed_values import listed_numbers
from vit_jax_xfer.arguments.whole_numbers import is_whole
from vit_jax_xfer.models.attention.kernel_choice import LOSS_KERNELS, LossKernel
from vit_jax_xfer.models.extract import resolve_layers
from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.transfer.averaging import AVERAGES, Average
from vit_jax_xfer.transfer.matching import (
    MATCH_HEADS,
    MATCH_LAYERS,
    HeadMatch,
    MatchHeads,
    MatchLayers,
    match_heads,
    match_layers,
)
from vit_jax_xfer.transfer.tokens import (
    TOKENS,
    Places,
    Tokens,
    check_same_layout,
    common_tokens,
    pair_layouts,
)

Mode = Literal[
    "distill",
    "distill_q",
    "distill_k",
    "distill_v",
    "copy",
    "copy_q",
    "copy_k",
    "copy_v",
]
MODES: tuple[str, ...] = get_args(Mode)


class Pairing(NamedTuple):
    """What a `Transfer` comes to for one student and one teacher."""

    layers: tuple[int, ...]  # the student's
    teacher_layers: tuple[int, ...]  # one for each of them
    heads: tuple[int, ...] | None  # of the student, those that are compared; None = all
    matched: HeadMatch  # what the teacher's heads are to them
    tokens: Places  # of the student, those that are compared
    teacher_tokens: Places
    as_maps: bool  # whether maps are built


@dataclasses.dataclass(frozen=True)
class Transfer:
    """Which attention moves from a teacher to a student, and how (2411.09702).

    | mode        | what happens in each layer that takes part                                   |
    |-------------|------------------------------------------------------------------------------|
    | `distill`   | the loss is the cross-entropy of the student's maps with the teacher's        |
    | `distill_q` | the loss is the mean square between the two's queries                         |
    | `distill_k` | the same between their keys                                                   |
    | `distill_v` | the same between their values                                                 |
    | `copy`      | the student attends by the teacher's maps; there is no loss                   |
    | `copy_q`    | the teacher's queries stand in place of the student's; there is no loss       |
    | `copy_k`    | the teacher's keys do                                                         |
    | `copy_v`    | the teacher's values do                                                       |

    layers, heads: the student's that take part, None = all; negative layers count from the end.
    materialize: build (T, T) maps rather than hand over q and k, and with attention="auto" compute
    the networks' own attention by maps as well.
    match_layers: the teacher's layer for each: same | even | last | first | a tuple of them.
    match_heads: same; average, the mean of all its maps for each head; group, the mean of as many
    neighbours each, or each for as many of the student's. Copies of mean maps are built as maps.
    tokens: all, which must be the same ones; common, which leaves out prefix tokens that one side
    lacks and makes the teacher's rows sum to 1 again.
    average: none; what the teacher's maps are averaged over before they move: heads, which is
    match_heads="average"; queries, one row for all of an image's; images, one map for all of the
    batch that goes through together (averaging.py). The last two build maps.
    loss_kernel: of distilled maps that are not built: auto, as the student's `attention` says;
    fused, a kernel of its own on GPUs and TPUs (docs/attention_kernels.md).
    """

    mode: Mode = "distill"
    layers: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None
    materialize: bool = False
    match_layers: MatchLayers | tuple[int, ...] = "same"
    match_heads: MatchHeads = "same"
    tokens: Tokens = "all"
    average: Average = "none"
    loss_kernel: LossKernel = "auto"

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, MODES)
        check_choice("match_heads", self.match_heads, MATCH_HEADS)
        check_choice("tokens", self.tokens, TOKENS)
        check_choice("average", self.average, AVERAGES)
        check_choice("loss_kernel", self.loss_kernel, LOSS_KERNELS)
        self._check_average()
        self._check_loss_kernel()
        check_declared("materialize", self.materialize, bool)
        for field in ("layers", "heads", "match_layers"):
            # Lists and arrays are as good, but would not hash.
            value = getattr(self, field)
            one = field == "match_layers" and is_whole(value)  # is no name of a way
            if value is not None and not isinstance(value, str) and not one:
                object.__setattr__(self, field, listed_numbers(field, value))
        if not isinstance(self.match_layers, tuple):
            tail = ", or a tuple of layers"
            check_choice("match_layers", self.match_layers, MATCH_LAYERS, tail)

    @property
    def copies(self) -> bool:
        """Whether the student computes with the teacher's tensors rather than learns from them."""
        return self.mode.startswith("copy")

    @property
    def part(self) -> str:
        """What moves: "map", "q", "k" or "v"."""
        return self.mode.partition("_")[2] or "map"

    def resolve_layers(self, student: VisionTransformer) -> tuple[int, ...]:
        """The student's layers that take part, as indices 0 … depth-1."""
        return resolve_layers(self.layers, student.depth)

    def check(
        self,
        student: VisionTransformer,
        teacher: VisionTransformer,
        image_shape: Sequence[int],
        teacher_shape: Sequence[int] | None = None,
    ) -> None:
        """ValueError that names the field in which teacher and student do not fit each other."""
        self.pair(student, teacher, image_shape, teacher_shape)

    def pair(
        self,
        student: VisionTransformer,
        teacher: VisionTransformer,
        image_shape: Sequence[int],
        teacher_shape: Sequence[int] | None = None,
    ) -> Pairing:
        """What moves between these two on images (…, H, W, 3). ValueError as `check` says.

        teacher_shape: of the teacher's own images, None = those of the student.
        """
        own_tokens, teacher_tokens = self._tokens(
            student, teacher, image_shape, teacher_shape or image_shape
        )
        layers = self.resolve_layers(student)
        teacher_layers = match_layers(self.match_layers, student.depth, teacher.depth, layers)
        self._check_heads(student)
        self._check_windows(student, teacher, zip(layers, teacher_layers, strict=True))
        # A copy hands over all heads and masks those that keep their own.
        chosen = None if self.copies else self.heads
        if self.part != "map" and self.match_heads != "same":
            raise ValueError(
                f"match_heads: {self.match_heads!r} pairs maps; mode {self.mode!r} needs 'same' "
                "and heads of one size"
            )
        how = "average" if self.average == "heads" else self.match_heads
        matched = match_heads(how, student.num_heads, teacher.num_heads, chosen)
        sizes = student.width // student.num_heads, teacher.width // teacher.num_heads
        # Decomposed relative positions are channels of queries and keys.
        wider = [network.relative_bias == "decomposed" for network in (student, teacher)]
        equal = sizes[0] == sizes[1] and wider[0] == wider[1]
        fits = equal or not self._needs_equal_sizes(student, layers)
        as_maps = (
            self.materialize
            or self.average in ("queries", "images")
            or (self.copies and (matched.groups is not None or (how != "same" and not fits)))
        )
        if not fits and not (as_maps and self.part == "map"):
            if sizes[0] == sizes[1]:
                raise ValueError(
                    f"mode: {self.mode!r} needs relative_bias='decomposed' in both networks or "
                    "in neither; the one that has it has wider queries and keys"
                )
            raise ValueError(
                f"mode: {self.mode!r} needs heads of one size; the teacher's have {sizes[1]} "
                f"channels and the student's {sizes[0]}"
                + ("; materialize=True moves maps, which fit" if self.part == "map" else "")
            )
        return Pairing(
            layers,
            teacher_layers,
            self.heads,
            matched,
            own_tokens,
            teacher_tokens,
            as_maps,
        )

    def _needs_equal_sizes(self, student: VisionTransformer, layers: Sequence[int]) -> bool:
        """Whether the tensors that move must have the student's head size.

        A map has no such dimension, and neither has a distilled one. Tensors that are put in place
        of some of the student's have, and the layers of a scan are alike: with some of them left
        out, each takes the teacher's by a mask.
        """
        masked = self.heads is not None or (student.scan and len(layers) < student.depth)
        return self.part != "map" or (self.copies and masked)

    def _check_windows(
        self,
        student: VisionTransformer,
        teacher: VisionTransformer,
        pairs: Iterable[tuple[int, int]],
    ) -> None:
        """Maps of different windows are of different tokens."""
        for own, other in pairs:
            sides = student.window_of(own), teacher.window_of(other)
            if sides[0] != sides[1]:
                told = [f"windows of {side}" if side else "no windows" for side in sides]
                raise ValueError(
                    f"window_size, window_blocks: the student's layer {own} has {told[0]} and the "
                    f"teacher's layer {other} {told[1]}; choose layers that attend alike"
                )
            if sides[0] and self.average == "images":
                raise ValueError(
                    f"average: 'images' has no mean of the windows of layer {own}; choose layers "
                    "without windows"
                )

    def _tokens(
        self,
        student: VisionTransformer,
        teacher: VisionTransformer,
        image_shape: Sequence[int],
        teacher_shape: Sequence[int],
    ) -> tuple[Places, Places]:
        layouts = pair_layouts(student, teacher, image_shape, teacher_shape)
        if self.tokens == "all":
            check_same_layout(*layouts, "tokens='common' leaves the others out")
            return None, None
        own, other = common_tokens(*layouts)
        if self.copies and own is not None:
            raise ValueError(
                f"tokens: mode {self.mode!r} needs a teacher with every token that the student "
                "has; a student with tokens that the teacher lacks can only distil"
            )
        return own, other

    def _check_average(self) -> None:
        if self.average != "none" and self.part != "map":
            raise ValueError(
                f"average: {self.average!r} averages maps, and mode {self.mode!r} moves none; "
                "choose distill or copy"
            )
        if self.average == "heads" and self.match_heads == "group":
            raise ValueError(
                "average: 'heads' gives every head the mean of all, which match_heads='group' "
                "contradicts; leave one of them out"
            )

    def _check_loss_kernel(self) -> None:
        if self.loss_kernel == "auto":
            return
        if self.mode != "distill":
            raise ValueError(
                f"loss_kernel: 'fused' compares maps, and mode {self.mode!r} does not; choose "
                "'distill', or loss_kernel='auto'"
            )
        if self.materialize or self.average != "none":
            field = "materialize" if self.materialize else "average"
            raise ValueError(
                f"loss_kernel: 'fused' takes maps that are neither built nor averaged; leave "
                f"{field} out, or loss_kernel='auto'"
            )

    def _check_heads(self, student: VisionTransformer) -> None:
        if self.heads is None:
            return
        heads = student.num_heads
        outside = [head for head in self.heads if not is_whole(head) or not 0 <= head < heads]
        if outside or not self.heads or len(set(self.heads)) < len(self.heads):
            raise ValueError(
                f"heads: expected distinct numbers from 0 to {heads - 1}, "
                f"at least one; got {tuple(self.heads)}"
            )

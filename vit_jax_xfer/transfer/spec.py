"""What is transferred from a teacher to a student, checked against both before anything runs."""

import dataclasses
import difflib
from collections.abc import Sequence

from vit_jax_xfer.models.extract import resolve_layers
from vit_jax_xfer.models.vit import VisionTransformer

MODES: tuple[str, ...] = (
    "distill",
    "distill_q",
    "distill_k",
    "distill_v",
    "copy",
    "copy_q",
    "copy_k",
    "copy_v",
)


@dataclasses.dataclass(frozen=True)
class Transfer:
    """Which attention moves, and how (2411.09702).

    mode: `copy` gives the student the teacher's maps, `distill` adds their cross-entropy to the
    loss; `_q`, `_k`, `_v` do so with the queries, keys or values alone (distilled by mean square).
    layers, heads: which take part, None = all; negative layers count from the end.
    materialize: build (T, T) maps rather than hand over q and k.
    """

    mode: str = "distill"
    layers: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None
    materialize: bool = False

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            near = difflib.get_close_matches(self.mode, MODES, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"mode: {self.mode!r} is none of {', '.join(MODES)}; did you mean {near!r}?"
            )

    @property
    def copies(self) -> bool:
        """Whether the student computes with the teacher's tensors rather than learns from them."""
        return self.mode.startswith("copy")

    @property
    def part(self) -> str:
        """What moves: "map", "q", "k" or "v"."""
        return self.mode.partition("_")[2] or "map"

    def resolve_layers(self, student: VisionTransformer) -> tuple[int, ...]:
        """The layers that take part, as indices 0 … depth-1."""
        return resolve_layers(self.layers, student.depth)

    def check(
        self,
        student: VisionTransformer,
        teacher: VisionTransformer,
        image_shape: Sequence[int],
    ) -> None:
        """ValueError that names the field in which teacher and student do not fit each other."""
        shape = tuple(image_shape)
        tokens = student.num_tokens(shape), teacher.num_tokens(shape)
        if tokens[0] != tokens[1]:
            raise ValueError(
                f"teacher: it makes {tokens[1]} tokens of a {shape[-3]}×{shape[-2]} image and the "
                f"student {tokens[0]}; choose the same patch_size and class_token"
            )
        if student.depth != teacher.depth:
            raise ValueError(
                f"teacher: depth {teacher.depth} differs from the student's {student.depth}"
            )
        if student.num_heads != teacher.num_heads:
            raise ValueError(
                f"teacher: num_heads {teacher.num_heads} differs from the student's "
                f"{student.num_heads}"
            )
        self.resolve_layers(student)
        self._check_heads(student)
        dims = student.width // student.num_heads, teacher.width // teacher.num_heads
        # The layers of a scan are alike: with some left out, each takes the teacher's by a mask.
        masked = self.heads is not None or (
            student.scan and len(self.resolve_layers(student)) < student.depth
        )
        whole_map = self.part == "map" and (self.materialize or not masked)
        # A map has no head dimension, and neither has a distilled one; tensors that must be put
        # in place of the student's, or be compared with them, do.
        if dims[0] != dims[1] and not whole_map and self.mode != "distill":
            raise ValueError(
                f"mode: {self.mode!r} needs heads of one size; the teacher's have {dims[1]} "
                f"channels and the student's {dims[0]}"
                + ("; materialize=True moves maps, which fit" if self.part == "map" else "")
            )

    def _check_heads(self, student: VisionTransformer) -> None:
        if self.heads is None:
            return
        outside = [head for head in self.heads if not 0 <= head < student.num_heads]
        if outside or not self.heads or len(set(self.heads)) < len(self.heads):
            raise ValueError(
                f"heads: expected distinct numbers from 0 to {student.num_heads - 1}, "
                f"at least one; got {tuple(self.heads)}"
            )

"""A student beside its teacher, and how far apart a block of one is from a block of the other."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.transfer import losses, values
from vit_jax_xfer.transfer.map_free import cross_entropy
from vit_jax_xfer.transfer.spec import Pairing, Transfer

Variables = Any
Emitted = Mapping[str, Any]  # what one block writes into the collection `qkv`


class Pair(NamedTuple):
    """Two networks with their variables, and what moves between them."""

    transfer: Transfer
    pairing: Pairing
    student: VisionTransformer
    student_variables: Variables
    teacher: VisionTransformer
    teacher_variables: Variables
    number: int  # of images that go through
    counted: jax.Array | None = None  # (B,): the images that means over images are of
    # The student's layers whose feature maps are its result; None = its logits.
    read: tuple[int, ...] | None = None

    def taught(self, emitted: Emitted) -> values.Values:
        """What one of the teacher's blocks hands over or is compared by."""
        return values.of_teacher(self.transfer, self.pairing, emitted)

    def given(self, theirs: values.Values) -> values.Values:
        """The same as one of the student's blocks takes it in place of its own."""
        return values.for_copies(self.transfer, self.pairing, theirs, self.student, self.counted)

    def loss(self, emitted: Emitted, theirs: values.Values) -> jax.Array:
        """The loss of each image in one layer, (B,): averaged over heads and tokens.

        emitted: by the student's block. theirs: of `taught`. Of windows it is the mean, in which
        the zeros beyond the grid, where the windows don't fill it, are tokens as others are.
        """
        losses = self._losses(emitted, theirs)
        return losses.reshape(self.number, -1).mean(axis=1)

    def _losses(self, emitted: Emitted, theirs: values.Values) -> jax.Array:
        """Of each image, or of each window, image by image."""
        own = values.of_student(self.transfer, self.pairing, emitted)
        part = self.transfer.part
        if part != "map":
            return losses.mean_square(own[part], theirs[part])
        tensors = own["q"], own["k"], theirs["q"], theirs["k"]
        extra = {
            "student_bias": own.get("bias"),
            "teacher_bias": theirs.get("bias"),
            "groups": self.pairing.matched.groups,
        }
        if self.pairing.as_maps:
            over = {"average": self.transfer.average, "counted": self.counted}
            return losses.map_cross_entropy(*tensors, **extra, **over).mean(axis=(1, 2))
        kernels = self.student.attention, self.student.blockwise_above
        return cross_entropy(*tensors, *kernels, **extra, loss_kernel=self.transfer.loss_kernel)

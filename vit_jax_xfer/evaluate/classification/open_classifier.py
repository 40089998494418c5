"""A classifier of a file, a model folder or a run: as its run evaluated it, or refused."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax

from vit_jax_xfer.pretrained.file_to_model import load_pretrained
from vit_jax_xfer.tasks.build import load_member
from vit_jax_xfer.tasks.copying_runs import copying_run


@dataclasses.dataclass(frozen=True, eq=False)
class CopyingStudent:
    """A student with the teacher whose attention it computes with: one classifier.

    The fields and `apply` are those that predictions ask of a network.
    """

    class_names: tuple[str, ...] | None
    num_classes: int
    preprocessing: Any
    predict: Callable[[Any, jax.Array], jax.Array]

    def apply(self, variables: Any, images: jax.Array) -> jax.Array:
        """Logits (B, K) of images (B, H, W, 3)."""
        return self.predict(variables, images)


def open_classifier(source: str, family: str | None = None, **fields: Any) -> tuple[Any, Any]:
    """A network and its variables: what `load_pretrained` reads, or the folder of a run.

    Of a run that copies the folder gives the student with its teacher, as the run evaluated it.
    ValueError for such a student's model alone, which is another network.
    """
    folder = pathlib.Path(source).expanduser()
    run = copying_run(source)
    if run is None:
        return load_pretrained(source, family, **fields)
    if run != folder:
        raise ValueError(
            f"{source} computes with its teacher's attention, which isn't in it; give its run's "
            f"folder, {run}"
        )
    student, _ = load_pretrained(str(folder / "model"))
    size = student.preprocessing.size if student.preprocessing else student.image_size
    height, width = size if isinstance(size, tuple) else (size, size)
    member = load_member(str(folder), (height, width, 3), student.num_classes)
    copying = CopyingStudent(
        student.class_names, student.num_classes, student.preprocessing, member.predict
    )
    return copying, member.variables

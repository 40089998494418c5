"""The class of each pixel of photographs: python -m vit_jax_xfer.segment PHOTO… --model … --out …

PHOTO are files and folders; photographs are turned as their EXIF orientation says.
Writes into DIR for each NAME.png, the photograph under its classes'
colours with a legend, and NAME_classes.png, the classes' numbers as a picture of its size; and
classes.txt with a line "number: name" for each class. MODEL is a network of semantic segmentation:
a run's model folder, or one of its checkpoints. Files that can't be read are left out, named, and
make the exit code 1.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from vit_jax_xfer.command_line.flag_errors import naming_flag, positive, run_on_files
from vit_jax_xfer.evaluate.photograph_flags import photograph_parser
from vit_jax_xfer.terminal import show

_NAMES, _NUMBERS = "classes.txt", "_classes.png"
_SAID = 5  # classes of a photograph


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes pictures; 0, or 1 with a line for each thing that is wrong."""
    options = _parser().parse_args(arguments)
    return run_on_files(lambda broken: _segment_all(options, broken))


def _segment_all(options: argparse.Namespace, broken: list[str]) -> None:
    # Imported late, so that --help answers at once.
    from vit_jax_xfer.data.prepare import photograph_pipeline
    from vit_jax_xfer.evaluate.dense_models import (
        names_of_classes,
        open_dense_network,
    )
    from vit_jax_xfer.evaluate.photograph_pictures import open_pictures
    from vit_jax_xfer.evaluate.segmentation.class_pictures import draw_classes, write_numbers
    from vit_jax_xfer.explain.pictures import write_png
    from vit_jax_xfer.features.cost_estimate import say_network_cost
    from vit_jax_xfer.whole_files import write_whole

    _check_windows(options)
    pictures = open_pictures(options, (_NAMES,), (".png", _NUMBERS))
    with naming_flag("--model", options):
        fields = {"num_heads": options.num_heads} if options.num_heads else {}
        model, variables = open_dense_network(options.model, "masks", options.family, **fields)
        pipeline = photograph_pipeline(model, options.size)
    names = names_of_classes(model)
    program = SegmentationProgram(model, variables, pipeline, options.window, options.window_stride)

    def finish(prepared: Any, classes: Any) -> None:
        write_png(draw_classes(prepared.photo, classes, names), pictures.path(prepared.file))
        write_numbers(classes, len(names), pictures.path(prepared.file, _NUMBERS))
        show(_said(prepared.file, classes, names))

    say_network_cost(model, len(pictures.names), options.size)
    pictures.work(pipeline, program, finish, options.batch_size, broken)
    lines = (f"{number}: {name}\n" for number, name in enumerate(names))
    write_whole(pictures.folder / _NAMES, "".join(lines))


def _check_windows(options: argparse.Namespace) -> None:
    """ValueError for a stride without windows, or one that leaves pixels between them out."""
    if options.window_stride and not options.window:
        raise ValueError("--window-stride: is about windows; give --window, or drop it")
    if options.window_stride > options.window:
        raise ValueError(
            f"--window-stride: {options.window_stride} pixels are more than --window "
            f"{options.window}, and pixels between would be left out"
        )


class SegmentationProgram:
    """A network of segmentation, compiled once: batches in, classes of photographs' pixels out.

    Called with image, content and original of a batch whose images are bytes as `pipeline` leaves
    them; gives int32 (height, width) for each. window, stride: pixels of windows that go through
    one by one, with logits averaged where they meet; 0 = whole images.
    """

    def __init__(
        self, model: Any, variables: Any, pipeline: str, window: int = 0, stride: int = 0
    ) -> None:
        import jax

        from vit_jax_xfer.data.finish import Finish
        from vit_jax_xfer.models.dense.sliding_window import sliding_logits

        finish, self._variables = Finish.of(pipeline), variables

        @jax.jit
        def run(variables: Any, images: jax.Array, content: jax.Array) -> jax.Array:
            finished = finish({"image": images})["image"]
            if not window:
                return model.apply(variables, finished)
            sides = (window,) * 2, (stride or window,) * 2
            return sliding_logits(
                lambda crops: model.apply(variables, crops), finished, *sides, content=content
            )

        self._run = run

    def __call__(self, rows: Mapping[str, Any]) -> list[Any]:
        import numpy as np

        from vit_jax_xfer.arguments.array_checks import require_finite
        from vit_jax_xfer.evaluate.segmentation.full_size import classes_at

        logits = np.asarray(self._run(self._variables, rows["image"], rows["content"]))
        require_finite("logits", logits)
        found = []
        for one, content, original in zip(logits, rows["content"], rows["original"], strict=True):
            height, width = (round(float(side)) for side in content)
            if height and width:  # not one that fills the batch up
                found.append(classes_at(one[:height, :width], *map(int, original)))
        return found


def _said(file: str, classes: Any, names: Sequence[str]) -> str:
    """The classes of a photograph by falling area."""
    import numpy as np

    shares = np.bincount(classes.ravel(), minlength=len(names)) / classes.size
    order = [k for k in np.argsort(-shares, kind="stable")[:_SAID] if shares[k] > 0]
    return f"{file}: {', '.join(f'{names[k]} {100 * shares[k]:.1f} %' for k in order)}"


def _parser() -> argparse.ArgumentParser:
    example = "photos --model runs/segmentation/model --out segmented"
    parser = photograph_parser("segment", __doc__, example, "segmented")
    add = parser.add_argument
    add("--window", type=positive, default=0, metavar="PIXELS",
        help="let windows of that side through one by one, and average their logits where they "
        "meet (default: whole images)")  # fmt: skip
    add("--window-stride", type=positive, default=0, metavar="PIXELS",
        help="from one window to the next (default: the window's side)")  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())

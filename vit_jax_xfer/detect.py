"""Objects on your photographs: python -m vit_jax_xfer.detect PHOTO… --model MODEL --out DIR

PHOTO are files and folders; photographs are turned as their EXIF orientation says.
Writes into DIR a picture of each with boxes, masks where the detector
has them, names and scores of the objects from --threshold on, and detections.json: COCO's format
with all that was found, images by file name, a score with each object, masks as run lengths (those
need pip install "vit_jax_xfer[coco]"). MODEL is a detector: a run's model folder, or one of its
checkpoints. Files that can't be read are left out, named, and make the exit code 1.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from vit_jax_xfer.command_line.flag_errors import naming_flag, run_on_files, share
from vit_jax_xfer.evaluate.photograph_flags import photograph_parser
from vit_jax_xfer.terminal import show

_JSON = "detections.json"
_SAID = 5  # objects of a photograph


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes pictures and JSON; 0, or 1 with a line for each thing that is wrong."""
    options = _parser().parse_args(arguments)
    return run_on_files(lambda broken: _detect_all(options, broken))


def _detect_all(options: argparse.Namespace, broken: list[str]) -> None:
    # Imported late, so that --help answers at once.
    from vit_jax_xfer.evaluate.dense_models import names_of_classes, open_dense_network
    from vit_jax_xfer.evaluate.detection.detector_program import DetectorProgram
    from vit_jax_xfer.evaluate.detection.object_pictures import draw_objects
    from vit_jax_xfer.evaluate.photograph_pictures import open_pictures
    from vit_jax_xfer.explain.pictures import write_png
    from vit_jax_xfer.features.cost_estimate import say_network_cost
    from vit_jax_xfer.whole_files import write_whole

    pictures = open_pictures(options, (_JSON,))
    with naming_flag("--model", options):
        fields = {"num_heads": options.num_heads} if options.num_heads else {}
        model, variables = open_dense_network(options.model, "boxes", options.family, **fields)
        program = DetectorProgram(model, variables, options.size)
    names = names_of_classes(model)
    written: list[tuple[str, Any]] = []

    def finish(prepared: Any, found: Any) -> None:
        drawn = draw_objects(prepared.photo, found, names, options.threshold)
        write_png(drawn, pictures.path(prepared.file))
        written.append((prepared.file, found))
        show(_said(prepared.file, found, names, options.threshold))

    say_network_cost(model, len(pictures.names), options.size)
    pictures.work(program.pipeline, program, finish, options.batch_size, broken)
    write_whole(pictures.folder / _JSON, json.dumps(as_coco(written, names)) + "\n")


def as_coco(found: Sequence[tuple[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """COCO's format of files and their FoundObjects: images, categories, annotations with scores.

    Ids count from 1; those of categories are the classes' numbers plus 1. An area is that of the
    mask, or of the box where there is none.
    """
    from vit_jax_xfer.data.outlines import mask_functions
    from vit_jax_xfer.evaluate.detection.coco_metrics import coco_results

    def area(one: dict[str, Any]) -> float:
        if "segmentation" in one:
            return float(mask_functions().area(one["segmentation"]))
        return round(one["bbox"][2] * one["bbox"][3], 3)

    ids = range(1, len(found) + 1)
    results = coco_results([one for _, one in found], ids, range(1, len(names) + 1))
    return {
        "images": [
            {"id": number, "file_name": file, "height": int(one.size[0]), "width": int(one.size[1])}
            for number, (file, one) in zip(ids, found, strict=True)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, start=1)],
        "annotations": [
            {"id": number, **one, "area": area(one), "iscrowd": 0}
            for number, one in enumerate(results, start=1)
        ],
    }


def _said(file: str, found: Any, names: Sequence[str], threshold: float) -> str:
    """The objects that are drawn, by falling score."""
    rows = [row for row in range(len(found)) if found.scores[row] >= threshold]
    texts = [f"{names[found.classes[row]]} {100 * found.scores[row]:.0f} %" for row in rows[:_SAID]]
    more = f", and {len(rows) - _SAID} more" if len(rows) > _SAID else ""
    return f"{file}: {', '.join(texts) + more if texts else 'nothing'}"


def _parser() -> argparse.ArgumentParser:
    parser = photograph_parser(
        "detect", __doc__, "photos --model runs/vitdet/model --out detected", "detected"
    )
    parser.add_argument("--threshold", type=share, default=0.5, metavar="SCORE",
        help="the least score of what is drawn (default 0.5)")  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Average precision of a detector: python -m vit_jax_xfer.evaluate.detection MODEL --data …

COCO's twelve figures of boxes, and of masks where detector and data have them, by pycocotools
(pip install "vit_jax_xfer[coco]"), and VOC's AP at an overlap of 0.5. MODEL is a run's model
folder, or one of its checkpoints. Photographs are resized to fit into --image-size and padded.
Classes are matched by name. Images that can't be read are named, in no figure, and make the exit
code 1. Pixels are taken as stored, whatever EXIF says; boxes must be of that size.

The data:
  coco:ROOT                    annotations/instances_val2017.json and val2017, by --split
  coco:JSON:IMAGES             one list and the folder of its images
  voc:PATH                     Annotations, JPEGImages and ImageSets/Main, by --split
  yolo:DATA.yaml               YOLO's texts, by --split
  yolo:IMAGES:LABELS:CLASSES   folders of images and texts, and a file of class names
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from vit_jax_xfer.command_line.command_parser import add_image_size, command_parser
from vit_jax_xfer.command_line.flag_errors import naming_flag, positive, run_on_files
from vit_jax_xfer.command_line.out_places import require_different
from vit_jax_xfer.terminal import show

_NAMED = 3
_MANY = 500  # images


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the figures; 0, or 1 with a line for each thing that is wrong."""
    options = _parser().parse_args(arguments)
    return run_on_files(lambda broken: _evaluate(options, broken))


def _evaluate(options: argparse.Namespace, broken: list[str]) -> None:
    # Imported late, so that --help answers at once.
    from vit_jax_xfer.data import open_source
    from vit_jax_xfer.data.sources.source import check_targets
    from vit_jax_xfer.data.target_arrays import TargetForm
    from vit_jax_xfer.evaluate.dense_models import names_of_classes, open_dense_network
    from vit_jax_xfer.evaluate.detection.detector_program import DetectorProgram
    from vit_jax_xfer.features.command import out_path
    from vit_jax_xfer.features.cost_estimate import say_network_cost
    from vit_jax_xfer.whole_files import write_whole

    path = out_path(options)
    results = out_path(options, "results")
    require_different({"--out": path, "--results": results})
    with naming_flag("--data", options):
        split = options.split if options.limit is None else f"{options.split}[:{options.limit}]"
        source = open_source(options.data, split)
        check_targets(source, TargetForm())
    with naming_flag("MODEL", options):
        fields = {"num_heads": options.num_heads} if options.num_heads else {}
        model, variables = open_dense_network(options.model, "boxes", options.family, **fields)
    with naming_flag("--data", options):
        table = _table(source, model, names_of_classes(model))
    for text in source.left_out:
        show(f"left out: {text}", name="stderr")
    program = DetectorProgram(model, variables, options.size)
    say_network_cost(model, len(source), options.size)
    places, found = _found(program, source, options.batch_size, broken)
    if len(places) > _MANY:  # pycocotools takes minutes and says nothing
        show(f"comparing what was found on {len(places)} images …", name="stderr")
    figures = _figures(places, found, source, model, table)
    for line in _lines(figures, source, len(places)):
        show(line)
    if path is not None:
        numbers = {name: None if value != value else value for name, value in figures.items()}
        about = {"model": options.model, "data": source.name, "images": len(places)}
        write_whole(path, json.dumps({**about, "figures": numbers}, indent=2) + "\n")
    if results is not None:
        write_whole(results, json.dumps(_results(places, found, source, model, table)) + "\n")


def _table(source: Any, model: Any, names: tuple[str, ...]) -> Any:
    """The model's number of each class of the set, said where the model has more."""
    from vit_jax_xfer.data.sources.class_match import match_classes

    match = match_classes(source.class_names, names)
    if match.lacking:
        shown = ", ".join(match.lacking[:_NAMED]) + (", …" if len(match.lacking) > _NAMED else "")
        show(f"the set lacks {len(match.lacking)} of the model's classes: {shown}", name="stderr")
    return match.table


def _found(
    program: Any, source: Any, batch_size: int, broken: list[str]
) -> tuple[list[int], list[Any]]:
    """The places in the source of the images that could be read, and what is on them."""
    from vit_jax_xfer import data
    from vit_jax_xfer.data.target_arrays import TargetForm
    from vit_jax_xfer.explain.progress import Progress

    masks = not source.without_outline
    places: list[int] = []
    found: list[Any] = []
    given = {"batch_size": min(batch_size, len(source)), "in_bytes": True}
    given |= {"max_broken": len(source), "targets": TargetForm(max_boxes=1)}
    with (
        data.eval_batches(source, program.pipeline, **given) as batches,
        Progress(len(source)) as progress,
    ):
        for batch in batches:
            there = batch["mask"]
            places += batch["index"][there].tolist()
            names = [
                f"image {source.image_id(place)}" if real else "none"
                for place, real in zip(batch["index"], there, strict=True)
            ]
            pairs = zip(there, program(batch, masks, names), strict=True)
            found += [one for is_there, one in pairs if is_there]
            progress.report(min(len(places) + len(batches.broken), len(source)))
        broken += [f"cannot read image {name}: {why}" for name, why in batches.broken.items()]
    return places, found


def _figures(
    places: list[int], found: list[Any], source: Any, model: Any, table: Any
) -> dict[str, float]:
    from vit_jax_xfer.evaluate.detection.detection_figures import figures_of, renumbered

    if not found:
        raise ValueError("--data: none of the images can be read")
    truth = [renumbered(source.target(place), table) for place in places]
    masks = not source.without_outline and all(one.outlines is not None for one in found)
    return figures_of(found, truth, model.num_classes, masks)


def _results(
    places: list[int], found: list[Any], source: Any, model: Any, table: Any
) -> list[dict[str, Any]]:
    """In the layout's own ids, which a choice of a set's images hides."""
    import numpy as np

    from vit_jax_xfer.evaluate.detection.coco_metrics import coco_results

    ids = np.full(model.num_classes, -1)
    ids[table] = source.category_ids
    return coco_results(found, [source.image_id(place) for place in places], ids)


def _lines(figures: dict[str, float], source: Any, images: int) -> list[str]:
    """Per cent, as published; a dash where the set has no object of that kind."""
    from vit_jax_xfer.evaluate.detection.coco_metrics import FIGURES

    lines = [f"{images} images of {source.name}"]
    for what, prefix in (("boxes", ""), ("masks", "mask_")):
        if f"{prefix}AP" in figures:
            said = [f"{name} {_per_cent(figures[prefix + name])}" for name in FIGURES]
            lines.append(f"{what}: {'  '.join(said)}")
    return [*lines, f"VOC: AP50 {_per_cent(figures['voc_AP50'])}"]


def _per_cent(value: float) -> str:
    return "–" if value != value else f"{100 * value:.1f}"


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "vit_jax_xfer.evaluate.detection",
        __doc__,
        "runs/vitdet/model --data coco:/data/coco --out ap.json",
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="see above")
    add("--data", required=True, metavar="LAYOUT:PATH", help="see above")
    add("--split", default="validation", metavar="NAME",
        help="of layouts that have several (default validation); of one list all")  # fmt: skip
    add_image_size(parser, type=positive, metavar="PIXELS",
        help="side of the square input (default: the network's own)")  # fmt: skip
    add("--batch-size", type=positive, default=8, metavar="N", help="images at once (default 8)")
    add("--limit", type=positive, metavar="N", help="only so many images, the first")
    add("--family", help="the checkpoint's family, if its parameter names don't show it")
    add("--num-heads", type=positive, default=0, metavar="N",
        help="attention heads, if the checkpoint doesn't say")  # fmt: skip
    add("--out", metavar="FILE.json", help="write the figures there too, from 0 to 1")
    add("--results", metavar="FILE.json",
        help="write all detections there, as COCO's servers and tools read them")  # fmt: skip
    add("--overwrite", action="store_true", help="replace files that exist")
    return parser


if __name__ == "__main__":
    sys.exit(main())

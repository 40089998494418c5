"""Objects found without labels: python -m vit_jax_xfer.evaluate.objects --data … --model …

TokenCut (arXiv 2202.11539) cuts each image's features in two and gives one box; CorLoc is the share
of images whose box overlaps a true one by half or more. A row of the table is one feature
extractor. Images are squashed to --image-size. Images without objects don't count; the
table has their number. Photographs are turned as their EXIF orientation says.

The data:
  voc:PATH            PASCAL VOC's folders, or a VOCdevkit with one year: all annotations
  voc:PATH:SPLIT      those that ImageSets/Main/SPLIT.txt lists, as trainval
  coco:JSON:IMAGES    COCO's instances and the folder of the images; crowds are left out
  coco:JSON:IMAGES:NAMES   only the files that a text file lists, as COCO20k's
"""

import argparse
import dataclasses
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from vit_jax_xfer.command_line.flag_errors import naming_flag, run_command
from vit_jax_xfer.command_line.out_places import out_folder
from vit_jax_xfer.features.command import comparison_parser, extractors_from, input_side, out_path
from vit_jax_xfer.terminal import show

_UNCUT = 0.99  # an eigenvalue of a graph in which all are joined, 1 but for rounding


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; 0, or 1 with one line on stderr for what is wrong."""
    options = _parser().parse_args(arguments)
    return run_command(lambda: _compare(options))


def _compare(options: argparse.Namespace) -> None:
    # Imported late, so that --help answers at once.
    from vit_jax_xfer.evaluate.compare import compare
    from vit_jax_xfer.evaluate.objects.object_benchmark import open_objects

    out_path(options)
    pictures, coco = (
        out_folder(given, flag) if given else None
        for given, flag in ((options.pictures, "--pictures"), (options.coco, "--coco"))
    )
    extractors = extractors_from(options)
    size = input_side(options, extractors)
    with naming_flag("--data", options):
        benchmark = open_objects(
            options.data, size, options.limit, options.tau, not options.no_hard
        )
    uncut: Counter[str] = Counter()

    def count(extractor: Any, one: Any) -> None:
        uncut[extractor.name] += one.discovery.eigenvalue > _UNCUT

    found: list[Any] = [count]
    if pictures:
        from vit_jax_xfer.evaluate.objects.drawing import Pictures

        found.append(Pictures(pictures, extractors, benchmark.images, options.overwrite))
    if coco:
        from vit_jax_xfer.evaluate.objects.coco_export import CocoExport

        found.append(CocoExport(coco, extractors, benchmark.images, options.overwrite))

    def draw(*one: Any) -> None:
        for each in found:
            each(*one)

    compare(options, dataclasses.replace(benchmark, draw=draw), extractors)
    for name, number in uncut.items():
        if number:
            show(
                f"{name}: on {number} of {len(benchmark.images)} images all cells are alike above "
                f"a cosine of {benchmark.tau:g} (eigenvalue 1), so that their boxes mean nothing: "
                "raise --tau",
                name="stderr",
            )


def _parser() -> argparse.ArgumentParser:
    parser = comparison_parser(
        "vit_jax_xfer.evaluate.objects",
        __doc__.split("\n\n", 1)[1],
        "--data voc:VOCdevkit/VOC2007:trainval --model runs/mae/model --lift runs/lift/model",
    )
    add = parser.add_argument
    add("--data", required=True, metavar="LAYOUT:PATH", help="see above")
    add("--tau", type=float, metavar="COSINE",
        help="similarity above which cells are joined in TokenCut's graph (default as published: "
        "voc 0.2, coco 0.3)")  # fmt: skip
    add("--no-hard", action="store_true",
        help="leave out VOC's objects that are marked truncated or difficult")  # fmt: skip
    add("--pictures", metavar="DIR",
        help="draw what was found over each image, as DIR/EXTRACTOR/IMAGE.png: true boxes blue, "
        "the found one yellow where right and red where not")  # fmt: skip
    add("--coco", metavar="DIR",
        help="write what was found as COCO's JSON, DIR/EXTRACTOR.json: box and mask of each image "
        "and the eigenvalue of its cut")  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""The command: feature extractors compared by video object segmentation."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vit_jax_xfer.command_line.flag_errors import naming_flag, positive, run_command
from vit_jax_xfer.command_line.out_places import out_folder
from vit_jax_xfer.features.command import comparison_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; 0, or 1 with one line on stderr."""
    options = _parser().parse_args(arguments)

    def action() -> None:
        from vit_jax_xfer.evaluate.compare import compare
        from vit_jax_xfer.evaluate.videos.video_benchmark import open_videos_benchmark
        from vit_jax_xfer.features.command import extractors_from, input_side, out_path

        out_path(options)
        masks_folder = _masks_folder(options)
        with naming_flag("--data", options):
            benchmark = open_videos_benchmark(
                options.data,
                options.size or 0,
                options.limit,
                options.frames,
                options.radius,
                masks_folder,
            )
        # A model is loaded when the data are known to be right.
        extractors = extractors_from(options)
        benchmark.size = input_side(options, extractors)
        compare(options, benchmark, extractors, "frames")

    return run_command(action)


def _masks_folder(options: argparse.Namespace) -> Path | None:
    """--save-masks as a path. ValueError where something is there already."""
    if not options.save_masks:
        return None
    folder = out_folder(options.save_masks, "--save-masks")
    if folder.is_dir() and any(folder.iterdir()) and not options.overwrite:
        raise ValueError(f"--save-masks: {folder} isn't empty; --overwrite writes there")
    return folder


def _parser() -> argparse.ArgumentParser:
    parser = comparison_parser(
        "vit_jax_xfer.evaluate.videos",
        "Video object segmentation by label propagation: the first frame's mask is carried along\n"
        "by similarity of features, and scored as the DAVIS challenge does (J&F, J, F, in\n"
        "percent). The objects are those of the first mask. All masks are checked before the\n"
        "first video is done. Frames are turned as their EXIF orientation says and squashed to\n"
        "--image-size; 'input ×2' gets them twice as large.",
        "--data davis2017:DAVIS --model runs/dino/model --lift runs/lift/model --image-size 224",
    )
    add = parser.add_argument
    add(
        "--data",
        required=True,
        metavar="LAYOUT:PATH",
        help="davis2017:FOLDER (with JPEGImages/480p, Annotations/480p and ImageSets) or "
        "davis2016:FOLDER (masks of 0 and 255; every video where there is no ImageSets)",
    )
    add("--frames", type=positive, metavar="N", help="only the first N of each video, 3 or more")
    add(
        "--radius",
        type=_radius,
        default=12,
        metavar="CELLS",
        help="how many cells of the grid an object may move (default 12; 0 = anywhere)",
    )
    add(
        "--save-masks",
        metavar="FOLDER",
        help="write predicted masks as FOLDER/EXTRACTOR/VIDEO/00000.png, for DAVIS's own tools",
    )
    return parser


def _radius(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number of cells, 0 or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())

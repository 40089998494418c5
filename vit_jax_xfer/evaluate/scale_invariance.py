"""Features at several sizes: python -m vit_jax_xfer.evaluate.scale_invariance IMAGES --model …

For each feature extractor, how alike features are when the same images are given to the network at
different sizes: unbiased linear CKA in per cent, 100 where they only differ by rotation and scale.
Each size is compared with the largest, cell by cell on the smaller grid, or with --pairwise each
with each. IMAGES are files and folders, with all that is below; photographs are turned as their
EXIF orientation says.
"""

import argparse
import sys
from collections.abc import Sequence

from vit_jax_xfer.command_line.flag_errors import naming_flag, run_command
from vit_jax_xfer.features.command import (
    comparison_parser,
    extractors_from,
    numbers,
    out_path,
    own_side,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; 0, or 1 with one line on stderr for what is wrong."""
    options = _parser().parse_args(arguments)
    return run_command(lambda: _study(options))


def _study(options: argparse.Namespace) -> None:
    # Imported late, so that --help answers at once.
    from vit_jax_xfer.data.sources.integrity import check_files
    from vit_jax_xfer.evaluate.compare import check_input_size, compare
    from vit_jax_xfer.evaluate.similarity.scale_study import ScaleStudy, study_sizes
    from vit_jax_xfer.explain.image_files import find_images

    out_path(options)
    files = find_images(options.images)[: options.limit]
    check_files([str(file) for file in files], "IMAGES")
    extractors = extractors_from(options)
    if options.sizes is None:
        options.sizes = study_sizes(own_side(extractors), extractors[0].backbone.patch_size)
    with naming_flag("--sizes", options):
        study = ScaleStudy(files, options.sizes, options.pairwise)
    for size in study.sizes:
        check_input_size(extractors, size, "--sizes")
    # Its seconds would be a mean over the sizes.
    compare(options, study, extractors, timed=False, about={"files": len(files)})


def _parser() -> argparse.ArgumentParser:
    parser = comparison_parser(
        "vit_jax_xfer.evaluate.scale_invariance",
        __doc__.split("\n\n", 1)[1],
        "photos --model runs/mae/model --lift runs/lift/model --sizes 112,224,448",
        size=False,
    )
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGES", help="files and folders")
    add("--sizes", type=numbers, metavar="N,…",
        help="pixels of the square inputs (default: half, one and two times its own)")  # fmt: skip
    add("--pairwise", action="store_true", help="compare each size with each")
    return parser


if __name__ == "__main__":
    sys.exit(main())

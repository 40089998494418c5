"""Classes by nearest neighbours: python -m vit_jax_xfer.evaluate.knn --model MODEL --data SOURCE

Nothing is trained: an image of one split is taken for the class that its nearest neighbours in the
other split vote for, by the cosine of a frozen network's features, each vote weighted by
exp(cosine / temperature), as DINO does it. Prints the share of images that are right for each k.
Images are prepared as the model's publisher does it, at --image-size; a data set's pixels are taken
as stored, whatever EXIF says, as in training.

SOURCE is what config.data.source takes: digits, folder:PATH, npz:FILE, tfds:NAME.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vit_jax_xfer.command_line.command_parser import add_image_size, command_parser
from vit_jax_xfer.command_line.flag_errors import above_zero, naming_flag, positive, run_command
from vit_jax_xfer.features.command import numbers, out_path
from vit_jax_xfer.terminal import show
from vit_jax_xfer.whole_files import write_whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; 0, or 1 with one line on stderr for what is wrong."""
    options = _parser().parse_args(arguments)
    return run_command(lambda: _score(options))


def _score(options: argparse.Namespace) -> None:
    # Imported late, so that --help answers at once.
    import jax.numpy as jnp

    from vit_jax_xfer.data.sources import open_source
    from vit_jax_xfer.evaluate.classification import hits
    from vit_jax_xfer.evaluate.knn.neighbour_votes import neighbour_votes
    from vit_jax_xfer.features.cost_estimate import say_network_cost
    from vit_jax_xfer.pretrained.file_to_model import load_pretrained

    path = out_path(options)
    with naming_flag("--data", options):
        splits = [open_source(options.data, split) for split in (options.train, options.test)]
        _check_classes(*splits)
        for split in splits:
            for said in split.left_out:
                show(f"{split.name}: left out {said}", name="stderr")
    with naming_flag("--model", options):
        fields = {"num_heads": options.num_heads} if options.num_heads else {}
        model, variables = load_pretrained(options.model, options.family, **fields)
        say_network_cost(model.encoder, sum(map(len, splits)), options.size, "images")
        known, asked = (_vectors(model, variables, split, options) for split in splits)
    labels, truth = (split.labels() for split in splits)
    show("| k | top-1 % |\n|---|---|")
    found: dict[int, float] = {}
    for k in options.k:
        votes = neighbour_votes(known, labels, asked, k, options.temperature, splits[0].num_classes)
        found[k] = float(hits(jnp.asarray(votes), jnp.asarray(truth), 1).mean())
        show(f"| {k} | {100 * found[k]:.1f} |")
    if path is not None:
        _write(path, options, found, [len(split) for split in splits])


def _check_classes(train: Any, test: Any) -> None:
    """ValueError unless both splits have labels of the same classes, and each image one."""
    if not train.num_classes or train.class_names != test.class_names:
        raise ValueError(
            f"the splits need labels of the same classes; {train.name} has {train.num_classes} "
            f"and {test.name} {test.num_classes}, or others"
        )
    for split in (train, test):
        labels = split.labels()
        if number := int((labels < 0).sum()):
            raise ValueError(f"{split.name}: {number} of {len(labels)} images have no label")


def _vectors(model: Any, variables: Any, source: Any, options: argparse.Namespace) -> Any:
    from vit_jax_xfer.evaluate.knn.image_vectors import image_vectors
    from vit_jax_xfer.explain.progress import Progress

    with Progress(len(source)) as progress:
        return image_vectors(
            model, variables, source, options.feature, options.size, report=progress.report
        )


def _write(
    path: Path, options: argparse.Namespace, found: dict[int, float], images: list[int]
) -> None:
    """The figures with the flags as JSON; the file appears when it is complete."""
    chosen = {name: value for name, value in vars(options).items() if name not in ("out", "k")}
    chosen.pop("overwrite")
    rows = [{"k": k, "top1": share} for k, share in found.items()]
    write_whole(path, json.dumps({**chosen, "images": images, "rows": rows}, indent=2) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "vit_jax_xfer.evaluate.knn",
        __doc__,
        "--model hf:facebook/dinov2-small --data folder:birds",
    )
    add = parser.add_argument
    add("--model", required=True, metavar="PATH",
        help="a run's model folder, a checkpoint file or folder, or hf:ORG/NAME")  # fmt: skip
    add("--family", help="the checkpoint's family, as dinov2, if its parameter names don't show it")
    add("--num-heads", type=positive, default=0, metavar="N",
        help="attention heads, if the checkpoint doesn't say")  # fmt: skip
    add("--data", required=True, metavar="SOURCE", help="see above")
    add("--train", default="train", metavar="SPLIT", help="the neighbours (default train)")
    add("--test", default="test", metavar="SPLIT", help="what is classified (default test)")
    add("--k", type=numbers, default=(10, 20), metavar="N,…",
        help="how many neighbours vote (default 10,20)")  # fmt: skip
    add("--temperature", type=above_zero, default=0.07, metavar="T",
        help="of the votes' weights (default 0.07)")  # fmt: skip
    add("--feature", choices=("cls", "avg", "pooled"), default="cls",
        help="the class token (default), the mean of patches, or what a head sees")  # fmt: skip
    add_image_size(parser, type=positive, metavar="PIXELS",
        help="side of the network's square input (default: the model's own)")  # fmt: skip
    add("--out", metavar="FILE.json", help="write the table there too")
    add("--overwrite", action="store_true", help="replace a file that exists")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Classes of your images: python -m vit_jax_xfer.predict MODEL IMAGE…

Prints for each image the likeliest classes and their probabilities. MODEL is a run's model folder
(of attention copy the run's own), one of its checkpoints, a published checkpoint with a head, or
hf:ORG/NAME; IMAGE are files and folders. Images are turned as their EXIF orientation says, then
prepared as the network says. 1,000 outputs without names are taken for
ImageNet's in their order, others without names go by their numbers. Files that can't be read are
left out, named, and make the exit code 1.
"""

import argparse
import csv
import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vit_jax_xfer.command_line.command_parser import command_parser
from vit_jax_xfer.command_line.flag_errors import naming_flag, positive, run_on_files
from vit_jax_xfer.terminal import show

_ENDINGS = (".json", ".csv")


class Prediction(NamedTuple):
    """An image's file and its likeliest classes, [(name, probability)] from the likeliest on."""

    file: str
    classes: list[tuple[str, float]]


def predict(
    model: Any,
    variables: Any,
    files: Sequence[str | Path],
    top: int = 5,
    batch_size: int = 32,
    broken: Callable[[str], None] | None = None,
    report: Callable[[int], None] = lambda done: None,
) -> list[Prediction]:
    """The `top` likeliest classes of each image file, by a classifier with `preprocessing`.

    broken: called with a line for each file that can't be read, which is then left out; None = it
    is an error. report: called with how many are done. ValueError where the network has no head or
    doesn't say how its images are prepared.
    """
    import jax
    import jax.numpy as jnp

    from vit_jax_xfer.compiler import Jitted
    from vit_jax_xfer.data.prepare import preprocess
    from vit_jax_xfer.data.sources.upright_photo import read_photograph
    from vit_jax_xfer.models.preprocessing import stated_preprocessing
    from vit_jax_xfer.suites.imagenet_labels import class_names_of

    names = class_names_of(model)
    stated_preprocessing(model)
    probabilities = Jitted(
        lambda variables, images: jax.nn.softmax(
            model.apply(variables, images).astype(jnp.float32), axis=-1
        )
    )
    found: list[Prediction] = []
    batch_size = max(1, min(batch_size, len(files)))
    for start in range(0, len(files), batch_size):
        prepared: list[tuple[str, np.ndarray]] = []
        for file in files[start : start + batch_size]:
            try:
                prepared.append((str(file), preprocess(model, read_photograph(Path(file)))[0]))
            except (ValueError, OSError) as error:
                if broken is None:
                    raise
                broken(str(error))
        if prepared:
            # A short batch is filled up, so that one compilation serves.
            images = np.zeros((batch_size, *prepared[0][1].shape), np.float32)
            images[: len(prepared)] = [image for _, image in prepared]
            shares = np.asarray(probabilities(variables, images))
            for (name, _), row in zip(prepared, shares, strict=False):
                if not np.isfinite(row).all():
                    raise ValueError(f"{name}: logits: NaN or infinite; are the weights broken?")
            found += [_likeliest(*one, names, top) for one in zip(prepared, shares, strict=False)]
        report(min(start + batch_size, len(files)))
    return found


def _likeliest(
    prepared: tuple[str, np.ndarray], shares: np.ndarray, names: tuple[str, ...], top: int
) -> Prediction:
    best = np.argsort(-shares, kind="stable")[:top]
    return Prediction(prepared[0], [(names[index], float(shares[index])) for index in best])


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the predictions; 0, or 1 with a line for each thing that is wrong."""
    options = _parser().parse_args(arguments)
    return run_on_files(lambda broken: _predict_all(options, broken))


def _predict_all(options: argparse.Namespace, broken: list[str]) -> None:
    # Imported late, so that --help answers at once.
    from vit_jax_xfer.evaluate.classification.open_classifier import open_classifier
    from vit_jax_xfer.explain.image_files import find_images
    from vit_jax_xfer.explain.progress import Progress
    from vit_jax_xfer.features.command import out_path
    from vit_jax_xfer.features.cost_estimate import say_network_cost
    from vit_jax_xfer.whole_files import write_whole

    path = out_path(options)
    if path is not None and path.suffix not in _ENDINGS:
        raise ValueError(f"--out: {path} ends in neither of {', '.join(_ENDINGS)}")
    files = find_images(options.images)
    with naming_flag("MODEL", options):
        fields = {"num_heads": options.num_heads} if options.num_heads else {}
        model, variables = open_classifier(options.model, options.family, **fields)
        if model.preprocessing is not None:
            say_network_cost(model, len(files), model.preprocessing.size, "images")
        with Progress(len(files)) as progress:
            found = predict(
                model,
                variables,
                files,
                options.top,
                options.batch_size,
                broken.append,
                progress.report,
            )
    for one in found:
        classes = ", ".join(f"{name} {100 * share:.1f} %" for name, share in one.classes)
        show(f"{one.file}: {classes}")
    if path is not None:
        write_whole(path, as_json(found) if path.suffix == ".json" else as_csv(found))


def as_json(found: Sequence[Prediction]) -> str:
    """[{"file": …, "classes": [{"name": …, "probability": …}]}]."""
    rows = [
        {
            "file": one.file,
            "classes": [{"name": name, "probability": share} for name, share in one.classes],
        }
        for one in found
    ]
    return json.dumps(rows, indent=2) + "\n"


def as_csv(found: Sequence[Prediction]) -> str:
    """A line for each of an image's classes: file, rank from 1, class, probability."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "rank", "class", "probability"])
    for one in found:
        for rank, (name, share) in enumerate(one.classes, start=1):
            writer.writerow([one.file, rank, name, share])
    return text.getvalue()


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "vit_jax_xfer.predict",
        __doc__,
        "runs/distill/model photos --out found.csv",
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="see above")
    add("images", nargs="+", metavar="IMAGE", help="image files, and folders of them")
    add("--family", help="the checkpoint's family, as deit, if its parameter names don't show it")
    add("--num-heads", type=positive, default=0, metavar="N",
        help="attention heads, if the checkpoint doesn't say")  # fmt: skip
    add("--top", type=positive, default=5, metavar="N", help="classes an image (default 5)")
    add("--batch-size", type=positive, default=32, metavar="N", help="images at once (default 32)")
    add("--out", metavar="FILE.json|FILE.csv", help="write the predictions there too")
    add("--overwrite", action="store_true", help="replace a file that exists")
    return parser


if __name__ == "__main__":
    sys.exit(main())

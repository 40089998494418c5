"""Figures on the published suites: python -m vit_jax_xfer.evaluate.classification MODEL …

    … MODEL --suites imagenet,a,r,v2,c --data ROOT
    … finetuned=runs/finetune/model distilled=runs/distill/model --suites imagenet,a \\
        --data ROOT --relative-to finetuned

Prints a row a network: top-1 and top-5 in percent, for ImageNet-A and -R over their 200 classes
(and over all, beside it), for ImageNet-C the mean corruption error, for a corrupted set of your own
that over the errors of --relative-to; then the errors by corruption. A set that is not whole is
refused, unless --partial says that a part will do. Classes are matched by name; 1,000 outputs
without names are taken for ImageNet's in their order. Images are prepared as each network says;
their pixels are taken as stored, whatever EXIF says, as in training.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from vit_jax_xfer.command_line.command_parser import command_parser
from vit_jax_xfer.command_line.flag_errors import naming_flag, positive, run_command
from vit_jax_xfer.features.command import out_path
from vit_jax_xfer.local_paths import named_path
from vit_jax_xfer.terminal import show
from vit_jax_xfer.whole_files import write_whole

_ENDINGS = (".json", ".csv")
_TOLD = 4  # lines about a suite


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; 0, or 1 with one line on stderr for what is wrong."""
    options = _parser().parse_args(arguments)
    return run_command(lambda: _measure(options))


def _measure(options: argparse.Namespace) -> None:
    # Imported late, so that --help answers at once.
    from vit_jax_xfer.evaluate.classification import suite_scores, suite_table
    from vit_jax_xfer.suites.known_suites import incomplete

    path = out_path(options)
    if path is not None and path.suffix not in _ENDINGS:
        raise ValueError(f"--out: {path} ends in neither of {', '.join(_ENDINGS)}")
    networks = _named(options.models)
    relative_to = options.relative_to
    if relative_to is not None and relative_to not in networks:
        raise ValueError(f"--relative-to: {relative_to!r} is none of {', '.join(networks)}")
    suites = {}
    with naming_flag("--suites", options):
        for name in options.suites:
            suites[name] = _opened(name, options)
    rows: suite_table.Rows = {}
    sets: dict[str, Any] = {}
    for name, source in networks.items():
        rows[name], sets[name] = _figures(name, source, suites, options)
    if relative_to is not None:
        suite_scores.add_relative_errors(rows, sets, suites, relative_to)
    for name, found in suites.items():
        _tell(name, found, incomplete(name, found))
    show(suite_table.as_markdown(rows, relative_to))
    for name, opened in suites.items():
        if "/" in opened[0].name:
            errors = {one: suite_scores.corruption_errors(sets[one], name) for one in networks}
            show(f"\n{suite_table.corruptions_as_markdown(name, errors, relative_to)}")
    if path is not None:
        text = (
            suite_table.as_json(rows, relative_to, partial=options.partial, sets=sets)
            if path.suffix == ".json"
            else suite_table.as_csv(rows, relative_to)
        )
        write_whole(path, text)


def _opened(name: str, options: argparse.Namespace) -> list[Any]:
    """A suite's sets; of ImageNet-C there are 75, with 50,000 files each."""
    from vit_jax_xfer.explain.progress import Progress
    from vit_jax_xfer.suites.known_suites import open_suite

    with Progress(0, f"sets of {name} opened") as progress:

        def report(done: int, total: int) -> None:
            progress.total = total
            progress.report(done)

        return open_suite(name, options.data, options.partial, options.class_map, report)


def _tell(name: str, sets: Sequence[Any], lacking: str) -> None:
    """Says, on stderr, what of a suite is not among its images."""
    said = [lacking] if lacking else []
    said += [text for one in sets for text in one.source.left_out]
    for text in said[:_TOLD]:
        show(f"{name}: {text}", name="stderr")
    if len(said) > _TOLD:
        show(f"{name}: and {len(said) - _TOLD} more such lines", name="stderr")


def _named(models: Sequence[str]) -> dict[str, str]:
    """{name in the table: PATH}, of PATHs and NAME=PATHs. ValueError for a name that repeats."""
    found: dict[str, str] = {}
    for given in models:
        name, source = named_path(given)
        if name in found:
            raise ValueError(f"MODEL: {name!r} is there twice; give names, as first=PATH second=…")
        found[name] = source
    return found


def _figures(
    name: str, source: str, suites: dict[str, list[Any]], options: argparse.Namespace
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """A network's figures of each suite, and of each of their sets."""
    from vit_jax_xfer.evaluate.classification.open_classifier import open_classifier
    from vit_jax_xfer.evaluate.classification.suite_scores import output_names, score_set, summary
    from vit_jax_xfer.explain.progress import Progress
    from vit_jax_xfer.features.cost_estimate import say_network_cost

    opened = [one for sets in suites.values() for one in sets]
    done, every = 0, {}
    try:
        model, variables = open_classifier(source)
        for one in opened:  # before hours of others
            one.targets(output_names(model, one))
        images = sum(len(one.source) for one in opened)
        if model.preprocessing is not None:
            say_network_cost(model, images, model.preprocessing.size, "images")
        with Progress(images) as progress:
            for one in opened:
                every[one.name] = score_set(
                    model,
                    variables,
                    one,
                    options.batch_size,
                    options.threads,
                    lambda number, before=done: progress.report(before + number),
                )
                done += len(one.source)
        return {name: summary(sets, every) for name, sets in suites.items()}, every
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _suites(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if not names or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected different names, as imagenet,a")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "vit_jax_xfer.evaluate.classification",
        __doc__,
        "runs/distill/model --suites imagenet,v2 --data /data",
    )
    add = parser.add_argument
    add("models", nargs="+", metavar="MODEL",
        help="PATH or NAME=PATH: a run's model folder (of attention copy the run's own, which has "
        "the teacher too), a checkpoint, or hf:ORG/NAME")  # fmt: skip
    add("--suites", type=_suites, required=True, metavar="NAME,…",
        help="imagenet, real, a, r, sketch, v2, c, cifar10, cifar100, flowers, pets, "
        "inaturalist2017 (2018, 2019, 2021), plain, corrupted")  # fmt: skip
    add("--data", required=True, metavar="ROOT",
        help="the folder that holds the suites' folders or archives (docs/suites.md), or "
        "tfds:FOLDER, where tfds has prepared them (tfds: = its own)")  # fmt: skip
    add("--relative-to", metavar="NAME", help="the network whose figures others are compared with")
    add("--class-map", default="", metavar="FILE",
        help="from a set's class names to the networks', where they differ: a .json file of an "
        "object, or two names a line with a tab between")  # fmt: skip
    add("--partial", action="store_true", help="take sets that are not whole as they are")
    add("--batch-size", type=positive, default=64, metavar="N", help="images at once (default 64)")
    add("--threads", type=positive, default=2, metavar="N",
        help="that decode images (default 2)")  # fmt: skip
    add("--out", metavar="FILE.json|FILE.csv", help="write the figures there too")
    add("--overwrite", action="store_true", help="replace a file that exists")
    return parser


if __name__ == "__main__":
    sys.exit(main())

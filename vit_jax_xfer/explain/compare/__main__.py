"""Methods of attribution measured: python -m vit_jax_xfer.explain.compare --model … --data SOURCE

Prints a row a method, with random and edges, which know nothing of the network, on top: deletion
and insertion (area under the probability as pixels go or come, the most relevant first), positive
and negative perturbation (area under top-1 in percent as a tenth to nine tenths turn black, at most
80), ABPC (the area between the curves of the least and the most relevant first), SaCo, and maps a
second. Every map is ranked at the network's own grain, also those of pixels, enlarged. Of masks or
boxes of objects also where the maps lie. An arrow says which way is better.

--data: what config.data.source takes (folder:PATH, npz:FILE, tfds:NAME, …). --masks instead:
imagenet:FILE.mat, voc:PATH, coco128:PATH, masks:IMAGES:MASKS; --boxes: voc:PATH[:SPLIT] or
coco:JSON:IMAGES. Images of these are squashed to the network's square, with their masks, and turned
as their EXIF orientation says; those of --data are taken as stored, as in training.
"""

import argparse
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from vit_jax_xfer.command_line.command_parser import add_image_size, command_parser
from vit_jax_xfer.command_line.flag_errors import naming_flag, positive, run_command
from vit_jax_xfer.features.command import out_path
from vit_jax_xfer.terminal import show
from vit_jax_xfer.whole_files import write_whole

_ENDINGS = (".md", ".json", ".csv")


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; 0, or 1 with one line on stderr for what is wrong."""
    options = _parser().parse_args(arguments)
    return run_command(lambda: _compare(options))


def _compare(options: argparse.Namespace) -> None:
    # Imported late, so that --help answers at once.
    from vit_jax_xfer.evaluate.faithfulness import method_table
    from vit_jax_xfer.evaluate.faithfulness.method_scores import score_methods
    from vit_jax_xfer.explain.progress import Progress
    from vit_jax_xfer.pretrained.file_to_model import load_pretrained
    from vit_jax_xfer.tasks.copying_runs import copying_run

    paths = _out_paths(options)
    settings = _method_options(options.set)
    _check_flags(options, settings)
    with naming_flag("--model", options):
        if copying_run(options.model):
            raise ValueError(
                f"{options.model} is a student that computes with its teacher's attention, which "
                "isn't in it; explain it in Python, with the teacher's maps as `given`"
            )
        fields = {"num_heads": options.num_heads} if options.num_heads else {}
        model, variables = load_pretrained(options.model, options.family, **fields)
        preprocessing = _preparation(model, options)
        if not model.num_classes:
            raise ValueError("it has no head, and so no answer that could be explained")
    number, batches, name_of = _images(options, model, preprocessing)
    height, width = preprocessing.height_width
    shape = (min(options.batch_size, number), height, width, model.in_channels)
    methods = _methods(options, settings, model, variables, shape)
    protocol = _protocol(options, preprocessing)
    _say_cost(model, number, methods, settings, protocol, (height, width))
    with Progress(number * len(methods), "maps") as progress:
        scores = score_methods(
            model, variables, batches, methods, protocol, settings, progress.report, name_of
        )
    table = method_table.rows(scores)
    show(method_table.as_markdown(table))
    about = {
        name: value
        for name, value in vars(options).items()
        if name not in ("out", "overwrite", "set")
    }
    about |= {"images": number, "height": height, "width": width, "options": settings}
    for path in paths:
        write_whole(path, method_table.as_text(path.suffix, table, scores, about))


def _say_cost(
    model: Any,
    number: int,
    methods: Sequence[str],
    settings: dict[str, dict[str, Any]],
    protocol: Any,
    size: tuple[int, int],
) -> None:
    from vit_jax_xfer.explain.methods.attribution import passes_of
    from vit_jax_xfer.features.cost_estimate import say_network_cost

    maps = sum(passes_of(name, settings.get(name, {})) for name in methods)
    passes = maps + len(methods) * protocol.passes
    say_network_cost(model, number, size, "images", passes)


def _given(options: argparse.Namespace) -> list[str]:
    """The names of the flags that say which images."""
    return [name for name in ("data", "masks", "boxes") if getattr(options, name)]


def _check_flags(options: argparse.Namespace, settings: dict[str, dict[str, Any]]) -> None:
    """ValueError naming a flag that is wrong by itself, before anything is loaded."""
    from vit_jax_xfer.evaluate.faithfulness.method_scores import FIGURES
    from vit_jax_xfer.explain.methods.attribution import METHODS

    if len(_given(options)) != 1:
        raise ValueError("--data, --masks, --boxes: give one of them")
    if options.steps < 3:
        raise ValueError(f"--steps: got {options.steps}, expected 3 or more")
    if options.target == "label" and not options.data:
        raise ValueError("--target: label needs --data; masks and boxes have no classes here")
    named = {"--methods": options.methods, "--set": settings, "--figures": options.figures}
    for flag, names in named.items():
        known = tuple(FIGURES) if flag == "--figures" else METHODS
        if unknown := [name for name in names or () if name not in known]:
            raise ValueError(f"{flag}: {unknown[0]!r} is none of {', '.join(known)}")


def _out_paths(options: argparse.Namespace) -> list[Path]:
    """The files of --out, of which the ending may be left away: all three then."""
    if not options.out:
        return []
    ending = Path(options.out).suffix
    wanted = (ending,) if ending in _ENDINGS else _ENDINGS
    stem = options.out.removesuffix(ending) if ending in _ENDINGS else options.out
    found = []
    for one in wanted:
        options.out = f"{stem}{one}"
        found.append(out_path(options))
    options.out = stem
    return found


def _preparation(model: Any, options: argparse.Namespace) -> Any:
    from vit_jax_xfer.explain.network_view import preparation, say_assumed

    whole = options.whole or bool(options.masks or options.boxes)
    found = preparation(model, options.size, whole)
    say_assumed(model, options.model)
    with naming_flag("--image-size", options):
        model.num_tokens((*found.height_width, model.in_channels))
    return found


def _images(
    options: argparse.Namespace, model: Any, preprocessing: Any
) -> tuple[int, Iterator[Any], Callable[[int], str]]:
    """How many images there are, their batches, and what errors call each."""
    from vit_jax_xfer.data.sources import open_source
    from vit_jax_xfer.data.sources.source import example_name
    from vit_jax_xfer.evaluate.faithfulness import object_masks

    given = _given(options)
    with naming_flag(f"--{given[0]}", options):
        if given == ["data"]:
            source = open_source(options.data, options.split)
            number = min(len(source), options.limit or len(source))
            targets = _targets(source, model)[:number] if options.target == "label" else None
            batches = _of_source(source, number, targets, preprocessing, options.batch_size)
            return number, batches, functools.partial(example_name, source)
        opened = (
            object_masks.open_object_masks if given == ["masks"] else object_masks.open_object_boxes
        )
        height, width = preprocessing.height_width
        if height != width:
            raise ValueError(
                f"is measured on squares, not on {height}×{width} pixels; give --image-size"
            )
        found = opened(getattr(options, given[0]), options.limit, height)
        if found.left_out:
            show(f"{found.left_out} images without an object left out", name="stderr")
        batches = _of_masks(found, height, preprocessing, options.batch_size)
        return len(found), batches, found.name_of


def _targets(source: Any, model: Any) -> Any:
    """The labels (N,) as numbers of the model's outputs, matched by the classes' names."""
    import numpy as np

    from vit_jax_xfer.data.sources.class_match import match_classes

    labels = source.labels()
    if not source.num_classes or (labels < 0).any():
        raise ValueError("has images without labels; leave --target predicted")
    if model.class_names is None:
        if source.num_classes != model.num_classes:
            raise ValueError(
                f"has {source.num_classes} classes, and the model {model.num_classes} without names"
            )
        return labels.astype(np.int32)
    return match_classes(source.class_names, model.class_names)(labels)


def _of_source(
    source: Any, number: int, targets: Any, preprocessing: Any, batch_size: int
) -> Iterator[Any]:
    from vit_jax_xfer.data.prepare import preprocess
    from vit_jax_xfer.evaluate.faithfulness.method_scores import ExplainedBatch

    for start in range(0, number, batch_size):
        rows = range(start, min(start + batch_size, number))
        images = preprocess(preprocessing, [source[i]["image"] for i in rows])
        yield ExplainedBatch(images, None if targets is None else targets[rows.start : rows.stop])


def _of_masks(found: Any, size: int, preprocessing: Any, batch_size: int) -> Iterator[Any]:
    import numpy as np

    from vit_jax_xfer.data.prepare import preprocess
    from vit_jax_xfer.evaluate.faithfulness.method_scores import ExplainedBatch

    for start in range(0, len(found), batch_size):
        rows = range(start, min(start + batch_size, len(found)))
        photos, masks = zip(*(found.squashed(i, size) for i in rows), strict=True)
        yield ExplainedBatch(preprocess(preprocessing, list(photos)), masks=np.stack(masks))


def _methods(
    options: argparse.Namespace,
    settings: dict[str, dict[str, Any]],
    model: Any,
    variables: Any,
    shape: tuple[int, ...],
) -> list[str]:
    """The methods that are measured, baselines first; says which aren't defined here, and why."""
    from vit_jax_xfer.evaluate.faithfulness.method_scores import BASELINES, defined_methods
    from vit_jax_xfer.explain.methods.attribution import METHODS

    asked = METHODS if options.methods is None else options.methods
    others = [name for name in asked if name not in BASELINES]
    if unused := [name for name in settings if name not in (*BASELINES, *others)]:
        raise ValueError(f"--set: {unused[0]} is none of --methods; leave it out")
    with naming_flag("--set", options):
        there, lacking = defined_methods(model, variables, shape, (*BASELINES, *others), settings)
    for name, why in lacking.items():
        if options.methods is not None or name in settings:
            raise ValueError(f"{'--set' if name in settings else '--methods'}: {why}")
        show(f"left out: {why}", name="stderr")
    return there


def _protocol(options: argparse.Namespace, preprocessing: Any) -> Any:
    from vit_jax_xfer.evaluate.faithfulness.method_scores import FIGURES, FaithfulnessProtocol

    pairs = zip(preprocessing.mean, preprocessing.std, strict=True)
    return FaithfulnessProtocol(
        tuple(FIGURES) if options.figures is None else options.figures,
        options.steps,
        options.patches,
        options.groups,
        tuple(-mean / std for mean, std in pairs),
    )


def _method_options(given: Sequence[str]) -> dict[str, dict[str, Any]]:
    """{method: {option: value}} of METHOD.OPTION=VALUE, a value as Python writes it, or a word."""
    import ast

    found: dict[str, dict[str, Any]] = {}
    for text in given:
        path, equals, value = text.partition("=")
        method, dot, option = path.partition(".")
        if not equals or not dot or not option:
            raise ValueError(f"--set: got {text!r}, expected METHOD.OPTION=VALUE")
        try:
            read = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            read = value
        found.setdefault(method, {})[option] = read
    return found


def _names(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if not names or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected different names with commas")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "vit_jax_xfer.explain.compare",
        __doc__,
        "--model runs/probe/model --data folder:flowers "
        "--methods rollout,gradcam,generic_attention --out compared",
    )
    add = parser.add_argument
    add("--model", required=True, metavar="PATH",
        help="a network with a head: a run's model folder, checkpoint, or hf:ORG/NAME")  # fmt: skip
    add("--family", help="the checkpoint's family, as deit, if its parameter names don't show it")
    add("--num-heads", type=positive, default=0, metavar="N",
        help="attention heads, if the checkpoint doesn't say")  # fmt: skip
    add("--data", default="", metavar="SOURCE", help="images; see above")
    add("--split", default="test", help="of --data (default test)")
    add("--masks", default="", metavar="SET", help="images with masks of objects; see above")
    add("--boxes", default="", metavar="SET", help="images with boxes of objects; see above")
    add("--methods", type=_names, metavar="NAME,…",
        help="beside random and edges (default: all that the network has)")  # fmt: skip
    add("--set", action="append", default=[], metavar="METHOD.OPTION=VALUE",
        help="an option of a method, as integrated_gradients.steps=10")  # fmt: skip
    add("--figures", type=_names, metavar="NAME,…",
        help="deletion, insertion, positive, negative, abpc, saco (default: all)")  # fmt: skip
    add("--target", choices=("predicted", "label"), default="predicted",
        help="the class that is explained and watched (default predicted)")  # fmt: skip
    add("--steps", type=positive, default=20, metavar="N",
        help="of the curves of deletion, insertion and ABPC (default 20)")  # fmt: skip
    add("--groups", type=positive, default=10, metavar="N",
        help="of cells, of SaCo (default 10)")  # fmt: skip
    add("--patches", action="store_true",
        help="change whole cells of a map, not pixels of the map enlarged")  # fmt: skip
    add_image_size(parser, type=positive, metavar="PIXELS",
        help="side of the network's square input (default: the model's own)")  # fmt: skip
    add("--whole", action="store_true",
        help="squash all of an image to the size, in place of the model's crop")  # fmt: skip
    add("--limit", type=positive, metavar="N", help="only so many images")
    add("--batch-size", type=positive, default=16, metavar="N", help="images at once (default 16)")
    add("--out", metavar="FILE[.md|.json|.csv]",
        help="write the table there too; without an ending as all three")  # fmt: skip
    add("--overwrite", action="store_true", help="replace files that exist")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Two networks beside each other: python -m vit_jax_xfer.analysis A B --data SOURCE --out DIR

Writes DIR/report.md with its pictures and all numbers, DIR/numbers.npz: how far apart the heads'
attention is, layer by layer (Jensen-Shannon divergence, heads matched in four ways), how alike the
layers' features are (unbiased CKA), how far and how evenly each network looks, and what holds its
attention. Made for a teacher and what was copied, distilled or fine-tuned from it.

A and B: a run's model folder, one of its checkpoints, a published checkpoint, or hf:ORG/NAME, as
PATH or NAME=PATH. Each sees images prepared as its publisher does it, of pixels as stored, whatever
EXIF says. SOURCE is what config.data.source takes: digits, folder:PATH, npz:FILE, tfds:NAME.
"""

import argparse
import functools
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from vit_jax_xfer.command_line.command_parser import add_image_size, command_line_of, command_parser
from vit_jax_xfer.command_line.flag_errors import naming_flag, positive, run_command
from vit_jax_xfer.command_line.out_places import out_folder
from vit_jax_xfer.local_paths import named_path
from vit_jax_xfer.terminal import show


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the report; 0, or 1 with one line on stderr for what is wrong."""
    options = _parser().parse_args(arguments)
    given = sys.argv[1:] if arguments is None else arguments
    options.command = command_line_of("vit_jax_xfer.analysis", given)
    return run_command(lambda: _analyse(options))


def _analyse(options: argparse.Namespace) -> None:
    # Imported late, so that --help answers at once.
    from vit_jax_xfer.analysis import report
    from vit_jax_xfer.analysis.network_pair import NetworkPair, analyse
    from vit_jax_xfer.analysis.report_pictures import write_pictures
    from vit_jax_xfer.data.sources import open_source
    from vit_jax_xfer.data.sources.source import example_name
    from vit_jax_xfer.explain.image_files import check_free
    from vit_jax_xfer.explain.progress import Progress
    from vit_jax_xfer.whole_files import write_npz, write_whole

    out = out_folder(options.out, "--out")
    check_free([out / "report.md", out / "numbers.npz"], "--out", options.overwrite)
    networks = [_network(text, "AB"[i], options) for i, text in enumerate((options.a, options.b))]
    sizes = options.size or (None,)
    prepared = [
        _preparation(network, sizes[min(i, len(sizes) - 1)], options)
        for i, network in enumerate(networks)
    ]
    pair = NetworkPair(*networks, layers=options.layers, copied=options.copied)
    with naming_flag("A, B", options):
        pair.check(tuple((1, *x.height_width, 3) for x in prepared))
    with naming_flag("--data", options):
        source = open_source(options.data, options.split)
        number = min(len(source), options.limit)
        if min(number, options.batch_size) < 4:
            raise ValueError("give 4 images or more at once; CKA has no estimate of fewer")
    with Progress(number) as progress:
        batches = _batches(source, number, prepared, options.batch_size)
        name_of = functools.partial(example_name, source)
        found = analyse(pair, batches, progress.report, name_of)
    out.mkdir(parents=True, exist_ok=True)
    pictures = write_pictures(out, pair, found)
    write_npz(out / "numbers.npz", report.arrays(found), compressed=True)
    text = report.as_markdown(pair, found, _about(options, source, found, prepared), pictures)
    write_whole(out / "report.md", text)
    show(f"wrote report.md, numbers.npz and {len(pictures)} pictures to {out}")


def _network(text: str, name: str, options: argparse.Namespace) -> Any:
    from vit_jax_xfer.analysis.network_pair import AnalysedNetwork
    from vit_jax_xfer.pretrained.file_to_model import load_pretrained
    from vit_jax_xfer.tasks.copying_runs import copying_run

    given, source = named_path(text)
    with naming_flag(name, options):
        if copying_run(source) and (name == "A" or not options.copied):
            raise ValueError(
                f"{source} is a student that attends by its teacher's maps; give the teacher as A, "
                "the student as B, and --copied"
            )
        fields = {"num_heads": options.num_heads} if options.num_heads else {}
        model, variables = load_pretrained(source, options.family, **fields)
        shown = f"{name}: {text}" if given == text else given
        return AnalysedNetwork(shown, model, variables)


def _preparation(network: Any, size: int | None, options: argparse.Namespace) -> Any:
    from vit_jax_xfer.explain.network_view import preparation, say_assumed

    say_assumed(network.model, network.name)
    found = preparation(network.model, size, options.whole)
    with naming_flag("--image-size", options):
        network.model.num_tokens((*found.height_width, 3))
    return found


def _batches(
    source: Any, number: int, prepared: Sequence[Any], batch_size: int
) -> Iterator[tuple[Any, Any]]:
    """Images as each of the two networks sees them."""
    from vit_jax_xfer.data.prepare import preprocess

    for start in range(0, number, batch_size):
        rows = range(start, min(start + batch_size, number))
        photos = [source[i]["image"] for i in rows]
        first = preprocess(prepared[0], photos)
        yield first, first if prepared[0] == prepared[1] else preprocess(prepared[1], photos)


def _about(
    options: argparse.Namespace, source: Any, found: Any, prepared: Sequence[Any]
) -> dict[str, object]:
    import datetime

    import jax

    from vit_jax_xfer import __version__

    sides = ["×".join(map(str, one.height_width)) for one in prepared]
    about: dict[str, object] = {
        "A": f"`{options.a}`, {sides[0]} pixels",
        "B": f"`{options.b}`, {sides[1]} pixels"
        + (", attending by A's maps (--copied)" if options.copied else ""),
        "images": f"{found.images} of {source.name}, {options.batch_size} at once",
        "made": f"{datetime.date.today()}, vit_jax_xfer {__version__}, jax {jax.__version__} on "
        f"{jax.default_backend()}",
        "by": f"`{options.command}`",
        "layers and heads": "counted from 0",
    }
    return about


def _sizes(text: str) -> tuple[int, ...]:
    found = tuple(positive(part.strip()) for part in text.split(","))
    if len(found) > 2:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected one number or two, A's and B's")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "vit_jax_xfer.analysis",
        __doc__,
        "teacher=runs/mae/model student=runs/distill/model --data digits --out report",
    )
    add = parser.add_argument
    add("a", metavar="A", help="see above")
    add("b", metavar="B", help="see above")
    add("--data", required=True, metavar="SOURCE", help="see above")
    add("--split", default="test", help="of the source (default test)")
    add("--limit", type=positive, default=256, metavar="N",
        help="so many of its images, from the first (default 256)")  # fmt: skip
    add("--batch-size", type=positive, default=32, metavar="N",
        help="images at once; CKA averages over such batches (default 32)")  # fmt: skip
    add_image_size(parser, type=_sizes, metavar="PIXELS[,PIXELS]",
        help="side of the square input, of both or of A and B (default: the models')")  # fmt: skip
    add("--whole", action="store_true",
        help="squash all of an image to the size, in place of each model's crop")  # fmt: skip
    add("--layers", choices=("same", "even", "last", "first"), default="same",
        help="which of B's layers stand beside A's: same, even, last, first")  # fmt: skip
    add("--copied", action="store_true",
        help="B attends by A's maps, as a student that was trained by copying them")  # fmt: skip
    add("--family", help="both checkpoints' family, if parameter names don't show it")
    add("--num-heads", type=positive, default=0, metavar="N",
        help="attention heads, if the checkpoints don't say")  # fmt: skip
    add("--out", required=True, metavar="DIR", help="the folder of the report")
    add("--overwrite", action="store_true", help="replace a report that exists")
    return parser


if __name__ == "__main__":
    sys.exit(main())

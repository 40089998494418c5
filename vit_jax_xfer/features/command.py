"""What the commands on features share: their flags, and what is opened by them."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vit_jax_xfer.command_line.command_parser import add_image_size, command_parser
from vit_jax_xfer.command_line.flag_errors import naming_flag, positive
from vit_jax_xfer.command_line.out_places import out_file
from vit_jax_xfer.terminal import show

_UNTRAINED = "plain,bilinear,bilateral,larger"  # as open_extractors.py has them, slow to import


def comparison_parser(
    module: str,
    description: str,
    example: str,
    out: tuple[str, str] = ("FILE.json", "write the table there too"),
    size: bool = True,
) -> argparse.ArgumentParser:
    """A parser with the flags by which feature extractors are chosen.

    out: what --out names, and its help. size: whether there is a --image-size.
    """
    parser = command_parser(module, f"\n\n{description}", example)
    add_backbone_flags(parser)
    add = parser.add_argument
    add(
        "--lift",
        action="append",
        default=[],
        metavar="PATH",
        help="a LiFT or ConvexLiFT that was trained on this backbone's features: a run's model "
        "folder, or a converted or the authors' file; may be given several times",
    )
    add(
        "--steps",
        type=numbers,
        default=(1, 2),
        metavar="N,…",
        help="how many times features are doubled (default 1,2)",
    )
    add(
        "--extractors",
        type=_names,
        default=tuple(_UNTRAINED.split(",")),
        metavar="NAME,…",
        help="feature extractors to compare with --lift (default all): plain, the backbone's "
        "features; bilinear and bilateral, upsampled without training, by interpolation and by a "
        "joint bilateral filter; larger, of images twice as large",
    )
    add("--ways", action=_OldName, dest="extractors", type=_names, help=argparse.SUPPRESS)
    if size:
        add_image_size(parser, type=positive, metavar="PIXELS",
            help="side of the network's square input (default: the model's own)")  # fmt: skip
    add("--limit", type=positive, metavar="N", help="only so many of the data set's items")
    add("--out", metavar=out[0], help=out[1])
    add("--overwrite", action="store_true", help="replace a file that exists")
    return parser


def add_backbone_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that name a frozen network and its features."""
    add = parser.add_argument
    add("--model", required=True, metavar="PATH",
        help="the backbone: a run's model folder, a checkpoint, or hf:ORG/NAME")  # fmt: skip
    add("--family", help="the checkpoint's family, as dinov2, if its parameter names don't show it")
    add("--num-heads", type=positive, default=0, metavar="N",
        help="attention heads, if the checkpoint doesn't say")  # fmt: skip
    add("--facet", default="key",
        help="key (default), query or value of a block, its token, or normed: the token after the "
        "network's final norm")  # fmt: skip
    add("--layer", type=_layers, default=-1, metavar="N[,N…]",
        help="the block of the features; negative counts from the end (default -1). Several, "
        "as --layer=-2,-1, stand side by side along the channels")  # fmt: skip
    add("--log-bins", action="store_true",
        help="each cell beside its surroundings: 17 times the channels")  # fmt: skip
    add("--stride", type=positive, metavar="PIXELS",
        help="from one patch to the next, so that they overlap: a divisor of the patch size "
        "(default: the patch size)")  # fmt: skip


def add_extractor_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of one feature extractor and of its input, beside `add_backbone_flags`'s."""
    add = parser.add_argument
    add("--lift", metavar="PATH",
        help="a LiFT or ConvexLiFT of these features: a run's model folder, or a file")  # fmt: skip
    add("--steps", type=positive, metavar="N",
        help="how many times --lift doubles the features' resolution (default 1)")  # fmt: skip
    size = parser.add_mutually_exclusive_group()
    add_image_size(size, type=positive, metavar="PIXELS",
        help="side of the square that images become (default: the network's own)")  # fmt: skip
    size.add_argument("--longest", type=positive, metavar="PIXELS",
        help="keep the aspect ratio, with about so many pixels on the longer side")  # fmt: skip


def extractor_from(options: argparse.Namespace) -> tuple[Any, Any]:
    """The FeatureExtractor of the flags, and the Sizing of its photographs."""
    from vit_jax_xfer.features.feature_files import Sizing
    from vit_jax_xfer.features.open_extractors import make_extractors

    if options.steps and not options.lift:
        raise ValueError("--steps: nothing is doubled without --lift; give one, or drop --steps")
    backbone, variables = backbone_from(options)
    lifts, steps = [options.lift] if options.lift else [], [options.steps or 1]
    with naming_flag("--lift", options):
        names = () if lifts else ("plain",)
        extractor = make_extractors(backbone, variables, lifts, steps, names)[0]
    size = None if options.longest else options.size or backbone.model.image_size
    any_size = backbone.step != backbone.patch_size or not options.size
    return extractor, Sizing(backbone.patch_size, size, options.longest, any_size)


def backbone_from(options: argparse.Namespace) -> tuple[Any, Any]:
    """The Backbone of the flags, and its variables; says so where pixels' scale is assumed."""
    from vit_jax_xfer.explain.network_view import say_assumed
    from vit_jax_xfer.features.open_extractors import load_backbone

    with naming_flag("--model", options):
        backbone, variables = load_backbone(
            options.model,
            options.family,
            options.num_heads,
            facet=options.facet,
            layer=options.layer,
            stride=options.stride,
            log_bins=options.log_bins,
        )
    say_assumed(backbone.model, options.model)
    return backbone, variables


def extractors_from(options: argparse.Namespace) -> list[Any]:
    """The extractors that the flags choose, in the table's order. ValueError for none."""
    from vit_jax_xfer.features.open_extractors import make_extractors

    backbone, variables = backbone_from(options)
    with naming_flag("--lift", options):
        extractors = make_extractors(
            backbone, variables, options.lift, options.steps, options.extractors
        )
    if not extractors:
        raise ValueError(
            "--extractors: none chosen and no --lift given; there is nothing to compare"
        )
    return extractors


def input_side(options: argparse.Namespace, extractors: Sequence[Any]) -> int:
    """--image-size, which becomes the model's own side where it isn't given.

    ValueError for a model whose own input is no square.
    """
    if options.size is None:
        options.size = own_side(extractors)
    return options.size


def own_side(extractors: Sequence[Any]) -> int:
    """The side of the input that the extractors' network is meant for. ValueError for no square."""
    own = extractors[0].backbone.model.image_size
    sides = (own, own) if isinstance(own, int) else tuple(own)
    if sides[0] != sides[1]:
        raise ValueError(
            f"--image-size: the model's own input is {sides[0]}×{sides[1]}; give a side"
        )
    return sides[0]


def out_path(options: argparse.Namespace, name: str = "out") -> Path | None:
    """A flag's file to write, None where it isn't given, checked before anything runs.

    name: the flag's, as an option. ValueError where it can't be written.
    """
    flag, given = f"--{name.replace('_', '-')}", getattr(options, name)
    if not given:
        return None
    path = out_file(given, flag)
    if path.exists() and not options.overwrite:
        raise ValueError(f"{flag}: {path} exists already; --overwrite replaces it")
    return path


def numbers(text: str) -> tuple[int, ...]:
    """A flag's whole numbers of 1 or more, with commas; at least one, and each once."""
    found = tuple(positive(part.strip()) for part in text.split(",") if part.strip())
    if not found or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected different numbers, as 1,2")
    return found


class _OldName(argparse.Action):
    """A flag of version 0.1, which sets the one that it is called now and says so."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        show(f"{option_string} is now --{self.dest}", name="stderr")
        setattr(namespace, self.dest, values)


def _layers(text: str) -> int | tuple[int, ...]:
    """A flag's layer, or several with commas."""
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        message = f"got {text!r}, expected a layer's number, or several as 3,7,11"
        raise argparse.ArgumentTypeError(message) from None
    return found[0] if len(found) == 1 else found


def _names(text: str) -> Sequence[str]:
    return tuple(part.strip() for part in text.split(",") if part.strip())

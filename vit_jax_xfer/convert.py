"""Checkpoints from one form into another: python -m vit_jax_xfer.convert SOURCE OUT

Reads everything that load_pretrained reads, prints what it recognised, and writes OUT: a model
directory of this project (Orbax), a .safetensors or .npz file, in this project's names or back in
a publisher's, or an ONNX file for ONNX Runtime and OpenVINO, whose outputs are compared.
"""

import argparse
import ast
import os
import pathlib
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vit_jax_xfer.command_line.command_parser import command_parser
from vit_jax_xfer.command_line.flag_errors import positive, run_command
from vit_jax_xfer.local_paths import local_path
from vit_jax_xfer.terminal import show

if TYPE_CHECKING:
    from vit_jax_xfer.models.protocol import Network
    from vit_jax_xfer.pretrained.family_entry import Recognised

_SUFFIXES = (".safetensors", ".npz")


def main(arguments: Sequence[str] | None = None) -> int:
    """Converts; 0 when OUT is written, 1 with one line on stderr when it can't be."""
    parsed = _parser().parse_args(arguments)
    return run_command(lambda: _convert(parsed))


def _convert(parsed: argparse.Namespace) -> None:
    try:
        convert(
            parsed.source,
            local_path(parsed.out, "OUT"),
            family=parsed.family,
            weights=parsed.weights,
            names=parsed.names,
            overwrite=parsed.overwrite,
            fields=_fields(parsed.field),
            to=parsed.to,
            batch_size=parsed.batch_size,
            image_size=parsed.image_size,
        )
    except ValueError as error:
        asks_field = re.search(r"pass .*\b\w+=", str(error))
        raise ValueError(f"{error} (here: --field NAME=VALUE)" if asks_field else error) from error


def convert(
    source: str | os.PathLike[str],
    out: pathlib.Path,
    *,
    family: str | None = None,
    weights: str | None = None,
    names: str | None = None,
    overwrite: bool = False,
    fields: dict[str, Any] | None = None,
    to: str | None = None,
    batch_size: int | None = None,
    image_size: int | None = None,
) -> None:
    """Reads `source`, a path or hf:ORG/NAME, says what it is, and writes `out`.

    family, weights, fields: as in `load_pretrained`. names: None for this project's, or one of
    pretrained.publish.NAMES, for a .safetensors or .npz file. to: "onnx", as an OUT that ends in
    .onnx says too, with `batch_size` and `image_size` as in `vjx.export_onnx`.
    ValueError or OSError naming what does not fit; `out` is then as it was.
    """
    from vit_jax_xfer.pretrained.file_to_model import load_on_host
    from vit_jax_xfer.pretrained.hub import local_source

    to_onnx = to == "onnx" or out.suffix == ".onnx"
    _check_form(out, to_onnx, names, batch_size, image_size)
    _check_out(pathlib.Path(source).expanduser(), out, names, overwrite)
    path = local_source(source, "SOURCE")
    # A model that this project saved has no family: there it only says whose names to write.
    saved = names is not None and _is_saved_model(path)
    model, variables, found = load_on_host(
        path, None if saved else family, weights, **(fields or {})
    )
    show(overview(source, model, variables, found))
    if to_onnx:
        _write_onnx(out, model, variables, batch_size, image_size)
    elif names is None:
        _write_model(out, model, variables)
    else:
        family = family or (found.family.name if found else None)
        if family is None:
            raise ValueError(
                f"--family: say whose names to write; {source} is a model of this project"
            )
        unsaid = _write_published(out, model, variables, family, names)
        _say_left_behind(model, unsaid)
    show(f"wrote {out}")


def overview(
    source: str | os.PathLike[str],
    model: "Network",
    variables: dict[str, Any],
    found: "Recognised | None",
) -> str:
    """What is in a file, in a few lines: sizes, native parts, classes, what was left out."""
    import jax

    number = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    rows = {"network": f"{model.kind}, {number / 1e6:.2f} million parameters", **model.summary()}
    if found is None:
        lines = ["a model of this project"]
    else:
        family = f"{found.family.name}: {found.family.source}"
        rows = {"family": family, "names": found.dialect, **rows}
        lines = []
        if found.left_out:
            rows["left out"] = ", ".join(found.left_out)
    if called := model.class_names:
        rows["classes"] = ", ".join(called[:4]) + (", …" if called[4:] else "")
    lines += [f"{name:<13} {text}" for name, text in rows.items()]
    return "\n".join([f"{source}", *(f"  {line}" for line in lines)])


def _check_out(source: pathlib.Path, out: pathlib.Path, names: str | None, overwrite: bool) -> None:
    """Everything that can be known to be wrong with OUT before the source is read."""
    from vit_jax_xfer.pretrained.saved_models import check_form

    if out.exists() and source.exists() and out.resolve() == source.resolve():
        raise ValueError(f"{out}: is the source itself")
    if out.exists() and not overwrite:
        raise ValueError(f"{out}: exists; --overwrite replaces it")
    if names is not None and out.suffix not in _SUFFIXES:
        raise ValueError(
            f"{out}: a publisher's names go into a file that ends in {' or '.join(_SUFFIXES)}"
        )
    if names is None and out.suffix == ".npz":
        raise ValueError(f"{out}: .npz is for publishers' names; pass --names, as google")
    if out.suffix in _SUFFIXES and out.is_dir():
        raise ValueError(f"{out}: is a folder")
    if out.suffix != ".onnx":
        check_form(out, "OUT")


def _check_form(
    out: pathlib.Path,
    to_onnx: bool,
    names: str | None,
    batch_size: int | None,
    image_size: int | None,
) -> None:
    """What is wrong with the flags of an ONNX file, or with such flags for another."""
    if to_onnx and out.suffix != ".onnx":
        raise ValueError(f"--to onnx: {out} must end in .onnx")
    if to_onnx and names is not None:
        raise ValueError("--names: an ONNX file has no publisher's names; leave it out")
    for flag, value in (("--batch-size", batch_size), ("--image-size", image_size)):
        if value is not None and not to_onnx:
            raise ValueError(f"{flag}: is for ONNX files (--to onnx) alone")


def _write_onnx(
    out: pathlib.Path,
    model: Any,
    variables: Any,
    batch_size: int | None,
    image_size: int | None,
) -> None:
    from vit_jax_xfer.pretrained.onnx_export import export_onnx

    show("exporting: half a minute or more")
    found = export_onnx(out, model, variables, batch_size, image_size)
    shape = " × ".join(map(str, found.input_shape))
    checked = "not compared: onnxruntime isn't installed"
    if found.difference is not None:
        checked = f"its outputs in ONNX Runtime differ by {found.difference:.1e} of the largest"
    show(f"  images {shape} float32, as vjx.preprocess makes them; {checked}")


def _is_saved_model(source: pathlib.Path) -> bool:
    from vit_jax_xfer.pretrained.saved_models import is_saved_model

    return is_saved_model(source)


def _write_model(out: pathlib.Path, model: Any, variables: Any) -> None:
    from vit_jax_xfer.pretrained.saved_models import save

    save(out, model, variables)


def _write_published(
    out: pathlib.Path, model: Any, variables: Any, family: str, names: str
) -> dict[str, Any]:
    """Writes the arrays; the fields of the network that they don't tell."""
    from vit_jax_xfer.pretrained.publish import to_publisher_names
    from vit_jax_xfer.pretrained.saved_models import write_safetensors
    from vit_jax_xfer.pretrained.unsaid_fields import unsaid_fields
    from vit_jax_xfer.whole_files import write_npz

    state = to_publisher_names(variables, family, names)
    unsaid = unsaid_fields(model, state, family)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".npz":
        write_npz(out, state)
    else:
        write_safetensors(out, state, {"format": "pt"})
    return unsaid


def _say_left_behind(model: Any, unsaid: dict[str, Any]) -> None:
    """What a file of a publisher's has no place for, so that it is not missed later."""
    lost = {"class names": model.class_names, "how images are prepared": model.preprocessing}
    if said := " and ".join(what for what, value in lost.items() if value is not None):
        show(f"  not in such a file: {said}")
    if unsaid:
        fields = ", ".join(f"{name}={value!r}" for name, value in unsaid.items())
        show(f"  nor these fields, with which alone it is the same network again: {fields}")


def _fields(pairs: Sequence[str]) -> dict[str, Any]:
    """--field NAME=VALUE, values as Python writes them, or plain words."""
    fields = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"--field: got {pair!r}, expected NAME=VALUE, as num_heads=12")
        try:
            fields[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            fields[name] = value
    return fields


def _family(text: str) -> str:
    from vit_jax_xfer.pretrained.families import FAMILIES

    return _one_of(text, sorted(FAMILIES))


def _names(text: str) -> str:
    from vit_jax_xfer.pretrained.publish import NAMES

    return _one_of(text, NAMES)


def _one_of(text: str, known: Sequence[str]) -> str:
    if text not in known:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected one of {', '.join(known)}")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "vit_jax_xfer.convert",
        __doc__,
        "dinov2_vitb14_pretrain.pth teachers/dinov2",
    )
    parser.add_argument(
        "source", metavar="SOURCE", help="a file, a Hugging Face directory, or hf:ORG/NAME"
    )
    parser.add_argument(
        "out",
        metavar="OUT",
        help="a folder (Orbax), or a file: .safetensors, .npz or .onnx",
    )
    parser.add_argument(
        "--family",
        type=_family,
        help="whose network it is, as dinov2 (default: recognised from its parameter names)",
    )
    parser.add_argument(
        "--weights", help="which of a file's networks: teacher, student, momentum_encoder, …"
    )
    parser.add_argument(
        "--names",
        type=_names,
        metavar="NAMES",
        help="write parameters under these names, not this project's",
    )
    parser.add_argument(
        "--field",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a field of the network that the file doesn't show, as num_heads=6; may be repeated",
    )
    parser.add_argument(
        "--to", choices=("onnx",), help="write an ONNX file, as an OUT that ends in .onnx does too"
    )
    parser.add_argument(
        "--batch-size", type=positive, metavar="N", help="of an ONNX file's input (default: any)"
    )
    parser.add_argument(
        "--image-size",
        type=positive,
        metavar="PIXELS",
        help="of an ONNX file's input (default: the network's own)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Why it answers as it does: python -m vit_jax_xfer.explain IMAGES --model MODEL --out DIR

Writes into DIR a sheet, a row a photograph and a column a method, on which all maps of a row have
one scale; for each photograph and method NAME_METHOD.png, the map over the photograph in its size;
and NAME.npz, the raw numbers. A map lies where the network saw it; what was cropped away is dark.
--heads adds a sheet of how each head of the last block looks.

Methods are those of vjx.explain.attribute, with their options: --methods rollout:discard=0.9
legrad. They explain the predicted class, or that of --class, by its name or number.

Of a FilterViT or DropoutViT its own masks are on the sheet too, and how much of each map lies
inside them is printed and in kept_shares.json.

IMAGES are files and folders; photographs are turned as their EXIF orientation says. Files that
can't be read are left out, named at the end, and make the exit code 1.
"""

import argparse
import json
import math
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from vit_jax_xfer.command_line.command_parser import command_parser
from vit_jax_xfer.command_line.flag_errors import naming_flag, positive, run_on_files
from vit_jax_xfer.command_line.out_places import out_folder
from vit_jax_xfer.explain.seen_photos import (
    Seen,
    add_model_flags,
    add_photo_flags,
    batches,
    filled,
    load_model,
    readable,
    require_numbers,
    view_of_flags,
)
from vit_jax_xfer.terminal import show
from vit_jax_xfer.whole_files import write_npz, write_whole

_USUAL = ("rollout", "generic_attention", "legrad", "attn_lrp")
_USUAL_FILTERS = ("gradcam", "attn_lrp", "rollout")
_USUAL_HEADLESS = ("raw_attention", "rollout")  # what no class is needed for
_PIXELS = 4 * 224**2  # in one batch, unless --batch-size says otherwise


def main(arguments: Sequence[str] | None = None) -> int:
    """Explains; 0 when all images are drawn, 1 with one line on stderr for what is wrong."""
    options = _parser().parse_args(arguments)
    return run_on_files(lambda broken: _explain_all(options, broken))


def _explain_all(options: argparse.Namespace, broken: list[str]) -> None:
    from vit_jax_xfer.explain.image_files import check_free, find_images, picture_names
    from vit_jax_xfer.explain.progress import Progress
    from vit_jax_xfer.features.cost_estimate import say_network_cost

    out = out_folder(options.out, "--out")
    files = find_images(options.images, out)
    explainer, preprocessing = _open(options)
    writer = _Writer(out, files, explainer, preprocessing, options)
    paths = [out / name for name in picture_names(files)]
    check_free(writer.targets(paths), "--out", options.overwrite, files)
    size = options.batch_size or _PIXELS // math.prod(preprocessing.height_width)
    size = max(1, min(size, len(files)))
    say_network_cost(
        explainer.model, len(files), preprocessing.height_width, passes=explainer.passes
    )
    with Progress(len(files)) as progress:
        for batch in batches(readable(files, paths, preprocessing, broken), size):
            with naming_flag("--model", options):
                found = explainer(filled(batch, size), [str(seen.file) for _, seen in batch])
            out.mkdir(parents=True, exist_ok=True)  # only when the first have been explained
            for (path, seen), explained in zip(batch, found, strict=False):
                require_numbers(seen.file, "probabilities", [explained.shares])
                writer.add(path, seen, explained)
                progress.report(writer.done + len(broken))
    writer.finish()
    photos = "1 photograph" if writer.done == 1 else f"{writer.done} photographs"
    show(f"explained {photos}, see {out}")


def _open(options: argparse.Namespace) -> tuple[Any, Any]:
    """The explainer of the flags, and how images are prepared for its network."""
    from vit_jax_xfer.explain.class_choice import class_number
    from vit_jax_xfer.explain.explained_photos import Explainer, asked_method

    with naming_flag("--methods", options):
        given = [asked_method(text) for text in options.methods or ()]
        names = [one.file_name for one in given]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"methods: {twice} stands there twice")
    model, variables = load_model(options)
    target = None
    if getattr(options, "class") is not None:
        with naming_flag("--class", options):
            target = class_number(model.encoder, getattr(options, "class"))
    usual = [asked_method(name) for name in usual_methods(model.encoder)]
    with naming_flag("--model", options):
        explainer = Explainer(model, variables, given or usual, target, options.heads)
    return explainer, view_of_flags(model, options)


def usual_methods(model: Any) -> tuple[str, ...]:
    """The methods of a network for which nobody asks for others."""
    filters = "filter" in model.collections
    if not model.num_classes:
        return ("rollout",) if filters else _USUAL_HEADLESS
    return _USUAL_FILTERS if filters else _USUAL


class _Writer:
    """Writes what was found on each photograph, and at the end what is left of the sheets."""

    def __init__(
        self,
        out: pathlib.Path,
        files: Sequence[pathlib.Path],
        explainer: Any,
        preprocessing: Any,
        options: argparse.Namespace,
    ) -> None:
        from vit_jax_xfer.explain.attribution_sheets import AttributionSheet, HeadSheet

        self._out, self._explainer = out, explainer
        self._preprocessing, self._options = preprocessing, options
        self._sheets: dict[str, Any] = {"sheet": AttributionSheet(explainer.filter_stages)}
        if options.heads:
            self._sheets["heads"] = HeadSheet()
        self._pages = -(-len(files) // options.rows)
        self._page = 0
        self._inside: dict[str, Any] = {}
        self.done = 0

    def targets(self, paths: Sequence[pathlib.Path]) -> list[pathlib.Path]:
        """All that will be written."""
        names = [one.file_name for one in self._explainer.methods]
        found = [file for path in paths for file in _files(path, names)]
        found += [self._sheet(kind, page) for kind in self._sheets for page in range(self._pages)]
        shares = [self._out / "kept_shares.json"] if self._explainer.filter_stages else []
        return found + shares

    def add(self, path: pathlib.Path, seen: Seen, explained: Any) -> None:
        """One photograph: its overlays and numbers, and its rows of the sheets."""
        from vit_jax_xfer.explain.attribution_sheets import write_overlay
        from vit_jax_xfer.explain.network_view import seen_box
        from vit_jax_xfer.explain.pictures import to_pixels

        box = seen_box(self._preprocessing, seen.photo.shape[:2])
        preprocessing = self._preprocessing
        picture = to_pixels(seen.prepared, preprocessing.mean, preprocessing.std)
        names = [one.file_name for one in self._explainer.methods]
        *overlays, arrays = _files(path, names)
        for overlay, one in zip(overlays, explained.maps, strict=True):
            write_overlay(overlay, seen.photo, one, box)
        _write_arrays(arrays, picture, explained, box)
        if explained.stages:
            self._inside[str(seen.file)] = _inside(explained, self._explainer.filter_stages)
        for one in self._sheets.values():
            one.add(seen.file.name, picture, explained)
        self.done += 1
        if len(self._sheets["sheet"]) == self._options.rows:
            self._write_sheets()

    def finish(self) -> None:
        """Writes what is left."""
        if len(self._sheets["sheet"]):
            self._write_sheets()
        if self._inside:
            text = json.dumps(self._inside, indent=2, ensure_ascii=False) + "\n"
            write_whole(self._out / "kept_shares.json", text)
            for line in _means(self._inside):
                show(line)

    def _write_sheets(self) -> None:
        for kind, one in self._sheets.items():
            one.write(self._sheet(kind, self._page), self._options.model)
        self._page += 1

    def _sheet(self, kind: str, page: int) -> pathlib.Path:
        return self._out / (f"{kind}_{page + 1}.png" if self._pages > 1 else f"{kind}.png")


def _files(path: pathlib.Path, methods: Sequence[str]) -> list[pathlib.Path]:
    """What is written of one photograph alone: an overlay a method, the numbers."""
    endings = [*(f"_{name}.png" for name in methods), ".npz"]
    return [path.with_name(path.name + ending) for ending in endings]


def _write_arrays(path: pathlib.Path, picture: Any, explained: Any, box: Any) -> None:
    import numpy as np

    numbers = {"image": picture, "box": np.array(box)}
    for one in explained.maps:
        numbers[one.asked.file_name] = one.values
        if one.pixels is not None:
            numbers[f"{one.asked.file_name}_pixels"] = one.pixels
    if explained.shares is not None:
        numbers |= {"probabilities": explained.shares, "class": np.array(explained.target)}
    if explained.heads is not None:
        numbers["heads"] = explained.heads.maps
    for stage in explained.stages:
        numbers[f"stage{stage.cells.stage}_kept"] = stage.mask
    write_npz(path, numbers, compressed=True)


def _inside(explained: Any, stages: Sequence[int]) -> dict[str, Any]:
    """Of each stage the share of the image that it kept, and of each map that lies inside."""
    return {
        f"stage {stage}": {
            "image": explained.areas[place],
            **{one.asked.title: one.inside[place] for one in explained.maps},
        }
        for place, stage in enumerate(stages)
    }


def _means(inside: dict[str, Any]) -> list[str]:
    """A line a stage: the means over photographs of the shares inside what it kept."""
    lines = []
    for stage in next(iter(inside.values())):
        found: dict[str, list[float]] = {}
        for shares in inside.values():
            for what, share in shares[stage].items():
                if share is not None:
                    found.setdefault(what, []).append(share)
        texts = [f"{what} {100 * sum(x) / len(x):.1f} %" for what, x in found.items()]
        lines.append(f"inside what {stage} keeps: {', '.join(texts)}")
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "vit_jax_xfer.explain",
        __doc__,
        "photo.jpg --model runs/distill/model "
        "--methods rollout generic_attention --class rose --out explained",
    )
    add_model_flags(parser)
    add_photo_flags(parser, out="explained")
    add = parser.add_argument
    add(
        "--methods",
        nargs="+",
        metavar="METHOD",
        help="one column each; options follow a colon, as gradient_rollout:discard=0.5 (default "
        f"{' '.join(_USUAL)}; of a FilterViT {' '.join(_USUAL_FILTERS)}; of a network without head "
        f"{' '.join(_USUAL_HEADLESS)})",
    )
    add("--class", metavar="NAME", help="explain this class in place of the predicted one")
    add("--heads", action="store_true", help="write heads.png too: the last block's heads")
    add(
        "--rows",
        type=positive,
        default=8,
        metavar="N",
        help="photographs on one sheet; more make sheet_1.png, sheet_2.png, … (default 8)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

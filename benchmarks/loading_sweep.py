"""Every ViT-like architecture of timm and transformers, loaded and compared with the original.

    python -m benchmarks.loading_sweep timm|transformers [PATTERN …] [--out FILE.md]

Each is built one block deep with random weights, in which nothing is hidden by zeros or ones, and
loaded twice: as a bare state dict, and as the folder that its library saves. What comes out is
compared with the library's own output on the same image. A line an architecture:

    exact     the output is the same to 1e-4 of its largest number
    tokens    so are the tokens, but what is made of them isn't: without a head no name tells it
    refused   with the line that was said
    said      it computes something else, and a note on loading names the field that nothing tells
    WRONG     it loads and computes something else

Needs timm or transformers, torch and safetensors. It ends with 1 where a folder is WRONG.
"""

import argparse
import collections
import fnmatch
import importlib
import inspect
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

TOLERANCE = 1e-4
DOUBTS = ("activation:", "rotary:")  # as notes on fields begin that no name tells
_OPERATORS: list[Any] = []  # torch drops what nobody holds
MOST_PARAMETERS = 500_000_000
# timm's files whose networks are transformers on patches, or name their parameters alike.
TIMM_FILES = [
    "vision_transformer",
    "vision_transformer_hybrid",
    "vision_transformer_relpos",
    "vision_transformer_sam",
    "deit",
    "beit",
    "eva",
    "naflexvit",
    "deepseek_vit",
    "gemma4_vit",
    "qwen3_vit",
    "cait",
    "convit",
    "crossvit",
    "hiera",
    "hieradet_sam2",
    "levit",
    "mvitv2",
    "pit",
    "swin_transformer",
    "tnt",
    "twins",
    "vitamin",
    "volo",
    "xcit",
    "tiny_vit",
]


class Case(NamedTuple):
    """A network of another library.

    outputs: {what: array} of images (B, H, W, 3). save: writes the library's folder.
    """

    name: str
    state: dict[str, Any]
    images: np.ndarray
    outputs: Callable[[np.ndarray], dict[str, np.ndarray]]
    save: Callable[[Path], Any]


class Found(NamedTuple):
    """kind: exact, tokens, refused, said or WRONG; said: the error's line, or what differs."""

    kind: str
    said: str


def main() -> None:
    """Runs the cases, prints a line for each and, with --out, writes them as a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("library", choices=("timm", "transformers"))
    parser.add_argument("patterns", nargs="*", default=["*"], help="of names, as in a shell")
    parser.add_argument("--out", type=Path, help="a Markdown file for the table")
    arguments = parser.parse_args()
    cases = {"timm": timm_cases, "transformers": transformers_cases}[arguments.library]
    rows = []
    for case in cases(arguments.patterns):
        rows.append((case.name, *(check(case))))
        _say(rows[-1])
    for i, form in ((1, "state dict"), (2, "folder")):
        print(form, dict(collections.Counter(row[i].kind for row in rows)))
    if arguments.out:
        arguments.out.write_text(table(rows))
    sys.exit(any(row[2].kind == "WRONG" for row in rows))


def _say(row: tuple[str, Found, Found]) -> None:
    name, *found = row
    print(name, *(f"{one.kind} {one.said}".strip() for one in found), sep=" | ", flush=True)


def table(rows: list[tuple[str, Found, Found]]) -> str:
    """A Markdown table of all cases."""
    lines = ["| architecture | state dict | folder |", "|---|---|---|"]
    lines += [
        f"| {name} | " + " | ".join(f"{one.kind} {one.said}".strip() for one in found) + " |"
        for name, *found in rows
    ]
    return "\n".join(lines) + "\n"


def check(case: Case) -> tuple[Found, Found]:
    """What becomes of a case as a bare state dict, and as a folder."""
    try:
        wanted = case.outputs(case.images)
    except Exception as error:  # it wants more than images: it must be refused, then
        wanted = _short(error)
    known: dict[Any, Found] = {}
    with tempfile.TemporaryDirectory() as folder:
        case.save(Path(folder))
        return tuple(_compared(source, case, wanted, known) for source in (case.state, folder))


def _compared(source: Any, case: Case, wanted: Any, known: dict[Any, Found]) -> Found:
    import vit_jax_xfer as vjx

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model, variables = vjx.load_pretrained(source)
        except ValueError as error:
            return Found("refused", _short(error))
        warned = [_short(one.message) for one in caught if "vit_jax_xfer" in str(one.filename)]
    if isinstance(wanted, str):
        return Found("WRONG", f"loads, and can't be compared: {wanted}")
    if model not in known:
        try:
            ours = vjx.extract(model, variables, case.images)
        except ValueError as error:  # the network has another size
            return Found("refused", _short(error))
        known[model] = _same(ours, wanted)
    found = known[model]
    if found.kind == "WRONG" and any(line.startswith(DOUBTS) for line in warned):
        found = Found("said", found.said)
    said = " ".join([found.said, *(f"(warned: {line})" for line in warned)]).strip()
    return Found(found.kind, said)


def _same(ours: Any, wanted: dict[str, np.ndarray]) -> Found:
    result = ours.pooled if ours.logits is None else ours.logits
    mine = {"result": result, "tokens": ours.tokens}
    differs = {what: _distance(mine[what], theirs) for what, theirs in wanted.items()}
    if differs.get("result", differs.get("tokens")) < TOLERANCE:
        return Found("exact", "")
    if ours.logits is None and differs.get("tokens", np.inf) < TOLERANCE:
        return Found("tokens", "")
    return Found("WRONG", ", ".join(f"{what} by {value:.2g}" for what, value in differs.items()))


def _distance(ours: Any, theirs: np.ndarray) -> float:
    if ours is None or np.shape(ours) != theirs.shape:
        return float("inf")
    ours = np.asarray(ours, np.float64)
    return float(np.abs(ours - theirs).max() / (np.abs(theirs).max() + 1e-12))


def _short(message: Any) -> str:
    line = str(message).splitlines()[0].replace("|", "/")
    return line if len(line) < 160 else line[:157] + "…"


def randomise(module: Any, seed: int = 0) -> Any:
    """The module in evaluation, every parameter with noise of a size that keeps outputs finite."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, one in module.named_parameters():
            noise = torch.randn(one.shape, generator=generator)
            if one.ndim >= 2 and "embed" not in name and "token" not in name:
                one.copy_(noise / one[0].numel() ** 0.5)
            else:
                one.add_(0.2 * noise)
    return module.eval()


def define_operators() -> None:
    """The operators that a torchvision without compiled ones lacks, so that it can be imported."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _OPERATORS.append(library)


def _images(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(1, *size, 3)).astype(np.float32)


def timm_cases(patterns: list[str]) -> Iterator[Case]:
    """Every architecture of TIMM_FILES, one block deep, as its name stands for it."""
    define_operators()
    import timm
    import torch
    from timm.models._hub import save_for_hf

    names = [name for file in TIMM_FILES for name in timm.list_models(module=file)]
    for name in names:
        if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
            continue
        try:
            module = randomise(_shallow(timm.create_model, name))
        except Exception as error:  # what can't be built shallow is said, not left out
            print(name, "NOT BUILT", _short(error), sep=" | ", flush=True)
            continue

        def outputs(images: np.ndarray, module: Any = module) -> dict[str, np.ndarray]:
            x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
            with torch.inference_mode():
                found = {"result": module(x)}
                tokens = module.forward_features(x)
            if torch.is_tensor(tokens) and tokens.ndim == 3:
                found["tokens"] = tokens
            return {what: one.numpy() for what, one in found.items() if torch.is_tensor(one)}

        def save(folder: Path, module: Any = module) -> None:
            save_for_hf(module, folder, safe_serialization=True)

        size = module.pretrained_cfg["input_size"][1:]
        yield Case(name, dict(module.state_dict()), _images(tuple(size)), outputs, save)


def _shallow(create: Callable[..., Any], name: str) -> Any:
    try:
        return create(name, depth=1)
    except TypeError:
        return create(name)
    except AssertionError:  # keys and values for each block
        return create(name, depth=1, num_kv_heads=4)


def transformers_cases(patterns: list[str]) -> Iterator[Case]:
    """Every class of transformers that ends in Model and has patches, one block deep."""
    define_operators()
    import torch
    import transformers

    for file in sorted(Path(transformers.__path__[0]).glob("models/*/modeling_*.py")):
        if "patch" not in file.read_text().lower():
            continue
        where = f"transformers.models.{file.parent.name}.{file.stem}"
        for kind in _models(where):
            name = f"{file.parent.name}.{kind.__name__}"
            if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
                continue
            try:
                config = _shallow_config(kind.config_class)
                if config is None:
                    continue
                with torch.device("meta"):
                    empty = kind(config)
                if not _is_spoken(empty.state_dict()):
                    print(name, "refused by its names", sep=" | ", flush=True)
                    continue
                size = sum(one.numel() for one in empty.parameters())
                if size > MOST_PARAMETERS:
                    raise ValueError(f"{size:,} parameters")
                module = randomise(kind(config))
                images = _images(_sides(config))
            except Exception as error:  # what can't be built shallow is said, not left out
                print(name, "NOT BUILT", _short(error), sep=" | ", flush=True)
                continue
            state, outputs = dict(module.state_dict()), _outputs_of(module)
            yield Case(name, state, images, outputs, module.save_pretrained)


def _models(where: str) -> list[Any]:
    from transformers import PreTrainedModel

    module = importlib.import_module(where)
    return [
        kind
        for name, kind in vars(module).items()
        if isinstance(kind, type)
        and issubclass(kind, PreTrainedModel)
        and kind.__module__ == where
        and name.endswith(("Model", "Transformer", "Tower", "Encoder"))
        and not name.endswith("PreTrainedModel")
        and kind.config_class is not None
    ]


def _shallow_config(kind: Any) -> Any:
    """The class's own configuration with one block; None where it has no patches."""
    config = kind()
    if not hasattr(config, "patch_size"):
        return None
    for key in ("num_hidden_layers", "depth", "num_layers"):
        if isinstance(getattr(config, key, None), int):
            setattr(config, key, 1)
    if hasattr(config, "mask_ratio"):
        config.mask_ratio = 0.0
    return config


def _is_spoken(state: dict[str, Any]) -> bool:
    """Whether the names are of a dialect at all; where they aren't, no array need be made."""
    from vit_jax_xfer.pretrained.families import vit_dialects
    from vit_jax_xfer.pretrained.read_files import read_checkpoint
    from vit_jax_xfer.pretrained.rename import rename

    try:
        return rename(read_checkpoint(state).state, vit_dialects()) is not None
    except ValueError:
        return False


def _sides(config: Any) -> tuple[int, int]:
    size = getattr(config, "image_size", None) or 224
    return (size, size) if isinstance(size, int) else tuple(size)


def _outputs_of(module: Any) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    import torch

    def outputs(images: np.ndarray) -> dict[str, np.ndarray]:
        x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        more = {}
        if "noise" in inspect.signature(module.forward).parameters:  # of masks, by whose order
            patches = module.embeddings.patch_embeddings.num_patches
            more["noise"] = torch.arange(float(patches))[None]
        with torch.inference_mode():
            found = module(pixel_values=x, **more)
        named = {"result": found.get("pooler_output"), "tokens": found.get("last_hidden_state")}
        arrays = {what: one.numpy() for what, one in named.items() if one is not None}
        if not arrays:
            raise ValueError(f"gives {', '.join(found)}, and no tokens")
        return arrays

    return outputs


if __name__ == "__main__":
    main()

"""A network as an ONNX file, for ONNX Runtime, OpenVINO and others: by jax2onnx, and checked."""

import contextlib
import importlib
import importlib.util
import io
import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vit_jax_xfer.local_paths import local_path
from vit_jax_xfer.models.filter.filter_blocks import FilterAttention
from vit_jax_xfer.models.filter.selection import scatter_flat
from vit_jax_xfer.models.transformer.patches import ImageSize
from vit_jax_xfer.pretrained.description import describe
from vit_jax_xfer.pretrained.parameter_rules import unstack_blocks
from vit_jax_xfer.whole_files import written_whole

TOLERANCE = 1e-4  # of outputs, relative to the largest
INPUT, OUTPUT = "images", "output"
_LARGEST = 2**31 - 1  # bytes of a message of protobuf, which an ONNX file is
_INSTALL = (
    "pip install 'vit_jax_xfer[onnx]', then pip install --no-deps jax2onnx, whose own list asks "
    "for an older orbax-checkpoint"
)


class Exported(NamedTuple):
    """What an ONNX file takes, and how far its outputs are from the network's."""

    input_shape: tuple[int | str, ...]
    difference: float | None  # relative to the largest output; None: onnxruntime isn't installed


def export_onnx(
    path: str | os.PathLike[str],
    model: Any,
    variables: Mapping[str, Any],
    batch_size: int | None = None,
    image_size: ImageSize | None = None,
) -> Exported:
    """Writes what `model.apply(variables, images)` computes as one ONNX file, which appears whole.

    Its input "images" is float32 (B, H, W, C), as `vjx.preprocess` makes it; its output is
    "output". Its metadata has the network's description, with class names and preprocessing, under
    "vit_jax_xfer". Where onnxruntime is installed, outputs are compared.
    batch_size: None = any number of images. image_size: pixels, or (height, width); None = the
    network's own. ImportError where jax2onnx is missing; ValueError where it can't export the
    network, or where the file's outputs are further off than TOLERANCE.
    """
    path = local_path(path, "path")
    if path.suffix != ".onnx":
        raise ValueError(f"path: {path} doesn't end in .onnx")
    if model.predicts not in ("classes", "masks"):
        raise ValueError(f"model: one that predicts {model.predicts} isn't exported to ONNX")
    # Blocks one by one: jax2onnx has no scan over them.
    plain = model.with_fields(
        attention="plain", remat="none", scan=False, dtype=jnp.float32, product_dtype=None
    )
    apart = {**variables, "params": unstack_blocks(variables["params"])}
    (images,) = plain.example_inputs(image_size or plain.image_size)
    sides = images.shape[1:]

    def apply(images: jax.Array) -> jax.Array:
        with nn.intercept_methods(_in_words_of_onnx):
            return plain.apply(apart, images)

    written = _with_description(_exported(apply, batch_size, sides, model), model)
    example = np.random.default_rng(0).standard_normal((batch_size or 2, *sides), np.float32)
    difference = _difference(written, apply, example)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial:
        partial.write_bytes(written)
    return Exported((batch_size or "any", *sides), difference)


def _in_words_of_onnx(next_function: Any, args: Any, kwargs: Any, context: Any) -> Any:
    """Methods whose operations jax2onnx doesn't know, by others of the same result."""
    if isinstance(context.module, FilterAttention) and context.method_name == "put_back":
        return scatter_flat(*args, **kwargs)
    return next_function(*args, **kwargs)


def _exported(apply: Any, batch_size: int | None, sides: tuple[int, ...], model: Any) -> Any:
    """The graph as jax2onnx makes it. ImportError, or ValueError where it can't."""
    to_onnx = _exporter()
    try:
        with _quiet():
            return to_onnx(
                apply,
                inputs=[(batch_size or "B", *sides)],
                model_name=type(model).__name__,
                input_names=[INPUT],
                output_names=[OUTPUT],
            )
    except Exception as error:  # it raises whatever its parts and JAX's do
        reason = (str(error).strip() or repr(error)).splitlines()[0][:300]
        hint = "" if batch_size else "; with a fixed batch_size it may (--batch-size 1)"
        raise ValueError(f"jax2onnx can't export this network: {reason}{hint}") from error
    finally:
        # It traces with primitives of its own, which JAX would find again in what it has cached.
        jax.clear_caches()


def _exporter() -> Any:
    for package in ("jax2onnx", "onnx"):
        if importlib.util.find_spec(package) is None:
            raise ImportError(f"ONNX needs the package {package}: {_INSTALL}")
    try:
        with _quiet():
            return importlib.import_module("jax2onnx").to_onnx
    except ImportError as error:
        raise ImportError(f"jax2onnx can't be imported: {error}; {_INSTALL}") from error


def _with_description(graph: Any, model: Any) -> bytes:
    """The file: the graph, and in its metadata what the network is."""
    entry = graph.metadata_props.add()
    entry.key, entry.value = "vit_jax_xfer", json.dumps(describe(model))
    if graph.ByteSize() > _LARGEST:
        raise ValueError("model: its parameters take over 2 GB, more than one ONNX file can hold")
    return graph.SerializeToString()


def _difference(written: bytes, apply: Any, example: np.ndarray) -> float | None:
    """The largest difference of the two outputs, relative to the largest; None: can't be told.

    ValueError where it is above TOLERANCE.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    try:
        session = onnxruntime.InferenceSession(written, options, providers=["CPUExecutionProvider"])
        (found,) = session.run([OUTPUT], {INPUT: example})
    except Exception as error:  # its classes are its own, and many
        reason = str(error).splitlines()[0][:300]
        raise ValueError(f"ONNX Runtime refuses what jax2onnx made: {reason}") from error
    expected = np.asarray(jax.jit(apply)(example))
    if found.shape != expected.shape:
        raise ValueError(f"the ONNX file gives {found.shape}, and the network {expected.shape}")
    difference = float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30))
    if not difference <= TOLERANCE:  # NaN too
        raise ValueError(
            f"the ONNX file's outputs are off by {difference:.2g} of the largest, more than "
            f"{TOLERANCE:g}; nothing was written"
        )
    return difference


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters log and print of packages that they look for."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

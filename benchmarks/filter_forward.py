"""FilterViT's forward pass beside the same network in plain PyTorch, with the same weights.

    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 python -m benchmarks.filter_forward --compile

Inference in float32, by turns in one process, on the same threads; on a GPU where both have one.
Logits must agree to 1e-4 before anything is timed. Prints one JSON object a contender and a table
(measured_rows.py says what is in a row); `ratio` is how many times as long as ours a contender
takes. Needs an idle machine: the threads of PyTorch wait actively, and beside other work take ten
times as long (OMP_WAIT_POLICY=passive helps then).
"""

import argparse
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.measured_rows import (
    SHARED,
    Report,
    about_machine,
    compare,
    network_products,
)
from benchmarks.shared_flags import add_flags
from vit_jax_xfer import create_model
from vit_jax_xfer.models.filter.network import FilterViT
from vit_jax_xfer.models.multiply_adds import multiply_adds

CLASSES, TOLERANCE = 100, 1e-4
COLUMNS = ("model", "batch", "contender", *SHARED)


def main() -> None:
    """Compares every model at every batch size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["filter_vit_xs"])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--image-size", type=int, default=224)
    add_flags(parser, rounds=20)
    parser.add_argument("--channels-last", action="store_true", help="PyTorch in that layout too")
    parser.add_argument("--compile", action="store_true", help="PyTorch with torch.compile too")
    parser.add_argument("--tf32", action="store_true", help="GPUs may round products, both sides")
    arguments = parser.parse_args()
    with Report(arguments, COLUMNS) as report:
        set_up = prepare(arguments.threads, arguments.tf32)
        report.about(about_machine(arguments, **set_up))
        for name in arguments.models:
            model = create_model(name, num_classes=CLASSES, image_size=arguments.image_size)
            variables = lively(model)
            for batch in arguments.batch:
                found = contenders(
                    name, model, variables, batch, arguments.channels_last, arguments.compile
                )
                gflops = 2e-9 * multiply_adds(model, batch=batch)
                found |= network_products(model, "inference", batch=batch)
                row = {"model": name, "batch": batch}
                compare(report, found, "vit_jax_xfer", row, gflops, batch)


def prepare(threads: int, tf32: bool) -> dict[str, Any]:
    """Gives both frameworks the same threads and the same precision; says which."""
    import torch

    # XLA's pool is as large as the process's set of cores when the backend starts.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:threads]))
    torch.set_num_threads(threads)
    jax.config.update("jax_default_matmul_precision", "default" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {"torch": torch.__version__, "torch_device": device, "threads": threads, "tf32": tf32}


def lively(model: FilterViT) -> dict[str, Any]:
    """Fresh variables with larger kernels and uneven norms, so that signals reach the logits."""
    side = model.image_size
    images = jax.ShapeDtypeStruct((1, side, side, 3), np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    random = np.random.default_rng(0)

    def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        name = path[-1].key
        if name in ("scale", "var"):
            values = random.uniform(0.5, 1.5, leaf.shape)
        else:
            width = 0.1 if leaf.ndim == 1 else (1.4 / np.prod(leaf.shape[:-1])) ** 0.5
            # Scores of great size are 0.5 to the last bit, and which of equals is kept is open.
            width *= 0.1 if any(key.key == "score" for key in path) else 1.0
            values = width * random.standard_normal(leaf.shape)
        return jax.numpy.asarray(values, leaf.dtype)

    return jax.tree.map_with_path(draw, shapes)


def contenders(
    name: str,
    model: FilterViT,
    variables: Any,
    batch: int,
    channels_last: bool = False,
    compiled: bool = False,
) -> dict[str, Callable[[], np.ndarray]]:
    """{name: a function that waits for its logits}, ours first. ValueError if logits disagree."""
    side = model.image_size
    images = jax.random.normal(jax.random.key(2), (batch, side, side, 3))
    ours = jax.jit(model.apply).lower(variables, images).compile()
    found = {"vit_jax_xfer": lambda: jax.block_until_ready(ours(variables, images))}
    variants = [("torch", False, False)]
    variants += [("torch channels_last", True, False)] * channels_last
    variants += [("torch.compile", False, True)] * compiled
    variants += [("torch.compile channels_last", True, True)] * (channels_last and compiled)
    for label, last, fused in variants:
        found[label] = torch_forward(name, model, variables, np.array(images), last, fused)
    expected = np.asarray(found["vit_jax_xfer"]())
    for label, run in found.items():
        worst = np.abs(np.asarray(run()) - expected).max()
        if not worst <= TOLERANCE:  # nor NaN
            raise ValueError(f"{name}, batch {batch}: logits of {label} are off by {worst:.1e}")
    return found


def torch_forward(
    name: str, model: FilterViT, variables: Any, images: np.ndarray, last: bool, fused: bool
) -> Callable[[], np.ndarray]:
    """PyTorch's forward pass: last in channels-last layout, fused by torch.compile."""
    import torch

    from benchmarks.filter_vit_torch import from_jax

    device = "cuda" if torch.cuda.is_available() else "cpu"
    layout = torch.channels_last if last else torch.contiguous_format
    network = from_jax(name, model, variables).to(device, memory_format=layout)
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2).to(device)
    inputs = inputs.contiguous(memory_format=layout)
    function = torch.compile(network) if fused else network

    def run() -> np.ndarray:
        with torch.inference_mode():
            logits = function(inputs)
        if device == "cuda":
            torch.cuda.synchronize()
        return logits.cpu().numpy()

    return run


if __name__ == "__main__":
    main()

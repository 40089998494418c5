"""Attributions beside the same in plain PyTorch with hooks, weights and results alike.

    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 OMP_WAIT_POLICY=passive python -m benchmarks.explain_speed

float32, by turns in one process, on the same threads; ViT-B/16, 224 pixels, 8 images unless told
otherwise. Maps must agree to 1e-3 of the largest number before anything is timed. Prints one JSON
object a contender and a table (measured_rows.py says what is in a row); `ratio` is PyTorch's time
over a contender's, `of gradcam` a method's rate over that of Grad-CAM in the same framework. The
products of a method are those of our program. Needs an idle machine.
"""

import argparse
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.filter_forward import prepare
from benchmarks.measured_rows import (
    PRODUCTS,
    SHARED,
    Report,
    about_machine,
    figures,
    take,
)
from benchmarks.product_rate import ProductRate
from benchmarks.product_shapes import products_in
from benchmarks.rounds import Times, ratio
from benchmarks.shared_flags import add_flags
from vit_jax_xfer.explain.methods.attribution import attribute
from vit_jax_xfer.models.registry import create_model

TOLERANCE = 1e-3
CASES: dict[str, dict[str, Any]] = {
    "gradcam": {},
    "legrad": {},
    "legrad, last two": {"start_layer": -2},
    "generic_attention": {},
    "attn_lrp": {},
}
COLUMNS = ("method", "contender", *SHARED, "of gradcam")


def main() -> None:
    """Compares every method, all by turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="vit_base_patch16")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    add_flags(parser)
    arguments = parser.parse_args()
    with Report(arguments, COLUMNS) as report:
        set_up = prepare(arguments.threads, tf32=False)
        report.about(about_machine(arguments, **set_up))
        found = contenders(arguments.model, arguments.image_size, arguments.batch)
        check(found)
        alone = method_products(arguments.model, arguments.image_size, arguments.batch)
        for state, others, times in take(found | alone, arguments):
            for name in found:
                report.add(row_of(name, state, times, arguments) | {"others %": others})


def row_of(name: str, state: str, times: Times, arguments: argparse.Namespace) -> dict[str, Any]:
    """One contender's row. name: "method/contender"."""
    method, contender = name.rsplit("/", 1)
    ratios = {
        "ratio": ratio(times[f"{method}/torch"], times[name]),
        "of gradcam": ratio(times[f"gradcam/{contender}"], times[name]),
    }
    alone = [f"{method}/{label}" for label in PRODUCTS.values()]
    found = figures(times, name, ratios, arguments.widest, alone, batch=arguments.batch)
    return {"method": method, "contender": contender, "state": state, **found}


def method_products(name: str, image_size: int, batch: int) -> dict[str, ProductRate]:
    """{"method/framework's products alone": …} of every method."""
    model = create_model(name, image_size=image_size)
    images = jax.ShapeDtypeStruct((batch, image_size, image_size, 3), np.float32)
    target = jax.ShapeDtypeStruct((batch,), np.int32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    found = {}
    for label, options in CASES.items():
        method = label.split(",")[0]

        def explain(
            variables: Any, images: Any, target: Any, method=method, options=options
        ) -> Any:
            return attribute(model, variables, images, method, target, **options).map

        program = jax.make_jaxpr(explain)(variables, images, target).jaxpr
        for framework, of in PRODUCTS.items():
            rate = ProductRate(products_in(program), "inference", framework)
            found[f"{label}/{of}"] = rate
    return found


def contenders(name: str, image_size: int, batch: int) -> dict[str, Callable[[], Any]]:
    """{"method/contender": a function that gives maps (B, h·w) and waits for them}."""
    import torch

    from benchmarks import explain_torch

    model = create_model(name, image_size=image_size)
    random = np.random.default_rng(0)
    images = random.standard_normal((batch, image_size, image_size, 3)).astype(np.float32)
    target = random.integers(0, model.num_classes, batch).astype(np.int32)
    variables = jax.jit(model.init)(jax.random.key(0), images[:1])
    network = explain_torch.watched(model, jax.tree.map(np.asarray, variables))
    theirs = torch.tensor(images.transpose(0, 3, 1, 2)), torch.tensor(target, dtype=torch.int64)
    inputs = jax.device_put((variables, images, target))

    def ours(method: str, options: dict[str, Any]) -> Callable[[], Any]:
        def run() -> Any:
            variables, images, target = inputs
            out = attribute(model, variables, images, method, target, **options)
            return jax.block_until_ready(out.map).reshape(batch, -1)

        return run

    def pytorchs(method: str, options: dict[str, Any]) -> Callable[[], Any]:
        more = {"start": options["start_layer"]} if options else {}
        return lambda: explain_torch.METHODS[method](network, *theirs, **more)

    found = {}
    for label, options in CASES.items():
        method = label.split(",")[0]
        found[f"{label}/vit_jax_xfer"] = ours(method, options)
        found[f"{label}/torch"] = pytorchs(method, options)
    return found


def check(found: dict[str, Callable[[], Any]]) -> None:
    """ValueError unless both frameworks' maps are alike."""
    for label in CASES:
        ours, theirs = (
            np.asarray(found[f"{label}/{contender}"]()) for contender in ("vit_jax_xfer", "torch")
        )
        distance = np.abs(ours - theirs).max() / np.abs(theirs).max()
        if not distance < TOLERANCE:
            raise ValueError(f"{label}: maps differ by {distance:.1e} of the largest number")


if __name__ == "__main__":
    main()

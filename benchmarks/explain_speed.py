"""Attributions beside the same in plain PyTorch with hooks, weights and results alike.

    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 OMP_WAIT_POLICY=passive python -m benchmarks.explain_speed

float32, by turns in one process, on the same threads; ViT-B/16, 224 pixels, 8 images unless told
otherwise. Maps must agree to 1e-3 of the largest number before anything is timed. Prints one JSON
object a contender and a table; `ratio` is PyTorch's time over ours, `of gradcam` a method's rate
over that of Grad-CAM in the same framework. Needs an idle machine.
"""

import argparse
import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.filter_forward import prepare
from benchmarks.filter_rounds import alternate, machine, markdown, summary
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
COLUMNS = ("method", "contender", "median_ms", "p10_ms", "p90_ms", "images_s", "ratio")
COLUMNS += ("of gradcam",)


def main() -> None:
    """Compares every method, all by turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="vit_base_patch16")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2, help="of either framework, on a CPU")
    arguments = parser.parse_args()
    print(json.dumps({**machine(), **prepare(arguments.threads, tf32=False)}))
    found = contenders(arguments.model, arguments.image_size, arguments.batch)
    check(found)
    times = alternate(found, arguments.rounds)
    rows = []
    for name in found:
        method, contender = name.rsplit("/", 1)
        figures = summary(times[name])
        other = summary(times[f"{method}/torch"])["median_ms"]
        simple = summary(times[f"gradcam/{contender}"])["median_ms"]
        row = {"method": method, "contender": contender, **figures}
        row["images_s"] = round(1e3 * arguments.batch / figures["median_ms"], 2)
        row["ratio"] = round(other / figures["median_ms"], 2)
        row["of gradcam"] = round(simple / figures["median_ms"], 2)
        rows.append(row)
        print(json.dumps(row))
    print("\n" + markdown(rows, COLUMNS))


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

"""FilterViT's training step beside the same step in plain PyTorch, from the same weights.

    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 python -m benchmarks.filter_step

Forward, backward, batch statistics and AdamW in float32, by turns in one process, on the same
threads; on a GPU where both have one. Dropout is off on both sides. The first loss must agree to
1e-3 and the gradient's norm, which batch norm makes a large number, to 1e-2; later ones need not,
since rounding turns one choice of pixels into another. Prints one JSON object a contender and a
table (measured_rows.py says what is in a row); `ratio` is how many times as long as ours a
contender takes. The compiler's memory and time are of ours. Needs an idle machine.
"""

import argparse
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from benchmarks.filter_forward import CLASSES, lively, prepare
from benchmarks.measured_rows import (
    SHARED,
    Report,
    about_machine,
    compare,
    network_products,
)
from benchmarks.shared_flags import add_flags
from vit_jax_xfer import compiler_options, create_model
from vit_jax_xfer.models.filter.network import FilterViT
from vit_jax_xfer.models.multiply_adds import multiply_adds
from vit_jax_xfer.tasks.supervised import Classification, ClassificationSettings
from vit_jax_xfer.train.state import make_train_step, new_state, step_key

LEARNING_RATE, WEIGHT_DECAY = 1e-4, 0.05
TOLERANCES = 1e-3, 1e-2  # of the loss and the norm
COLUMNS = ("model", "batch", "contender", *SHARED, "temporary_MiB", "compile_s")

Step = Callable[[], tuple[float, float]]


def main() -> None:
    """Compares every model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["filter_vit_xs"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--image-size", type=int, default=224)
    add_flags(parser)
    parser.add_argument("--tf32", action="store_true", help="GPUs may round products, both sides")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)  # so that compile_s is true
    with Report(arguments, COLUMNS) as report:
        set_up = prepare(arguments.threads, arguments.tf32)
        report.about(about_machine(arguments, **set_up))
        for name in arguments.models:
            model = network(name, arguments.image_size)
            ours, about = our_step(model, arguments.batch)
            found = {"ours": ours, "torch eager": torch_step(name, model, arguments.batch)}
            check(name, found)
            gflops = 3 * 2e-9 * multiply_adds(model, batch=arguments.batch)
            found |= network_products(model, "scratch", batch=arguments.batch)
            row, more = {"model": name, "batch": arguments.batch}, {"ours": about}
            compare(report, found, "ours", row, gflops, arguments.batch, more=more)


def network(name: str, image_size: int) -> FilterViT:
    """The network of a name, without dropout."""
    fields = {"num_classes": CLASSES, "image_size": image_size}
    return create_model(name, dropout=0.0, head_dropout=0.0, **fields)


def batch_of(model: FilterViT, size: int) -> dict[str, np.ndarray]:
    """Random images (B, H, W, 3) float32 and labels (B,) int32."""
    random = np.random.default_rng(0)
    side = model.image_size
    images = random.standard_normal((size, side, side, 3), np.float32)
    return {"image": images, "label": random.integers(0, CLASSES, size, np.int32)}


def our_step(model: FilterViT, size: int) -> tuple[Step, dict[str, Any]]:
    """A step that waits and gives its loss and gradient's norm; what its compiler tells."""
    task = Classification(model, ClassificationSettings())
    optimizer = optax.adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    state = jax.jit(lambda v: new_state(v, optimizer, False))(lively(model))
    learns = jax.tree.map(lambda _: False, state.params)
    step = make_train_step(task, optimizer, learns, ema_decay=0.0, accumulate=1)
    arguments = [state, *jax.device_put(({}, batch_of(model, size), step_key(0)))]
    traced = jax.jit(step, donate_argnums=0).trace(*arguments)
    lowered = traced.lower()
    begin = time.perf_counter()
    program = lowered.compile(compiler_options(program=traced))
    about = {"compile_s": round(time.perf_counter() - begin, 1)}
    analysis = program.memory_analysis()
    if analysis is not None:
        about["temporary_MiB"] = round(analysis.temp_size_in_bytes / 2**20)

    def run() -> tuple[float, float]:
        arguments[0], metrics = program(*arguments)
        jax.block_until_ready(arguments[0])
        return float(metrics["loss"]), float(metrics["grad_norm"])

    return run, about


def torch_step(name: str, model: FilterViT, size: int) -> Step:
    """The same in PyTorch, eager."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    from benchmarks.filter_vit_torch import from_jax

    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = from_jax(name, model, lively(model)).to(device).train()
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        elif isinstance(part, nn.MultiheadAttention):
            part.dropout = 0.0
    batch = batch_of(model, size)
    images = torch.from_numpy(batch["image"]).permute(0, 3, 1, 2).contiguous().to(device)
    labels = torch.from_numpy(batch["label"]).long().to(device)
    optimizer = torch.optim.AdamW(module.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def run() -> tuple[float, float]:
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(module(images), labels)
        loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in module.parameters()])
        optimizer.step()
        return loss.item(), norm.item()

    return run


def check(name: str, found: dict[str, Step]) -> None:
    """ValueError unless first losses and norms agree."""
    first = {label: step() for label, step in found.items()}
    for label, values in first.items():
        trios = zip(values, first["ours"], TOLERANCES, strict=True)
        if not all(math.isclose(a, b, rel_tol=tolerance) for a, b, tolerance in trios):
            raise ValueError(f"{name}: loss, norm {values} of {label}, {first['ours']} of ours")


if __name__ == "__main__":
    main()

"""What FilterViT's transformer costs by the number of tokens that a filter block keeps.

    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 python -m benchmarks.filter_cost

One filter block on a map of 112×112 = 12,544 pixels, by turns in one process: its forward pass, and
a training step (forward, backward, batch statistics; no dropout, so that no map of attention is
built). `all` is attention among all pixels without choosing; `1.0` keeps all that it scores; `1`
is the floor, the block with one token. Prints one JSON object a case and a table. Memory is the
compiler's temporary memory.
"""

import argparse
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.machine_state import machine
from benchmarks.rounds import alternate, markdown, summary
from vit_jax_xfer.models.attention import kernels
from vit_jax_xfer.models.filter.filter_blocks import FilterAttention, Stage
from vit_jax_xfer.models.filter.selection import number_kept
from vit_jax_xfer.models.multiply_adds import count

COLUMNS = (
    *("keep", "tokens", "kernel", "transformer_M", "forward_ms", "forward_MiB"),
    *("step_ms", "step_MiB"),
)
Case = tuple[dict[str, Any], Callable[[], Any], Callable[[], Any]]


def main() -> None:
    """Compiles every case, then times them by turns: forward passes first, then steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", nargs="+", default=["1", "64", "256", "1024", "4096", "1.0"])
    parser.add_argument("--side", type=int, default=112, help="of the map")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    print(json.dumps({**machine(), **vars(arguments)}))
    shape = (arguments.batch, arguments.side, arguments.side, arguments.width)
    cases = {keep: make_case(keep, shape, arguments.heads) for keep in [*arguments.keep, "all"]}
    for i, what in enumerate(("forward", "step"), start=1):
        times = alternate({keep: case[i] for keep, case in cases.items()}, arguments.rounds)
        for keep, values in times.items():
            figures = summary(values)
            cases[keep][0][f"{what}_ms"] = figures["median_ms"]
            cases[keep][0][f"{what}_min_ms"] = figures["min_ms"]
    rows = [case[0] for case in cases.values()]
    for row in rows:
        print(json.dumps(row))
    print("\n" + markdown(rows, COLUMNS))


def make_case(keep: str, shape: tuple[int, ...], heads: int) -> Case:
    """What is known of a case before it runs, its forward pass and its training step.

    keep: a number of tokens, a share of them with a point in it, or "all".
    """
    batch, height, width, channels = shape
    if keep == "all":
        block = FilterAttention(Stage("filter", channels, heads), 0.0, attend="all")
        tokens = height * width
    else:
        share = float(keep) if "." in keep else int(keep)
        block = FilterAttention(Stage("filter", channels, heads, keep=share), 0.0)
        tokens = number_kept(share, height * width)
    x = jax.random.normal(jax.random.key(0), shape)
    variables = jax.jit(block.init)(jax.random.key(1), x)

    def step(params: Any, statistics: Any, x: jax.Array) -> Any:
        def loss(params: Any, x: jax.Array) -> Any:
            y, moved = block.apply(
                {"params": params, "batch_stats": statistics}, x, True, mutable=["batch_stats"]
            )
            return jnp.square(y).mean(), moved

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(params, x)

    params, statistics = variables["params"], variables["batch_stats"]
    forward = jax.jit(block.apply).lower(variables, x).compile()
    training = jax.jit(step).lower(params, statistics, x).compile()
    counts = count(jax.make_jaxpr(block.apply)(variables, x).jaxpr)
    head = jax.ShapeDtypeStruct((batch, tokens, heads, channels // heads), x.dtype)
    about = {
        "keep": keep,
        "tokens": tokens,
        "kernel": kernels.choose(head, head, head, "auto", 1024),
        "transformer_M": round((counts["linear"] + counts["attention"]) / 1e6, 1),
        "rest_M": round((counts["convolution"] + counts["scoring"]) / 1e6, 1),
        "forward_MiB": _temporary(forward),
        "step_MiB": _temporary(training),
    }
    return (
        about,
        lambda: jax.block_until_ready(forward(variables, x)),
        lambda: jax.block_until_ready(training(params, statistics, x)),
    )


def _temporary(compiled: jax.stages.Compiled) -> float:
    return round(compiled.memory_analysis().temp_size_in_bytes / 2**20, 1)


if __name__ == "__main__":
    main()

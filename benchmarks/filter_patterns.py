"""What each way to choose or to attend costs in one network: parameters, work, time.

    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 python -m benchmarks.filter_patterns

The network of configs/filter_vit.py's small variants, on batches of images, by turns in one
process: evaluation, and a training step (forward, backward, batch statistics, dropout). Prints one
JSON object a case and a table.
"""

import argparse
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks.machine_state import machine
from benchmarks.rounds import alternate, markdown, summary
from vit_jax_xfer import create_model
from vit_jax_xfer.models.filter.patterns import PATTERNS
from vit_jax_xfer.models.multiply_adds import multiply_adds

CASES: dict[str, dict[str, str]] = {
    "score": {},
    "random": {"choose": "random"},
    **{attend: {"attend": attend} for attend in (*PATTERNS, "none")},
}
COLUMNS = ("choice", "parameters", "multiply_adds_M", "forward_ms", "step_ms", "step_MiB")


def main() -> None:
    """Compiles every case, then times them by turns: evaluation first, then steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="filter_vit_micro")
    parser.add_argument("--size", type=int, default=32, help="of the images")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    arguments = parser.parse_args()
    print(json.dumps({**machine(), **vars(arguments)}))
    cases = {name: make_case(name, arguments) for name in arguments.cases}
    for i, what in enumerate(("forward", "step"), start=1):
        times = alternate({name: case[i] for name, case in cases.items()}, arguments.rounds)
        for name, values in times.items():
            cases[name][0][f"{what}_ms"] = summary(values)["median_ms"]
    rows = [case[0] for case in cases.values()]
    for row in rows:
        print(json.dumps(row))
    print("\n" + markdown(rows, COLUMNS))


def make_case(
    name: str, arguments: argparse.Namespace
) -> tuple[dict[str, Any], Callable[[], Any], Callable[[], Any]]:
    """What is known of a case before it runs, its evaluation and its training step."""
    model = create_model(arguments.model, image_size=arguments.size, num_classes=10, **CASES[name])
    shape = (arguments.batch, arguments.size, arguments.size, 3)
    images = jax.random.normal(jax.random.key(0), shape)
    labels = jnp.zeros((arguments.batch,), jnp.int32)
    variables = jax.jit(model.init)(jax.random.key(1), images)

    def step(params: Any, statistics: Any, images: jax.Array) -> Any:
        def loss(params: Any) -> Any:
            logits, moved = model.apply(
                {"params": params, "batch_stats": statistics},
                images,
                True,
                rngs={"dropout": jax.random.key(2)},
                mutable=["batch_stats"],
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), moved

        return jax.grad(loss, has_aux=True)(params)

    params, statistics = variables["params"], variables["batch_stats"]
    forward = jax.jit(model.apply).lower(variables, images).compile()
    training = jax.jit(step).lower(params, statistics, images).compile()
    about = {
        "choice": name,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "multiply_adds_M": round(multiply_adds(model) / 1e6, 2),
        "step_MiB": round(training.memory_analysis().temp_size_in_bytes / 2**20, 1),
    }
    return (
        about,
        lambda: jax.block_until_ready(forward(variables, images)),
        lambda: jax.block_until_ready(training(params, statistics, images)),
    )


if __name__ == "__main__":
    main()

"""Memory of a distillation gradient, with and without maps.

    python -m benchmarks.distillation_memory --run

Prints one JSON object a case: temporary memory by the compiler, and, with --run, the seconds of one
real step. No weights are needed: memory doesn't hang on them.
"""

import argparse
import json
import platform
import time
from typing import Any

import jax
import jax.numpy as jnp

from vit_jax_xfer import create_model, transfer_forward


def main() -> None:
    """Compiles every case, and runs those that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="vit_small_patch16")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 448, 896])
    parser.add_argument("--run", action="store_true", help="run the map-free step as well")
    arguments = parser.parse_args()
    machine = {"jax": jax.__version__, "device": jax.devices()[0].device_kind}
    print(json.dumps({**machine, "machine": platform.machine(), "model": arguments.model}))
    for size in arguments.sizes:
        for materialize in (False, True):
            row = measure(arguments.model, arguments.batch, size, materialize)
            compiled, inputs = row.pop("compiled"), row.pop("inputs")
            if arguments.run and not materialize:
                row["seconds"] = seconds(compiled, inputs)
            print(json.dumps(row), flush=True)


def measure(name: str, batch: int, size: int, materialize: bool) -> dict[str, Any]:
    """The compiled gradient of a student's logits and attention loss, and its memory in MiB."""
    model = create_model(
        name, image_size=size, num_classes=10, attention="auto" if not materialize else "plain"
    )
    images = jnp.zeros((batch, size, size, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), images)

    def loss(student: Any, teacher: Any, images: jax.Array) -> jax.Array:
        logits, distance = transfer_forward(
            model, student, model, teacher, images, mode="distill", materialize=materialize
        )
        return logits.mean() + distance

    compiled = jax.jit(jax.grad(loss)).lower(variables, variables, images).compile()
    return {
        "pixels": size,
        "tokens": model.num_tokens(images.shape),
        "batch": batch,
        "maps": materialize,
        "temporary_MiB": round(compiled.memory_analysis().temp_size_in_bytes / 2**20),
        "compiled": compiled,
        "inputs": (model, images),
    }


def seconds(compiled: jax.stages.Compiled, inputs: Any) -> float:
    """The time of the second of two steps."""
    model, images = inputs
    variables = jax.jit(model.init)(jax.random.key(0), images)
    for _ in range(2):
        begin = time.perf_counter()
        jax.block_until_ready(compiled(variables, variables, images))
    return round(time.perf_counter() - begin, 2)


if __name__ == "__main__":
    main()

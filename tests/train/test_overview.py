"""What a run prints before its first step."""

import jax
import jax.numpy as jnp

from vit_jax_xfer.train.run_overview import count_parameters, overview
from vit_jax_xfer.train.sharding import make_mesh, param_shardings

SHAPES = {
    "head_hidden": {"kernel": jax.ShapeDtypeStruct((8, 100), jnp.float32)},
    "head": {"kernel": jax.ShapeDtypeStruct((100, 2), jnp.float32)},
}


def text(frozen, teacher):
    compiled = jax.jit(lambda x: x @ x.T).lower(jnp.zeros((64, 64))).compile()
    shardings = param_shardings(SHAPES, make_mesh(1, 8, 1), 300)
    return overview(SHAPES, shardings, frozen, teacher, compiled).splitlines()


def test_counts_memory_and_table():
    still = {"head_hidden": {"kernel": True}, "head": {"kernel": False}}
    lines = text(still, {"w": jnp.zeros((11, 100))})
    assert lines[0] == "parameters: 1,000, 200 of them trained, 1,100 more that stay frozen"
    assert lines[1].startswith("memory a device: about ") and "KiB of state, teacher" in lines[1]
    assert lines[2] == "sharding:"
    assert [" ".join(line.split()) for line in lines[3:]] == [
        "head_hidden/kernel 8×100 fsdp, ·",
        "head/kernel 100×2 on every device",
    ]


def test_all_trained_and_no_teacher_say_no_more():
    trained = {"head_hidden": {"kernel": False}, "head": {"kernel": False}}
    assert text(trained, {})[0] == "parameters: 1,000"
    assert count_parameters(SHAPES) == 1000 and count_parameters({}) == 0

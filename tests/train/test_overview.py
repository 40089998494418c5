"""What a run prints before its first step."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from vit_jax_xfer.train.run_overview import count_parameters, overview
from vit_jax_xfer.train.sharding import make_mesh, param_shardings

SHAPES = {
    "features": {"kernel": jax.ShapeDtypeStruct((8, 100), jnp.float32)},
    "head": {"kernel": jax.ShapeDtypeStruct((100, 2), jnp.float32)},
}


TEACHER = {"head": {"kernel": jax.ShapeDtypeStruct((16, 128), jnp.bfloat16)}}


def text(frozen, teacher, smallest=300):
    compiled = jax.jit(lambda x: x @ x.T).lower(jnp.zeros((64, 64))).compile()
    mesh = make_mesh(1, 8, 1)
    program = SimpleNamespace(
        shapes=SimpleNamespace(params=SHAPES),
        shardings=SimpleNamespace(params=param_shardings(SHAPES, mesh, 300)),
        optimizer=SimpleNamespace(frozen=frozen),
        frozen_shapes=teacher,
        frozen_shardings=param_shardings(teacher, mesh, smallest),
    )
    return overview(program, compiled).splitlines()


def test_counts_memory_and_table():
    still = {"features": {"kernel": True}, "head": {"kernel": False}}
    lines = text(still, TEACHER)
    assert lines[0] == "parameters: 1,000, 200 of them trained, 2,048 more that stay frozen"
    assert lines[1].startswith("memory a device: about ") and "KiB of state, teacher" in lines[1]
    assert lines[3] == "sharding:"
    assert [" ".join(line.split()) for line in lines[4:]] == [
        "features/kernel 8×100 fsdp, ·",
        "head/kernel 100×2 on every device",
    ]


@pytest.mark.parametrize(
    ("smallest", "line"),
    [
        (1, "frozen: 512 B of 4.0 KiB on each device, split over fsdp"),
        (float("inf"), "frozen: 4.0 KiB, whole on every device"),
    ],
)
def test_it_is_said_how_a_teacher_lies(smallest, line):
    still = {"features": {"kernel": True}, "head": {"kernel": False}}
    assert text(still, TEACHER, smallest)[2] == line


def test_all_trained_and_no_teacher_say_no_more():
    trained = {"features": {"kernel": False}, "head": {"kernel": False}}
    assert text(trained, {})[0] == "parameters: 1,000"
    assert count_parameters(SHAPES) == 1000 and count_parameters({}) == 0

"""A profile of a step: operations by kind and place, and the command."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.step_time import Operation, main, operations_of, profile, summed
from vit_jax_xfer import create_model

FORWARD = "jit(step)/jvp(VisionTransformer)/VisionTransformer.forward"
BACKWARD = "jit(step)/transpose(jvp(VisionTransformer))/VisionTransformer.forward/blocks_3"
ATTENTION = f"{BACKWARD}/blocks_3._attend/attention/closed_call/checkpoint/bhtd,bhsd->bhts"


def line(name, operation, where=""):
    """One of a compiled program's text."""
    return f'  %{name} = f32[2,2]{{1,0}} {operation}, metadata={{op_name="{where}"}}\n'


PROGRAM = (
    "%inner.1 (param_0: f32[2,2]) -> f32[2,2] {\n"
    + line("param_0", "parameter(0)")
    + line("sum.1", "reduce(%param_0), dimensions={1}")
    + line("dot.5", "dot(%param_0, %param_0)")
    + "}\n\n%inner.2 (param_0: f32[2,2]) -> f32[2,2] {\n"
    + line("param_0", "parameter(0)")
    + line("transpose.5", "transpose(%param_0), dimensions={1,0}")
    + "}\n\nENTRY %main.1 (x: f32[2,2]) -> f32[2,2] {\n"
    + line("x", "parameter(0)")
    + line("onednn_fusion.1", "fusion(%x), calls=%inner.1", f"{BACKWARD}/mlp/fc1/dot_general")
    + line("ynn_fusion", "fusion(%x), calls=%inner.1", f"{ATTENTION}/dot_general")
    + line("copy_fusion", "fusion(%x), calls=%inner.2", f"{FORWARD}/norm/mul")
    + line("dot.1", "dot(%x, %x)")
    + line("sum.2", "reduce(%x), dimensions={1}", "jit(step)/jvp()/reduce_sum")
    + line("exponential.1", "exponential(%x)")
    + line("while.1", "while(%x), body=%inner.1")
    + line("add.1", "add(%x, %dot.1)", "jit(step)/add")
    + "}\n"
)


def test_operations_by_kind_and_place():
    found = operations_of(PROGRAM)
    assert found["onednn_fusion.1"] == Operation("products, oneDNN", "backward blocks/mlp/fc1")
    assert found["ynn_fusion"] == Operation("products, YNNPACK", "backward blocks/attention")
    assert found["copy_fusion"] == Operation("copies", "forward norm")
    assert found["dot.1"] == Operation("products, Eigen", "")
    assert found["sum.2"] == Operation("sums", "forward")
    assert found["exponential.1"].kind == "exponentials and the like"
    assert found["add.1"] == Operation("additions and the like", "update")
    assert "while.1" not in found  # what it holds is counted by itself


def test_times_are_added_by_group():
    groups = [("a", "x"), ("b", "y"), ("c", "x"), ("never ran", "y")]
    assert summed({"a": 1.0, "b": 5.0, "c": 2.0, "no operation": 9.0}, groups) == {"y": 5, "x": 3}


def test_a_real_programs_products_are_found_and_timed():
    model = create_model("vit_tiny_patch16", image_size=32, depth=2, num_classes=3)
    variables = model.init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    images = jnp.ones((2, 32, 32, 3))
    loss = jax.jit(jax.grad(lambda v: model.apply(v, images).sum()))
    program = loss.lower(variables).compile()
    times = profile(lambda: jax.block_until_ready(program(variables)), 1)
    operations = operations_of(program.as_text())
    taken = summed(times, ((name, one.place) for name, one in operations.items()))
    for place in ("forward blocks/mlp/fc1", "backward blocks/mlp/fc1", "backward blocks/norm1"):
        assert taken[place] > 0, place
    kinds = summed(times, ((name, one.kind) for name, one in operations.items()))
    assert sum(taken for kind, taken in kinds.items() if kind.startswith("products")) > 0


def test_the_command():
    small = ["--model=vit_tiny_patch16", "--image-size=32", "--batch=2", "--steps=1", "--json"]
    command = [sys.executable, "-m", "benchmarks.step_time", "--step=inference", *small]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    row = json.loads(found.stdout)
    assert row["wall_ms"] > 0
    assert sum(row["kinds"].values()) == pytest.approx(sum(row["places"].values()))
    assert any(place.startswith("forward blocks/mlp/fc1") for place in row["places"])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--contender", "torch eager float32"], "--contender: only ours"),
        (["--contender", "nonsense"], "nonsense"),
        (["--core", "4096"], "--core: 4096 is none of"),
        (["--steps", "0"], "--steps"),
    ],
)
def test_what_it_refuses(flags, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(flags)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err

"""A run's plan: without its data, its teacher and its devices."""

import sys

import jax
import pytest

from tests.runs import ROOT, finish, start, tiny_config, tiny_fields
from vit_jax_xfer.models.multiply_adds import multiply_adds
from vit_jax_xfer.tasks.build import build_model
from vit_jax_xfer.train.planning import plan_run

NOWHERE = {"data__source": "folder:/nowhere", "mesh__fsdp_min_elements": 500}


def plan(name, **fields):
    """The lines of a plan for eight devices, each with its spaces made single."""
    config = tiny_config(name, **NOWHERE, **fields)
    before = config.to_json()
    lines = plan_run(config, jax.devices(), classes=10).splitlines()
    assert config.to_json() == before
    return [" ".join(line.split()) for line in lines]


def number(lines, start):
    (line,) = [line for line in lines if line.startswith(start)]
    return float(line.removeprefix(start).split()[0].replace(",", ""))


def test_plan_of_a_run_with_a_teacher():
    fields = {"model__width": 128, "optim__ema": 0.9, "task__teacher": "vit_micro_patch2"}
    lines = plan("attention_distill", mesh__data=1, mesh__fsdp=8, **fields)
    assert lines[0] == (
        "attention_transfer on 8 × cpu (data=1, fsdp=8, tensor=1), batches of 16 images of 8×8 "
        "pixels"
    )
    parameters = number(lines, "parameters: ")
    assert parameters > 300_000
    whole = 4 * parameters / 2**20
    for row, copies in (("parameters ", 1), ("optimizer's moments ", 2), ("frozen ", 1)):
        assert number(lines, row) == pytest.approx(copies * whole / 8, rel=0.2), row
    assert number(lines, "averages, statistics ") == number(lines, "parameters ")
    assert number(lines, "temporaries ") > 0
    assert "blocks_*/mlp/fc2/kernel 2 × 512×128 fsdp, ·" in lines
    assert any(line.startswith("all-gather ") and "among 8 devices" in line for line in lines)
    assert lines[-1].startswith("Compiled for fake CPU devices: ")


def test_a_teacher_in_bfloat16_takes_two_bytes_a_number():
    fields = {"task__teacher": "vit_micro_patch2", "task__teacher_dtype": "bfloat16"}
    lines = plan("attention_distill", model__width=128, **fields)
    frozen = int(lines[1].split(", ")[-1].split(" more that stay frozen")[0].replace(",", ""))
    assert number(lines, "frozen ") == pytest.approx(2 * frozen / 2**20, abs=0.06)


def test_products_are_three_times_a_forward_pass():
    lines = plan("scratch", model__scan=True, optim__accumulate=2)
    model = build_model(tiny_config("scratch").model, (8, 8, 3), 10)
    forward = 2 * multiply_adds(model, batch=16) / 8 / 1e9
    # Images have no gradient, so the first layer takes twice its forward pass.
    counted = number(lines, "GFLOPs a device and step: ")
    assert 2.8 * forward - 0.005 < counted < 3.02 * forward + 0.005


@pytest.mark.parametrize(
    ("name", "fields", "classes", "message"),
    [
        ("scratch", {}, None, "data.source: .*; --classes stands for data that are not here"),
        ("scratch", {"data__pipeline": "normalize"}, 10, "; --image_size stands for data"),
        ("scratch", {"mesh__tensor": 3}, 10, "mesh: .*tensor=3 does not fill the 8 devices"),
        ("scratch", {"batch_size": 12}, 10, "batch_size: 12 is not a multiple"),
        (
            "attention_copy",
            {"task__teacher": "/no/file"},
            10,
            "task.teacher: .*; the name of a network would do here",
        ),
    ],
)
def test_what_cannot_run_cannot_be_planned(name, fields, classes, message):
    with pytest.raises(ValueError, match=message):
        plan_run(tiny_config(name, **NOWHERE, **fields), jax.devices(), classes)


def test_command_plans_for_devices_that_are_not_there():
    command = [sys.executable, "-m", "vit_jax_xfer.plan"]
    config = f"--config={ROOT / 'configs' / 'scratch.py'}:digits"
    flags = [f"--config.{name}={value}" for name, value in tiny_fields("scratch").items()]
    ended = finish(start([*command, config, "--devices=16", *flags], devices=1))
    assert ended.code == 0, ended.err
    assert ended.out.startswith("classification on 16 × cpu (data=16, fsdp=1, tensor=1)")
    assert " all-reduce " in ended.out and "GFLOPs a device and step: " in ended.out
    ended = finish(start([*command, config], devices=1))
    assert ended.err == "error: give one of --devices=NUMBER and --topology=TPUS\n"

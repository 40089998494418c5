"""A run's plan: without its data, its teacher and its devices."""

import sys

import jax
import pytest

from tests.runs import ROOT, finish, start, tiny_config, tiny_dense, tiny_fields
from vit_jax_xfer.models.multiply_adds import multiply_adds
from vit_jax_xfer.tasks.build import build_model
from vit_jax_xfer.train import run_plan
from vit_jax_xfer.train.run_plan import fit_text, plan_run

NOWHERE = {"data__source": "folder:/nowhere", "mesh__fsdp_min_elements": 500}


def plan(name, **fields):
    """The lines of a plan for eight devices, each with its spaces made single."""
    config = tiny_config(name, **NOWHERE, **fields)
    before = config.to_json()
    lines = plan_run(config, jax.devices(), classes=10).text.splitlines()
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
    table = lines.index("on each device, arguments and temporaries of a step:") + 1
    *rows, total = lines[table : lines.index(next(x for x in lines if x.startswith("total "))) + 1]
    assert float(total.split()[-2]) == pytest.approx(
        sum(float(row.split()[-2].replace(",", "")) for row in rows), abs=0.4
    )
    assert "blocks_*/mlp/fc2/kernel 2 × 512×128 fsdp, ·" in lines
    assert any(line.startswith("all-gather ") and "among 8 devices" in line for line in lines)
    assert lines[-1].startswith("Compiled for fake CPU devices: ")


def test_a_detector_is_planned_without_a_teacher_unless_one_is_named():
    away = {"model__lift": "lift", "task__lift_from": "runs/away/model"}  # weights change no shape
    config = tiny_dense("detection", "coco:/nowhere", **away)
    task = run_plan._task(config, (16, 16, 3), classes=3)
    assert config.task.teacher == "" and task.model.num_classes == 3


def test_a_teacher_in_bfloat16_takes_two_bytes_a_number():
    fields = {"task__teacher": "vit_micro_patch2", "task__teacher_dtype": "bfloat16"}
    lines = plan("attention_distill", model__width=128, **fields)
    frozen = int(lines[1].split(", ")[-1].split(" more that stay frozen")[0].replace(",", ""))
    assert number(lines, "frozen ") == pytest.approx(2 * frozen / 2**20, abs=0.06)


@pytest.mark.parametrize(("remat", "passes"), [("none", 3), ("full", 3.7)])
def test_products_are_a_forward_pass_times_what_is_computed(remat, passes):
    fields = {"model__width": 128, "batch_size": 64}
    loops = {"model__scan": True, "optim__accumulate": 2}
    lines = plan("scratch", model__remat=remat, **loops, **fields)
    model = build_model(tiny_config("scratch", **fields).model, (8, 8, 3), 10)
    forward = 2 * multiply_adds(model, batch=64) / 8 / 1e9
    # Images have no gradient, so the first layer takes twice its forward pass. And a block's last
    # product, a third of all, needs not be computed again.
    counted = number(lines, "GFLOPs a device and step: ")
    assert (passes - 0.2) * forward - 0.005 < counted < (passes + 0.02) * forward + 0.005
    assert forward > 0.1


def test_what_fits_and_what_does_not_is_told_with_the_difference():
    assert fit_text(6 * 2**30, 16 * 2**30) == "fits into 16.0 GiB a device: 10.0 GiB left"
    assert fit_text(2**30, 2**30) == "fits into 1.0 GiB a device: 0 B left"
    assert fit_text(3 * 2**29, 2**30).startswith(
        "does not fit into 1.0 GiB a device: 512.0 MiB too much; what may help: mesh.fsdp, "
    )


@pytest.mark.parametrize(
    ("name", "fields", "classes", "message"),
    [
        ("scratch", {}, None, "data.source: .*; --classes takes the place of data"),
        ("scratch", {"data__pipeline": "normalize"}, 10, "; --image-size takes the place of data"),
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
    command.append(config)
    ended = finish(start([*command, "--devices=16", "--memory=0.1MiB", *flags], devices=1))
    assert ended.code == 2, ended.err
    assert ended.out.splitlines()[-1].startswith("does not fit into 102.4 KiB a device: ")
    assert ended.out.startswith("classification on 16 × cpu (data=16, fsdp=1, tensor=1)")
    assert " all-reduce " in ended.out and "GFLOPs a device and step: " in ended.out
    ended = finish(start(command, devices=1))
    assert ended.err == "error: give one of --devices=NUMBER and --topology=TPUS\n"


OUTGROWN = """
import runpy, sys
import jax
from vit_jax_xfer.train import run_plan

def plan_run(*_):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 47.56G exceeds 15.75G\\nSee there.")

run_plan.plan_run = plan_run
sys.argv = ["plan", sys.argv[1], "--devices=2"]
runpy.run_module("vit_jax_xfer.plan", run_name="__main__")
"""


def test_what_a_compiler_cannot_fit_is_said_in_a_line():
    config = f"--config={ROOT / 'configs' / 'scratch.py'}:digits"
    ended = finish(start([sys.executable, "-c", OUTGROWN, config], devices=1))
    assert ended.code == 2
    assert ended.err == "error: RESOURCE_EXHAUSTED: 47.56G exceeds 15.75G\n"

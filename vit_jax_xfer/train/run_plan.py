"""What a run would take on devices that need not be there: its step, compiled and looked into."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from vit_jax_xfer import data
from vit_jax_xfer.config import check_complete
from vit_jax_xfer.models.multiply_adds import count
from vit_jax_xfer.models.protocol import OF_CLASSES
from vit_jax_xfer.models.registry import STUDENT_LIKE, network_class
from vit_jax_xfer.tasks.build import build_task, find_task
from vit_jax_xfer.tasks.placeholder_teacher import placeholder_loader
from vit_jax_xfer.tasks.task import Task
from vit_jax_xfer.train.collectives import collective_table, collectives
from vit_jax_xfer.train.compile import Program, trace_step
from vit_jax_xfer.train.config_ranges import check_numbers
from vit_jax_xfer.train.inputs import batch_shapes, open_inputs
from vit_jax_xfer.train.memory_need import BatchShapes, argument_bytes, need_of
from vit_jax_xfer.train.run_overview import overview, size_text
from vit_jax_xfer.train.schedule import make_run_schedule
from vit_jax_xfer.train.sharding import check_batch_size, make_mesh

Shape = tuple[int, int, int]


class Planned(NamedTuple):
    """What a plan looks into: the config without what is away, its task, its step, its batch."""

    config: ConfigDict
    task: Task
    program: Program
    compiled: jax.stages.Compiled
    batch: BatchShapes


class RunPlan(NamedTuple):
    """text: several paragraphs. memory: bytes that a step takes on one device."""

    text: str
    memory: int


def plan_run(
    config: ConfigDict,
    devices: Sequence[Any],
    classes: int | None = None,
    image_size: int | None = None,
) -> RunPlan:
    """Of a run: parameters and their places, memory, FLOPs and collectives a device.

    devices: of JAX, or descriptions of them. classes, image_size: stand for the training set, which
    is opened where they don't tell all; a teacher may be a checkpoint or the name of a network, ""
    = the student's own. ValueError, naming the field, for what could not run.
    """
    config, _, program, compiled, batch = compile_planned(config, devices, classes, image_size)
    mesh, shape = program.shardings.step.mesh, batch["image"].shape[1:]
    axes = ", ".join(f"{axis}={size}" for axis, size in mesh.shape.items())
    kind = devices[0].device_kind
    head = (
        f"{config.task.name} on {len(devices)} × {kind} ({axes}), batches of {config.batch_size} "
        f"images of {shape[0]}×{shape[1]} pixels"
    )
    rows = step_memory(program, batch, compiled)
    parts = [
        head,
        overview(program, compiled),
        _memory_table(rows),
        _foretold(program, batch),
        _flops(program, compiled, len(devices)),
        _exchange(compiled),
    ]
    if kind == "cpu":
        parts.append(
            "Compiled for fake CPU devices: arguments are exact; temporaries, and which "
            "collectives are merged, are estimates for an accelerator."
        )
    return RunPlan("\n".join(parts), sum(rows.values()))


def compile_planned(
    config: ConfigDict,
    devices: Sequence[Any],
    classes: int | None = None,
    image_size: int | None = None,
) -> Planned:
    """The step of a run, compiled for devices that need not be there; see `plan_run`."""
    check_complete(config)
    config = config.copy_and_resolve_references()
    sizes = config.mesh
    mesh = make_mesh(sizes.data, sizes.fsdp, sizes.tensor, sizes.slices, devices)
    check_batch_size(mesh, config.batch_size, "batch_size", config.optim.accumulate)
    check_numbers(config)
    shape, classes, epoch = _images(config, classes, image_size)
    batch = batch_shapes(config, shape)
    # Tells models/devices.py what kind of devices these are; nothing is put on them.
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        task = _task(config, shape, classes)
        if not task.trains:
            raise ValueError(f"task.name: {config.task.name} trains nothing, so there is no step")
        program = trace_step(task, config, make_run_schedule(config, epoch), mesh, batch)
    return Planned(config, task, program, program.compile(), batch)


def fit_text(memory: int, available: int) -> str:
    """One line: whether a step's bytes fit into a device's, and by how much."""
    left = available - memory
    if left >= 0:
        return f"fits into {size_text(available)} a device: {size_text(left)} left"
    return (
        f"does not fit into {size_text(available)} a device: {size_text(-left)} too much; what may "
        "help: mesh.fsdp, model.remat with model.scan, optim.accumulate, task.teacher_dtype"
    )


def _images(
    config: ConfigDict, classes: int | None, image_size: int | None
) -> tuple[Shape, int, float]:
    """Shape of a prepared image, number of classes, batches an epoch: given, or of the data."""
    shape = (image_size, image_size, 3) if image_size else _pipeline_shape(config.data.pipeline)
    if classes and shape:
        return shape, classes, 1e4  # the schedule is no part of what is planned
    try:
        inputs = open_inputs(config)
    except (ValueError, OSError, ImportError) as error:
        flag = "--image-size" if classes else "--classes"
        raise ValueError(f"{error}; {flag} takes the place of data that are not here") from None
    return shape or inputs.image_shape(), classes or inputs.num_classes, inputs.steps_per_epoch()


def _pipeline_shape(pipeline: str) -> Shape | None:
    """What a pipeline makes of any photograph; None where that hangs on the photograph's size."""
    prepare, shapes = data.parse_pipeline(pipeline), set()
    for size in ((300, 400), (500, 500)):
        picture = {"image": np.zeros((*size, 3), np.uint8), "label": 0}
        shapes.add(prepare(picture, np.random.default_rng(0))["image"].shape)
    return shapes.pop() if len(shapes) == 1 else None


def _task(config: ConfigDict, shape: Shape, classes: int) -> Task:
    """The task without its weights: a start from others changes no shape."""
    if config.model.name == STUDENT_LIKE and not (config.model.like or "teacher" in config.task):
        config.model.like = config.init_from
    config.init_from = ""
    if "lift_from" in config.task:
        config.task.lift_from = ""
    own = {name: value for name, value in config.model.items() if value is not None}
    name = own.pop("name")
    for field in ("parts", "like"):
        own.pop(field, None)
    own = {"image_size": shape[0], "num_classes": classes, **own}
    if network_class(name).predicts not in OF_CLASSES:
        del own["num_classes"]
    if config.task.get("teacher") == "" and find_task(config.task["name"]).needs_teacher:
        config.task.teacher = name
    return build_task(config, shape, classes, placeholder_loader({name: own}))


def step_memory(
    program: Program, batch: BatchShapes, compiled: jax.stages.Compiled
) -> dict[str, int]:
    """Bytes on one device of each thing that a step holds."""
    rows = argument_bytes(program, batch)
    analysis = compiled.memory_analysis()
    if analysis is not None:
        rows["temporaries"] = analysis.temp_size_in_bytes
    return rows


def _memory_table(rows: dict[str, int]) -> str:
    total = {**rows, "total": sum(rows.values())}
    lines = [f"  {name:<20} {size / 2**20:12,.1f} MiB" for name, size in total.items() if size]
    return "\n".join(["on each device, arguments and temporaries of a step:", *lines])


def _foretold(program: Program, batch: BatchShapes) -> str:
    """What a run on such devices would have said of the memory before it compiled the step."""
    need = need_of(program, batch)
    least = need.least(next(iter(program.shardings.step.device_set)).platform)
    return (
        f"told before compiling: {size_text(least)} or more on each device, about "
        f"{size_text(need.usual())}"
    )


def _flops(program: Program, compiled: jax.stages.Compiled, devices: int) -> str:
    """Operations a device and step: of the step's products, and as the compiler counts."""
    products = 2 * sum(count(program.traced.jaxpr.jaxpr).values()) / devices
    analysis = compiled.cost_analysis() or {}
    said = f"{analysis['flops'] / 1e9:,.2f}" if "flops" in analysis else "none told"
    return (
        f"GFLOPs a device and step: {products / 1e9:,.2f} in products, forward and backward, what "
        f"model.remat computes again included (the compiler counts {said}, a loop's body once)"
    )


def _exchange(compiled: jax.stages.Compiled) -> str:
    found = collectives(compiled.as_text())
    if not found:
        return "collectives of a step: none"
    loops = ", loops of unknown length taken once" if any(one.looped for one in found) else ""
    return f"collectives of a step, results on one device{loops}:\n{collective_table(found)}"

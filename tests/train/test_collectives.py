"""What eight devices send each other in a compiled step: gradients and parameters, no batches."""

import functools
import math

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from tests.runs import tiny_config
from vit_jax_xfer.tasks.build import build_task
from vit_jax_xfer.tasks.placeholder_teacher import placeholder_loader
from vit_jax_xfer.train.collectives import collective_table, collectives
from vit_jax_xfer.train.compile import trace_step
from vit_jax_xfer.train.evaluation import Evaluator
from vit_jax_xfer.train.inputs import batch_shapes
from vit_jax_xfer.train.schedule import make_run_schedule
from vit_jax_xfer.train.sharding import batch_sharding, make_mesh, param_shardings

NAMES = ["scratch", "attention_distill", "attention_copy"]
DEPTH, WIDTH, BATCH = 2, 32, 64
TOKENS = ((BATCH // 4, 17, WIDTH),)  # of a device on a mesh of data=4
WHOLE = 2000  # parameters below so many numbers are not split


# Without the last optimisations, which move nothing between devices.
FAST = {"xla_backend_optimization_level": 0}


def tiny_task(name, **fields):
    """(the config of a tiny run, its task); the teacher, where it has one, is like the student."""
    fields = {"model__width": WIDTH, "model__depth": DEPTH, "batch_size": BATCH, **fields}
    config = tiny_config(name, mesh__fsdp_min_elements=WHOLE, **fields)
    if name != "scratch":
        config.task.teacher = "vit_micro_patch2"
    scan = fields.get("model__scan") or False
    teacher = {"image_size": 8, "width": WIDTH, "depth": DEPTH, "num_heads": 2, "scan": scan}
    return config, build_task(
        config, (8, 8, 3), 10, placeholder_loader({"vit_micro_patch2": teacher})
    )


@functools.cache
def compiled(name, mesh, **fields):
    """(what its devices exchange, the compiled step, its program) of a tiny run on a mesh."""
    config, task = tiny_task(name, **fields)
    shapes = batch_shapes(config, (8, 8, 3))
    program = trace_step(task, config, make_run_schedule(config, 100), make_mesh(*mesh), shapes)
    step = program.traced.lower().compile(FAST)
    return collectives(step.as_text()), step, program


def count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def sizes(found):
    """Numbers in each array that is exchanged."""
    return {math.prod(shape) for one in found for shape in one.shapes}


def activations(found):
    """What two devices add up, but for the gradient's norm."""
    return [one for one in found if one.devices == 2 and one.size > 100]


@pytest.mark.parametrize("name", NAMES)
def test_data_parallel_reduces_each_gradient_once_and_moves_nothing_else(name):
    found, _, program = compiled(name, (8, 1, 1))
    assert {one.kind for one in found} == {"all-reduce"}
    assert {(one.devices, one.times, one.looped) for one in found} == {(8, 1, False)}
    numbers = sum(one.size for one in found) / 4
    gradients = count(program.shapes.params)
    # Copied queries and keys get no gradient; besides there are a few metrics.
    assert (0.7 if name == "attention_copy" else 0.99) * gradients < numbers < gradients + 10


@pytest.mark.parametrize(("name", "scan"), [*((name, False) for name in NAMES), ("scratch", True)])
def test_fsdp_gathers_parameters_and_never_a_batch(name, scan):
    found, step, program = compiled(name, (1, 8, 1), model__scan=scan)
    assert {one.kind for one in found} <= {"all-gather", "all-reduce", "reduce-scatter"}
    split = [leaf for leaf in jax.tree.leaves(program.shapes.params) if leaf.size >= WHOLE]
    a_layer = [math.prod(leaf.shape[1:]) if scan else leaf.size for leaf in split]
    gathers = [one for one in found if one.kind == "all-gather"]
    assert gathers and sizes(gathers) <= set(a_layer)
    reduced = sum(one.size * one.times for one in found if one.kind != "all-gather") / 4
    assert reduced < count(program.shapes.params) + 100  # gradients, and the norm's few sums
    if scan:  # each layer's at its turn, so that the stack is never whole on one device
        assert all(one.looped and one.times == DEPTH for one in gathers)


def test_a_teacher_kept_whole_is_not_gathered():
    """Only the student's parameters are; half as many numbers travel."""

    def gathered(name, **fields):
        found, _, program = compiled(name, (1, 8, 1), model__scan=False, **fields)
        return sum(one.size for one in found if one.kind == "all-gather"), program

    alone, _ = gathered("scratch")
    split, program = gathered("attention_distill")
    assert split > 1.2 * alone
    assert any(axis for x in jax.tree.leaves(program.frozen_shardings) for axis in x.spec)
    whole, program = gathered("attention_distill", mesh__fsdp_frozen=False)
    assert whole == alone
    assert not any(axis for x in jax.tree.leaves(program.frozen_shardings) for axis in x.spec)


@pytest.mark.parametrize("name", ["scratch", "attention_distill"])
def test_moments_stay_split(name):
    _, step, program = compiled(name, (1, 8, 1), model__scan=False)
    state, _ = step.output_shardings
    split = 0
    for tree, shapes in (
        (state.opt_state, program.shapes.opt_state),
        (state.params, program.shapes.params),
    ):
        for sharding, leaf in zip(jax.tree.leaves(tree), jax.tree.leaves(shapes), strict=True):
            if leaf.size >= WHOLE:
                assert math.prod(sharding.shard_shape(leaf.shape)) == leaf.size // 8
                split += 1
    assert split == 3 * 3 * DEPTH  # qkv, fc1 and fc2: the parameter and its two moments


def test_tensor_parallel_reduces_twice_a_block_each_way():
    found, _, _ = compiled("scratch", (4, 1, 2))
    assert {one.kind for one in found} == {"all-reduce"}
    assert [one.shapes for one in activations(found)] == [TOKENS] * 4 * DEPTH


def test_a_teacher_adds_its_own_reductions_on_the_way_forward():
    found, _, _ = compiled("attention_distill", (4, 1, 2))
    assert {one.kind for one in found} == {"all-reduce"}
    # Its last block gives queries and keys alone.
    assert 4 * DEPTH < len(activations(found)) <= 4 * DEPTH + 2 * (DEPTH - 1)


@pytest.mark.parametrize("name", ["attention_copy"])
def test_a_part_of_a_batch_needs_what_a_batch_needs(name):
    at_once, _, _ = compiled(name, (8, 1, 1))
    found, _, _ = compiled(name, (8, 1, 1), optim__accumulate=4)
    assert {one.kind for one in found} == {"all-reduce"}
    (inside,) = [one for one in found if one.looped]
    assert inside.times == 4
    assert inside.size <= sum(one.size for one in at_once)
    assert not [one for one in found if not one.looped and one.size > 100]


@pytest.mark.parametrize("name", ["scratch", "attention_distill"])
def test_no_parameter_stays_gathered_from_one_part_of_a_batch_to_the_next(name):
    at_once, _, _ = compiled(name, (1, 8, 1), model__scan=False)
    found, _, _ = compiled(name, (1, 8, 1), model__scan=False, optim__accumulate=4)
    gathers = [one for one in found if one.kind == "all-gather"]
    assert gathers and all(one.looped and one.times == 4 for one in gathers)
    whole = [one for one in at_once if one.kind == "all-gather"]
    assert sizes(gathers) == sizes(whole) and len(gathers) <= len(whole)


def evaluated(name, sizes, scan):
    """(what an evaluation of a batch exchanges, shapes of the state and of the teacher)."""
    _, task = tiny_task(name, model__scan=scan)
    mesh = make_mesh(*sizes)

    def on_mesh(shapes, shardings):
        return jax.tree.map(
            lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
            shapes,
            shardings,
        )

    trees = jax.eval_shape(task.init, jax.random.key(0)), jax.eval_shape(lambda: task.frozen)
    trees = [on_mesh(tree, param_shardings(tree, mesh, WHOLE)) for tree in trees]
    whole = {"image": jnp.zeros((BATCH, 8, 8, 3)), "label": jnp.zeros(BATCH, jnp.int32)}
    whole |= {"index": whole["label"], "mask": jnp.ones(BATCH, bool)}
    batch = on_mesh(whole, dict.fromkeys(whole, batch_sharding(mesh)))
    program = Evaluator(task, mesh).trace(*trees, batch).lower().compile(FAST)
    return collectives(program.as_text()), trees


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_evaluation_of_a_split_state_gathers_parameters_and_never_a_batch(name, scan):
    found, trees = evaluated(name, (1, 8, 1), scan)
    split = [leaf for leaf in jax.tree.leaves(trees) if leaf.size >= WHOLE]
    gathers = [one for one in found if one.kind == "all-gather"]
    assert gathers
    assert sizes(gathers) <= {leaf.size // (DEPTH if scan else 1) for leaf in split}
    rest = [one for one in found if one.kind != "all-gather"]
    assert {one.kind for one in rest} == {"all-reduce"}
    assert sizes(rest) == {1}  # the figures' sums


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_of_a_whole_state_exchanges_sums_alone(name):
    found, _ = evaluated(name, (8, 1, 1), False)
    assert {one.kind for one in found} == {"all-reduce"} and sizes(found) == {1}


def test_collectives_of_known_programs():
    mesh = make_mesh(2, 4, 1)

    def step(x):
        def body(total, row):
            return total + jax.lax.psum(row, "fsdp"), None

        total, _ = jax.lax.scan(body, jnp.zeros(6), x)
        return jax.lax.all_gather(total, ("data", "fsdp"))

    mapped = jax.shard_map(step, mesh=mesh, in_specs=P(), out_specs=P(), check_vma=False)
    found = collectives(jax.jit(mapped).lower(jnp.zeros((3, 6))).compile().as_text())
    reduce, gather = sorted(found, key=lambda one: -one.times)
    assert reduce == ("all-reduce", ((6,),), 24, 4, 3, True)
    assert (gather.kind, gather.size, gather.devices, gather.looped) == (
        "all-gather",
        8 * 24,
        8,
        False,
    )
    table = [" ".join(line.split()) for line in collective_table(found).splitlines()]
    assert table == [
        "all-gather 1 × among 8 devices 0.00 MiB",
        "all-reduce 3 × among 4 devices 0.00 MiB",
    ]
    batch = NamedSharding(mesh, P(("data", "fsdp")))
    alone = jax.jit(lambda x: 2 * x, in_shardings=batch, out_shardings=batch)
    assert collectives(alone.lower(jnp.zeros((8, 2))).compile().as_text()) == []
    with pytest.raises(ValueError, match="as_text"):
        collectives("no program")

"""A step of every task on a mesh that splits batch and parameters is the step of one device."""

import jax
import optax
import pytest

from tests.tasks.test_semantic_segmentation import drawn
from tests.train.test_accumulation import MADE, assert_same_step, batch_of, step_of
from vit_jax_xfer.train.sharding import (
    batch_sharding,
    make_mesh,
    param_shardings,
    place,
    replicated,
    to_device,
)
from vit_jax_xfer.train.state import new_state, state_shardings, step_key


@pytest.mark.parametrize("name", MADE)
def test_a_split_step_is_that_of_one_device(name):
    task, tx = MADE[name](), optax.sgd(1.0)
    variables, batch = drawn(task.init), batch_of(task)
    step, state = step_of(task, variables, 1), new_state(variables, tx, False)
    one = jax.jit(step)(state, task.frozen, batch, step_key(3))

    mesh = make_mesh(1, 2, 2, devices=jax.devices()[:4])
    places = state_shardings(jax.eval_shape(lambda: state), tx, mesh, 1)
    frozen_places = param_shardings(jax.eval_shape(lambda: task.frozen), mesh, 1)
    split = jax.jit(
        step,
        in_shardings=(places, frozen_places, batch_sharding(mesh), replicated(mesh)),
        out_shardings=(places, replicated(mesh)),
        keep_unused=True,
    )
    with jax.set_mesh(mesh):
        frozen = place(task.frozen, frozen_places)
        many = split(place(state, places), frozen, to_device(batch, mesh), step_key(3))

    assert any(not leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(many[0].params))
    assert_same_step(state, many, one)

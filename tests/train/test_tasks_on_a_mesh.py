"""A step of every task on a mesh that splits batch and parameters is the step of one device."""

import functools

import jax
import numpy as np
import optax
import pytest

from tests.tasks.test_semantic_segmentation import drawn
from tests.train.test_accumulation import MADE, batch_of, step_of
from vit_jax_xfer.train.rules import named_leaves
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
    assert one[1].keys() == many[1].keys()
    for metric, value in one[1].items():
        assert float(many[1][metric]) == pytest.approx(float(value), rel=2e-5), metric
    moved = functools.partial(jax.tree.map, lambda old, new: np.asarray(old) - np.asarray(new))
    wanted = dict(named_leaves(moved(state.params, one[0].params)))
    scale = max(np.abs(x).max() for x in wanted.values())
    for leaf, found in named_leaves(moved(state.params, many[0].params)):
        np.testing.assert_allclose(found, wanted[leaf], atol=3e-5 * scale, err_msg=leaf)

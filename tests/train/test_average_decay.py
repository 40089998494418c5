"""Averages of the parameters against timm's numbers, through the step that a run takes."""

import json

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vit_jax_xfer.tasks.task import Aux
from vit_jax_xfer.train.average_decay import ema_decay_at
from vit_jax_xfer.train.state import make_train_step, new_state, step_key

KEY = step_key(0)


@pytest.fixture(scope="module")
def golden(shared):
    """Reference averages of timm."""
    folder = shared / "golden" / "recipes"
    table = json.loads((folder / "optim_metrics.json").read_text())["ema"]
    return table, np.load(folder / "optim_metrics.npz")


class Given:
    """A task whose gradient is the batch, so that plain descent goes where a test wants it."""

    def loss(self, variables, frozen, batch, key):
        return (variables["params"]["w"] * batch["w"]).sum(), Aux({})


@pytest.mark.parametrize("decay", [0.9999, 0.9])
def test_the_average_of_a_run_is_timms(decay, golden):
    params, wanted = (golden[1][f"ema_{decay}_{what}"] for what in ("params", "ema"))
    tx = optax.sgd(1.0)
    step = make_train_step(Given(), tx, {"w": False}, ema_decay=decay, accumulate=1)
    state = new_state({"params": {"w": jnp.asarray(params[0])}}, tx, ema=True)
    np.testing.assert_array_equal(state.ema["w"], wanted[0])
    for goal, average in zip(params[1:], wanted[1:], strict=True):
        state, _ = step(state, {}, {"w": state.params["w"] - goal}, KEY)
        np.testing.assert_allclose(state.params["w"], goal, rtol=0, atol=1e-6)
        np.testing.assert_allclose(state.ema["w"], average, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("start", "name"),
    [
        ("timm_v3", "timm_v3_no_warmup"),
        ("timm_v3_warmup", "timm_v3_warmup_gamma1_power2_3"),
        ("tensorflow", "tf_style_min_decay_1pn_10pn"),
    ],
)
def test_the_decay_rises_as_published(start, name, golden):
    table = golden[0]["warmup_table"]
    found = [float(ema_decay_at(step, 0.9999, start)) for step in table["step"]]
    np.testing.assert_allclose(found, table[name], rtol=0, atol=1e-6)
    assert ema_decay_at(0, 0.9999, "fixed") == 0.9999


def test_a_run_counts_its_first_step_as_one():
    step = make_train_step(
        Given(), optax.sgd(1.0), {"w": False}, ema_decay=0.9, accumulate=1,
        ema_start="tensorflow",
    )  # fmt: skip
    state = new_state({"params": {"w": jnp.zeros(1)}}, optax.sgd(1.0), ema=True)
    state, _ = step(state, {}, {"w": jnp.full(1, -11.0)}, KEY)
    assert float(state.ema["w"][0]) == pytest.approx(11 * (1 - 2 / 11))


def test_an_unknown_start_is_refused():
    with pytest.raises(ValueError, match="optim.ema_start: got 'v4', expected one of fixed, timm_"):
        ema_decay_at(1, 0.9, "v4")

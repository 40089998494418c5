"""One training step: parts of a batch, averages, where moments lie, what stays as it is."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vit_jax_xfer.models.registry import create_model
from vit_jax_xfer.tasks.supervised import Classification, ClassificationSettings
from vit_jax_xfer.tasks.task import Aux, Task
from vit_jax_xfer.train.optimizer import frozen_tree, make_optimizer, scale_tree
from vit_jax_xfer.train.sharding import make_mesh, param_shardings
from vit_jax_xfer.train.state import make_train_step, new_state, state_shardings

BATCH = 16


def classification(**fields):
    model = create_model(
        "vit_micro_patch2",
        **{"image_size": 8, "width": 16, "depth": 2, "num_heads": 2, "num_classes": 10, **fields},
    )
    return Classification(model, ClassificationSettings(0.1))


def batch():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(BATCH, 8, 8, 3)).astype(np.float32)
    return {"image": images, "label": rng.integers(0, 10, BATCH).astype(np.int32)}


def adamw(params, rules=()):
    scales = scale_tree(params, 2, 1.0, rules)
    settings = {"weight_decay": 0.05, "b1": 0.9, "b2": 0.999, "clip_norm": 1.0}
    return make_optimizer(optax.constant_schedule(1e-3), scales, **settings), frozen_tree(scales)


def one_step(task, accumulate=1, ema=0.0, rules=()):
    variables = jax.jit(task.init)(jax.random.key(1))
    tx, frozen = adamw(variables["params"], rules)
    step = make_train_step(task, tx, frozen, seed=3, ema_decay=ema, accumulate=accumulate)
    before = new_state(variables, tx, ema > 0)
    after, metrics = jax.jit(step)(before, {}, batch())
    return before, after, metrics


def assert_trees_close(left, right, atol):
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


@pytest.mark.parametrize("parts", [2, 8])
def test_parts_of_a_batch_make_the_whole(parts):
    _, whole, metrics = one_step(classification())
    _, split, split_metrics = one_step(classification(), accumulate=parts)
    assert split_metrics.keys() == metrics.keys()
    for name, value in metrics.items():
        np.testing.assert_allclose(split_metrics[name], value, atol=1e-6)
    # Adam's first step is ±lr whatever the gradient's size, so compare what it was made of.
    assert_trees_close(
        optax.tree.get(whole.opt_state, "mu"), optax.tree.get(split.opt_state, "mu"), 1e-6
    )
    assert_trees_close(whole.params, split.params, 2e-5)


def test_each_part_has_its_own_randomness():
    step = jax.jit(
        make_train_step(Given(), optax.sgd(1.0), {"w": False}, seed=3, ema_decay=0.0, accumulate=2)
    )
    state = new_state({"params": {"w": jnp.zeros(15)}}, optax.sgd(1.0), ema=False)
    _, metrics = step(state, {}, {"grad": jnp.zeros((2, 15))})
    key = jax.random.fold_in(jax.random.key(3), 0)
    draws = [float(jax.random.uniform(jax.random.fold_in(key, part))) for part in (0, 1)]
    assert float(metrics["draw"]) == pytest.approx(np.mean(draws))


def test_a_step_counts_itself_and_its_number_feeds_the_randomness():
    task = classification(drop_path=0.5)
    before, after, metrics = one_step(task)
    assert (int(before.step), int(after.step)) == (0, 1)
    tx, frozen = adamw(before.params)
    step = make_train_step(task, tx, frozen, seed=3, ema_decay=0.0, accumulate=1)
    later = before.replace(step=jnp.int32(5))
    assert float(jax.jit(step)(later, {}, batch())[1]["loss"]) != float(metrics["loss"])


def test_frozen_parameters_get_no_gradient():
    rules = (("head(_norm)?/.*", 1.0), (".*", 0.0))
    before, after, metrics = one_step(classification(pool="avg"), rules=rules)
    assert_trees_close(
        {k: v for k, v in before.params.items() if "head" not in k},
        {k: v for k, v in after.params.items() if "head" not in k},
        0,
    )
    assert float(jnp.abs(before.params["head"]["kernel"] - after.params["head"]["kernel"]).max())
    _, _, free = one_step(classification(pool="avg"))
    assert float(metrics["grad_norm"]) < float(free["grad_norm"])


@dataclasses.dataclass
class Given(Task):
    """A parameter whose gradient is the batch, to drive it anywhere."""

    model: nn.Module | None = None
    frozen: dict = dataclasses.field(default_factory=dict)

    def init(self, key):
        return {"params": {"w": jnp.zeros(15)}}

    def loss(self, variables, frozen, batch, key):
        draw = jax.random.uniform(key)
        return (variables["params"]["w"] * batch["grad"]).sum(), Aux({"draw": draw})

    def evaluate(self, variables, frozen, batch):
        return {}

    def check(self, image_shape):
        pass


@pytest.mark.parametrize("decay", [0.9999, 0.9])
def test_average_is_timms(decay, shared):
    arrays = np.load(shared / "golden" / "recipes" / "optim_metrics.npz")
    params, averages = arrays[f"ema_{decay}_params"], arrays[f"ema_{decay}_ema"]
    tx = optax.sgd(1.0)
    step = jax.jit(
        make_train_step(Given(), tx, {"w": False}, seed=0, ema_decay=decay, accumulate=1)
    )
    state = new_state({"params": {"w": jnp.array(params[0])}}, tx, ema=True)
    for old, new, average in zip(params[:-1], params[1:], averages[1:], strict=True):
        state, _ = step(state, {}, {"grad": old - new})
        np.testing.assert_allclose(state.params["w"], new, atol=1e-6)
        np.testing.assert_allclose(state.ema["w"], average, atol=1e-6)
    assert state.variables(ema=True)["params"] is state.ema


def test_moments_and_averages_lie_where_their_parameters_do():
    task, mesh = classification(), make_mesh(2, 4, 1)
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    tx, _ = adamw(shapes["params"], rules=(("pos_embed", 0.0), (".*", 1.0)))

    def init(key):
        return new_state(task.init(key), tx, ema=True)

    wanted = state_shardings(jax.eval_shape(init, jax.random.key(0)), tx, mesh, 64)
    state = jax.jit(init, out_shardings=wanted)(jax.random.key(0))
    expected = param_shardings(shapes["params"], mesh, 64)
    split = [leaf for leaf in jax.tree.leaves(expected) if "fsdp" in leaf.spec]
    assert len(split) >= 2 * 4  # at least the kernels of both blocks
    for name in ("mu", "nu"):
        moments = dict(optax.tree.get(state.opt_state, name))
        assert jax.tree.leaves(moments.pop("pos_embed")) == []
        rest = {key: value for key, value in expected.items() if key != "pos_embed"}
        jax.tree.map(lambda leaf, sharding: _assert_lies(leaf, sharding), moments, rest)
    jax.tree.map(_assert_lies, state.params, expected)
    jax.tree.map(_assert_lies, state.ema, expected)


def _assert_lies(leaf, sharding):
    assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim)

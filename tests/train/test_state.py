"""One training step: parts of a batch, averages, where moments lie, what stays as it is."""

import dataclasses
from types import SimpleNamespace

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.runs import tiny_config
from vit_jax_xfer.models.batch_norm import BatchNorm
from vit_jax_xfer.models.registry import create_model
from vit_jax_xfer.storage.checkpoints import Checkpoints
from vit_jax_xfer.tasks.supervised import Classification, ClassificationSettings
from vit_jax_xfer.tasks.task import Aux, Task
from vit_jax_xfer.train.initial_state import NEW_CLOCK, start_or_resume
from vit_jax_xfer.train.optimizer import frozen_tree, make_optimizer, scale_tree
from vit_jax_xfer.train.sharding import make_mesh, param_shardings
from vit_jax_xfer.train.state import make_train_step, new_state, state_shardings, step_key

BATCH = 16
KEY = step_key(3)


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
    step = make_train_step(task, tx, frozen, ema_decay=ema, accumulate=accumulate)
    before = new_state(variables, tx, ema > 0)
    after, metrics = jax.jit(step)(before, {}, batch(), KEY)
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
        make_train_step(Given(), optax.sgd(1.0), {"w": False}, ema_decay=0.0, accumulate=2)
    )
    state = new_state({"params": {"w": jnp.zeros(15)}}, optax.sgd(1.0), ema=False)
    _, metrics = step(state, {}, {"grad": jnp.zeros((2, 15))}, KEY)
    key = jax.random.fold_in(jax.random.key(3), 0)
    draws = [float(jax.random.uniform(jax.random.fold_in(key, part))) for part in (0, 1)]
    assert float(metrics["draw"]) == pytest.approx(np.mean(draws))


def test_a_step_counts_itself_and_its_number_feeds_the_randomness():
    task = classification(drop_path=0.5)
    before, after, metrics = one_step(task)
    assert (int(before.step), int(after.step)) == (0, 1)
    tx, frozen = adamw(before.params)
    step = make_train_step(task, tx, frozen, ema_decay=0.0, accumulate=1)
    later = before.replace(step=jnp.int32(5))
    assert float(jax.jit(step)(later, {}, batch(), KEY)[1]["loss"]) != float(metrics["loss"])


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


@pytest.mark.parametrize("start", ["fixed", "timm_v3"])
def test_what_stands_still_is_its_own_average(start):
    tx, values = optax.sgd(1.0), jax.random.normal(jax.random.key(0), (15,))
    fields = {"ema_decay": 0.9999, "ema_start": start, "accumulate": 1}
    step = jax.jit(make_train_step(Given(), tx, {"w": False}, **fields))
    state = new_state({"params": {"w": values}}, tx, ema=True)
    for _ in range(9):
        state, _ = step(state, {}, {"grad": jnp.zeros(15)}, KEY)
    np.testing.assert_array_equal(state.ema["w"], values)


@pytest.mark.parametrize("decay", [0.9999, 0.9])
def test_average_is_timms(decay, shared):
    arrays = np.load(shared / "golden" / "recipes" / "optim_metrics.npz")
    params, averages = arrays[f"ema_{decay}_params"], arrays[f"ema_{decay}_ema"]
    tx = optax.sgd(1.0)
    step = jax.jit(make_train_step(Given(), tx, {"w": False}, ema_decay=decay, accumulate=1))
    state = new_state({"params": {"w": jnp.array(params[0])}}, tx, ema=True)
    for old, new, average in zip(params[:-1], params[1:], averages[1:], strict=True):
        state, _ = step(state, {}, {"grad": old - new}, KEY)
        np.testing.assert_allclose(state.params["w"], new, atol=1e-6)
        np.testing.assert_allclose(state.ema["w"], average, atol=1e-6)
    assert state.variables(ema=True)["params"] is state.ema


@dataclasses.dataclass
class Moving(Given):
    """Statistics that grow by one each time that they are moved."""

    needs_labels: bool = False

    def init(self, key):
        start = {"cls_token": jnp.zeros(15)}
        return {"params": start, "batch_stats": {"stem": {"norm": {"mean": jnp.zeros(3)}}}}

    def loss(self, variables, frozen, batch, key):
        moved = jax.tree.map(lambda x: x + 1, variables["batch_stats"])
        value = (variables["params"]["cls_token"] * batch["grad"]).sum()
        return value, Aux({}, {"batch_stats": moved})


def moving(ema, accumulate=1):
    """(a step of Moving, the state before it, its optimizer)."""
    tx, task = optax.sgd(1.0), Moving()
    still = {"cls_token": False}
    step = make_train_step(task, tx, still, ema_decay=ema, accumulate=accumulate)
    return jax.jit(step), new_state(task.init(None), tx, ema > 0), tx


def mean_of(variables):
    return np.asarray(variables["batch_stats"]["stem"]["norm"]["mean"]).tolist()


@pytest.mark.parametrize("parts", [1, 2])
def test_statistics_move_with_each_part_of_a_batch_and_are_averaged_as_parameters_are(parts):
    step, state, _ = moving(0.75, parts)
    for _ in range(2):
        state, _ = step(state, {}, {"grad": jnp.ones((2, 15))}, KEY)
    assert mean_of(state.variables()) == [2 * parts] * 3
    # 0.25 of each newest value: 0.75 · 0.25 of the first, 0.25 of the second, 0 before.
    assert mean_of(state.variables(ema=True)) == [(0.75 * 0.25 + 0.25 * 2) * parts] * 3
    again, state, _ = moving(0.0, parts)
    state, _ = again(state, {}, {"grad": jnp.ones((2, 15))}, KEY)
    assert (state.ema, state.ema_collections) == ({}, {})


class Norms(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        for name in ("stem", "head"):
            x = BatchNorm(name=name)(x, train)
        return x


@dataclasses.dataclass
class Normed(Given):
    """Two batch norms, one after the other; the second's means tell by what the first went."""

    model: nn.Module = Norms()

    def init(self, key):
        return self.model.init(key, jnp.zeros((2, 3)), False)

    def loss(self, variables, frozen, batch, key):
        out, updates = self.model.apply(variables, batch["x"], True, mutable=["batch_stats"])
        return jnp.square(out - 1).mean(), Aux({}, dict(updates))


@pytest.mark.parametrize("parts", [1, 2])
def test_a_frozen_batch_norm_keeps_and_takes_its_running_statistics(parts):
    task, tx = Normed(), optax.sgd(1.0)
    variables = task.init(jax.random.key(0))
    still = jax.tree.map(lambda _: False, variables["params"])
    still["stem"] = {"scale": True, "bias": True}
    step = make_train_step(task, tx, still, ema_decay=0.0, accumulate=parts)
    state, _ = jax.jit(step)(new_state(variables, tx, False), {}, {"x": jnp.full((4, 3), 5.0)}, KEY)
    before, after = variables["batch_stats"], state.collections["batch_stats"]
    for name in ("mean", "var"):
        np.testing.assert_array_equal(after["stem"][name], before["stem"][name])
    # By the batch's own statistics the first would give zeros.
    assert float(after["head"]["mean"][0]) == pytest.approx(5 * (1 - 0.9**parts), rel=1e-4)


@flax.struct.dataclass
class StateOfVersion01:
    """What version 0.1 wrote: averages of parameters alone."""

    step: jax.Array
    params: dict
    collections: dict
    opt_state: tuple
    ema: dict


@pytest.mark.parametrize("ema", [0.5, 0.0])
def test_a_checkpoint_of_version_0_1_goes_on_with_statistics_as_their_averages(ema, tmp_path):
    step, state, tx = moving(ema)
    state, _ = step(state, {}, {"grad": jnp.ones((2, 15))}, KEY)
    names = [field.name for field in dataclasses.fields(StateOfVersion01)]
    shapes = jax.eval_shape(lambda: state)
    shardings = state_shardings(shapes, tx, make_mesh(-1, 1, 1), 1)
    plan, task, config = SimpleNamespace(total_steps=9), Moving(), tiny_config("scratch")
    with Checkpoints(tmp_path) as checkpoints:
        old = StateOfVersion01(**{name: getattr(state, name) for name in names})
        checkpoints.save(1, old, {"teacher": "", "clock": NEW_CLOCK})
        checkpoints.wait()
        found, number, _ = start_or_resume(
            checkpoints, None, {}, shapes, shardings, config, plan, task, ""
        )
        assert number == 1
        for name in names:
            assert_trees_close(getattr(found, name), getattr(state, name), 0)
        if ema:
            assert mean_of(found.variables(ema=True)) == mean_of(found.variables()) == [1.0] * 3
        # Other differences are told in full.
        wrong = shapes.replace(params={"cls_token": jax.ShapeDtypeStruct((2,), jnp.float32)})
        with pytest.raises(ValueError, match="cls_token: .* wanted"):
            start_or_resume(checkpoints, None, {}, wrong, shardings, config, plan, task, "")


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


@pytest.mark.parametrize("spoiled", ["gradient", "rate"])
def test_a_batch_that_gives_no_finite_state_is_left_out(spoiled):
    def schedule(count):
        # With such a rate finite gradients make a state that is not.
        return jnp.where((count == 1) & (spoiled == "rate"), jnp.inf, 1e-3)

    tx = optax.chain(optax.scale_by_adam(), optax.scale_by_learning_rate(schedule))
    given = {"ema_decay": 0.9, "accumulate": 1, "skip_nonfinite": True}
    step = jax.jit(make_train_step(Given(), tx, {"w": False}, **given))
    good = {"grad": jnp.ones((2, 15))}
    bad = {"grad": good["grad"].at[0, 3].set(jnp.nan)} if spoiled == "gradient" else good
    before, metrics = step(new_state(Given().init(None), tx, True), {}, good, KEY)
    assert metrics["skipped"] == 0
    after, metrics = step(before, {}, bad, KEY)
    assert metrics["skipped"] == 1 and after.step == 2
    for name in ("params", "ema"):
        jax.tree.map(np.testing.assert_array_equal, getattr(after, name), getattr(before, name))
    # The learning rate stays with the step; the moments have seen one gradient.
    adam, rate = after.opt_state
    assert (adam.count, rate.count) == (1, 2) and adam.mu["w"][0] == 0.1 * 2
    following, metrics = step(after, {}, good, KEY)
    assert metrics["skipped"] == 0 and (following.params["w"] != after.params["w"]).all()

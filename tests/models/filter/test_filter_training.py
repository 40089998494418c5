"""How FilterViT and DropoutViT learn and choose: gradients of scores, draws, statistics, NaN."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vit_jax_xfer as vjx
from vit_jax_xfer.models.filter import network
from vit_jax_xfer.models.filter.filter_blocks import Stage
from vit_jax_xfer.models.filter.network import FilterViT

STAGES = (Stage("filter", 8, 2, keep=0.2), Stage("filter", 8, 2, stride=2, keep=5))
EVERY_KIND = (Stage("pooled", 8, 2, grid=3), *STAGES, Stage("full", 8, 2))
KEY = jax.random.key(7)


def small(**fields):
    given = {"stages": STAGES, "stem_width": 8, "stem_expand": 1, "head_width": 8, **fields}
    return FilterViT(num_classes=3, **given)


def batch(number=3, size=(23, 30)):
    return jax.random.normal(jax.random.key(0), (number, *size, 3))


@functools.cache
def fresh(model):
    return jax.jit(model.init)(jax.random.key(1), batch())


def train_step(model, variables, images, key=KEY):
    """(logits, updates and emitted collections) of a training forward pass."""
    run = jax.jit(
        lambda v, x, k: model.apply(
            v, x, True, rngs={"dropout": k}, mutable=["batch_stats", "filter"]
        )
    )
    return run(variables, images, key)


def score_gradient(model, variables, images):
    """The gradient of a loss in the first scoring convolution."""

    def loss(params):
        logits = model.apply({**variables, "params": params}, images)
        return (logits**2).sum()

    return jax.jit(jax.grad(loss))(variables["params"])["stage_0"]["score"]["kernel"]


def test_scores_learn_through_importance_times_features():
    model = small()
    assert float(jnp.abs(score_gradient(model, fresh(model), batch())).max()) > 1e-6


def test_straight_through_scores_learn_without_weighing_the_map():
    model = small(straight_through=True)
    variables = fresh(model)
    assert float(jnp.abs(score_gradient(model, variables, batch())).max()) > 1e-6
    out = vjx.extract(model, variables, batch())
    # Given the choice, no score has a say in the result.
    params = jax.tree_util.tree_map_with_path(
        lambda path, x: x + 1.0 if "score" in str(path) else x, variables["params"]
    )
    kept = [block.kept for block in out.filters]
    other = vjx.extract(model, {**variables, "params": params}, batch(), kept=kept)
    np.testing.assert_array_equal(other.logits, out.logits)
    assert (other.filters[0].importance != out.filters[0].importance).any()
    weighed = small()
    first = vjx.extract(weighed, variables, batch(), kept=kept)
    second = vjx.extract(weighed, {**variables, "params": params}, batch(), kept=kept)
    assert float(jnp.abs(first.logits - second.logits).max()) > 1e-4


def test_kept_pixels_are_those_of_the_highest_importance():
    model = small()
    for block in vjx.extract(model, fresh(model), batch()).filters:
        flat = np.asarray(block.importance).reshape(3, -1)
        for scores, kept in zip(flat, np.asarray(block.kept), strict=True):
            left = np.delete(scores, kept)
            assert scores[kept].min() >= left.max()


def test_a_share_and_a_number_of_tokens():
    model = small()
    first, second = vjx.extract(model, fresh(model), batch()).filters
    height, width = (23 - 5) // 2 + 1, (30 - 5) // 2 + 1
    assert first.importance.shape == (3, height, width)
    assert first.kept.shape == (3, round(0.2 * height * width)) and second.kept.shape == (3, 5)
    # A field of the network takes the place of both.
    for keep, numbers in ((4, (4, 4)), ((7, 0.5), (7, 65)), (1.0, (130, 130))):
        blocks = vjx.extract(small(keep=keep), fresh(model), batch()).filters
        assert tuple(block.kept.shape[1] for block in blocks) == numbers


def test_keeping_all_random_pixels_is_attention_among_all():
    drawn = small(choose="random", keep=1.0)
    variables = fresh(drawn)
    everything = small(choose="random", attend="all").apply(variables, batch())
    np.testing.assert_allclose(drawn.apply(variables, batch()), everything, atol=1e-5)


def test_without_attention_no_image_position_is_heard_from_afar():
    model = small(attend="none", stages=EVERY_KIND[:2], head_width=0)
    variables = jax.jit(model.init)(jax.random.key(1), batch())
    assert not any("encoder" in str(path) or "score" in str(path) for path, _ in
                   jax.tree_util.tree_leaves_with_path(variables))  # fmt: skip
    features = jax.jit(lambda x: model.apply(variables, x, method="forward").features)
    near = np.abs(np.asarray(features(batch().at[:, 0, 0].add(1.0)) - features(batch())))
    assert near[:, 0, 0].max() > 1e-4 and near[:, 5:, 5:].max() == 0


# --- DropoutViT -----------------------------------------------------------------------------------


def test_training_draws_for_each_image_from_the_key():
    model = small(choose="random")
    variables = fresh(model)
    _, first = train_step(model, variables, batch())
    _, again = train_step(model, variables, batch())
    _, other = train_step(model, variables, batch(), jax.random.key(8))
    kept = [np.asarray(x["filter"]["stage_0"]["kept"]) for x in (first, again, other)]
    np.testing.assert_array_equal(kept[0], kept[1])
    assert (kept[0] != kept[2]).any()
    assert len({tuple(row) for row in kept[0]}) == 3
    stages = [first["filter"][name]["kept"] for name in ("stage_0", "stage_1")]
    assert stages[0].shape != stages[1].shape
    _, shared = train_step(small(choose="random", shared_draw=True), variables, batch())
    assert len({tuple(row) for row in np.asarray(shared["filter"]["stage_0"]["kept"])}) == 1


def test_two_blocks_of_one_size_draw_apart():
    twin = (Stage("filter", 8, 2, keep=0.2), Stage("filter", 8, 2, keep=0.2))
    model = small(choose="random", stages=twin)
    _, found = train_step(model, jax.jit(model.init)(jax.random.key(1), batch()), batch())
    a, b = (np.asarray(found["filter"][f"stage_{i}"]["kept"]) for i in (0, 1))
    assert (a != b).any()
    evaluated = vjx.extract(model, jax.jit(model.init)(jax.random.key(1), batch()), batch())
    assert (evaluated.filters[0].kept != evaluated.filters[1].kept).any()


def test_evaluation_is_deterministic_and_hangs_on_no_batch():
    model = small(choose="random")
    variables = fresh(model)
    whole = model.apply(variables, batch())
    np.testing.assert_allclose(model.apply(variables, batch()[1:2]), whole[1:2], atol=1e-5)
    published = small(choose="random", random_evaluation=True)
    draws = [
        published.apply(variables, batch(), rngs={"dropout": jax.random.key(i)}) for i in (1, 2)
    ]
    assert float(jnp.abs(draws[0] - draws[1]).max()) > 1e-4
    with pytest.raises(ValueError, match="rngs: a random choice of tokens needs"):
        published.apply(variables, batch())


# --- statistics and rubbish -----------------------------------------------------------------------


def test_running_statistics_move_as_pytorch_moves_them():
    """Mean by 0.1 of the batch's, variance by 0.1 of its unbiased one, of the stem's output."""
    model = small()
    variables = fresh(model)
    _, moved = train_step(model, variables, batch())
    conv = variables["params"]["stem"]["conv"]
    raw = jax.lax.conv_general_dilated(
        batch(), conv["kernel"], (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision="highest",
    ) + conv["bias"]  # fmt: skip
    stats = moved["batch_stats"]["stem"]["norm"]
    raw = np.asarray(raw, np.float64)
    np.testing.assert_allclose(stats["mean"], 0.1 * raw.mean((0, 1, 2)), rtol=1e-4, atol=1e-6)
    unbiased = raw.reshape(-1, raw.shape[-1]).var(axis=0, ddof=1)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * unbiased, rtol=1e-5)
    # A single scored channel too.
    assert float(moved["batch_stats"]["stage_0"]["score"]["norm"]["var"][0]) != 1.0


def test_nan_in_one_image_stays_in_it():
    model = small()
    variables = fresh(model)
    spoilt = batch().at[1, 3, 4].set(jnp.nan)
    whole, found = vjx.extract(model, variables, batch()), vjx.extract(model, variables, spoilt)
    assert bool(jnp.isnan(found.logits[1]).all())
    np.testing.assert_array_equal(found.logits[::2], whole.logits[::2])
    for block in found.filters:
        kept = np.asarray(block.kept)
        assert (np.diff(kept) > 0).all() and kept.min() >= 0
        assert kept.max() < block.importance[0].size
    # Scored pixels that the spoilt one doesn't reach come before those that it does.
    scored = ~np.isnan(np.asarray(found.filters[0].importance[1]).ravel())
    kept = np.asarray(found.filters[0].kept[1])
    assert scored[kept].sum() == min(scored.sum(), len(kept))


@pytest.mark.parametrize("size", [(5, 5), (6, 31), (7, 5)])
@pytest.mark.parametrize("choose", ["score", "random"])
def test_maps_of_one_pixel_and_odd_ones(size, choose):
    """5×5 pixels are one cell: everything is kept, and attention is the identity on it."""
    model = small(choose=choose, keep=0.25, stages=EVERY_KIND)
    variables = fresh(model)
    out = jax.jit(lambda x: vjx.extract(model, variables, x))(batch(2, size))
    cells = ((size[0] - 5) // 2 + 1) * ((size[1] - 5) // 2 + 1)
    assert out.filters[0].kept.shape == (2, max(1, round(0.25 * cells)))
    assert bool(jnp.isfinite(out.logits).all())
    if cells == 1:
        np.testing.assert_array_equal(out.filters[0].kept, [[0], [0]])


@pytest.mark.parametrize("choose", ["score", "random"])
def test_a_cpu_that_runs_a_batch_in_parts_gives_the_same(choose, monkeypatch):
    """Seven images of which two at once fit, on one device: three parts and a rest."""
    model = small(choose=choose, stages=EVERY_KIND)
    variables, images = fresh(model), batch(7)
    whole = jax.jit(lambda x: model.apply(variables, x, method="forward"))(images)
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    monkeypatch.setattr(network, "PART_PIXELS", 2 * 23 * 30)
    program = jax.make_jaxpr(lambda x: model.apply(variables, x))(images)
    assert "scan" in str(program)
    parts = jax.jit(lambda x: model.apply(variables, x, method="forward"))(images)
    assert parts.features.shape == whole.features.shape
    for name in ("features", "pooled", "logits"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), atol=1e-5)
    # Watched, it runs in one, so that what it emits is of all images.
    found = jax.eval_shape(lambda x: vjx.extract(model, variables, x), images)
    assert found.filters[0].kept.shape[0] == 7

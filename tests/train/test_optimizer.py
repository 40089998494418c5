"""Learning rates, layer decay and AdamW against torch's numbers; freezing and clipping."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vit_jax_xfer.models.registry import create_model
from vit_jax_xfer.train import optimizer
from vit_jax_xfer.train.rules import Rules, named_leaves


@pytest.fixture
def recipes(shared) -> pathlib.Path:
    """Reference outputs of timm and torch."""
    return shared / "golden" / "recipes"


def vit_shapes(name, **fields):
    model = create_model(name, pool="avg", **fields)
    side = 16 * model.patch_size if "image_size" not in fields else fields["image_size"]
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), images)["params"]


def torch_name(name):
    """The published code's name of one of this project's parameters."""
    for old, new in (
        ("blocks_", "blocks."),
        ("attention/", "attn."),
        ("patch_embed/", "patch_embed.proj."),
        ("head_norm", "fc_norm"),
        ("/", "."),
        ("kernel", "weight"),
        ("scale", "weight"),
    ):
        name = name.replace(old, new)
    return name


@pytest.mark.parametrize("name", ["vit_base_patch16", "vit_large_patch16"])
def test_layer_decay_and_decayed_names_are_those_of_mae(name, recipes):
    want = json.loads((recipes / "layer_decay.json").read_text())[name]
    params = vit_shapes(name, image_size=224)
    depth = want["num_layers"] - 1
    scales = optimizer.scale_tree(params, depth, want["layer_decay"], [])
    decays = dict(named_leaves(Rules(optimizer.DECAY_RULES, "test").tree(params)))
    seen = set()
    for leaf, scale in named_leaves(scales):
        reference = want["params"][torch_name(leaf)]
        assert scale == pytest.approx(reference["lr_scale"], rel=1e-6), leaf
        assert decays[leaf] == (reference["weight_decay"] > 0), leaf
        seen.add(torch_name(leaf))
    assert seen == set(want["params"])


@pytest.mark.parametrize("name", ["vit_base_patch16", "vit_large_patch16"])
def test_layer_decay_of_the_published_pair_has_one_factor_less(name, recipes):
    table = json.loads((recipes / "layer_decay.json").read_text())[name]
    want, decay = table["dual_student_variant"], table["layer_decay"]
    params = vit_shapes(name, image_size=224)
    scales = optimizer.scale_tree(params, want["num_layers"], decay, [], whole="last_block")
    for leaf, scale in named_leaves(scales):
        first = torch_name(leaf).split(".")
        place = ".".join(first[:2]) if first[0] == "blocks" else first[0]
        where = next(key for key in want["layer_id"] if place in key.split("/"))
        assert scale == pytest.approx(want["lr_scale"][want["layer_id"][where]], rel=1e-6), leaf
    stacked = dict(optimizer.layer_decay_rules(2, 0.5, "last_block"))
    assert any(np.array_equal(scale, [0.5, 1.0]) for scale in stacked.values())


def test_scanned_blocks_decay_like_single_ones():
    fields = {"image_size": 8, "width": 16, "depth": 3, "num_heads": 2}
    single, stacked = (
        vit_shapes("vit_micro_patch2", scan=scan, **fields) for scan in (False, True)
    )
    rules = [(".*attention/.*", 0.5)]
    one = dict(named_leaves(optimizer.scale_tree(single, 3, 0.7, rules)))
    for name, scale in named_leaves(optimizer.scale_tree(stacked, 3, 0.7, rules)):
        if not name.startswith("blocks/"):
            assert scale == one[name]
            continue
        column = [one[name.replace("blocks/", f"blocks_{i}/")] for i in range(3)]
        leaf = dict(named_leaves(stacked))[name]
        assert scale.shape == (3,) + (1,) * (len(leaf.shape) - 1)
        np.testing.assert_allclose(scale.ravel(), column, rtol=1e-6)


def test_rules_multiply_layer_decay_and_the_first_match_decides():
    params = vit_shapes("vit_micro_patch2", image_size=8)
    rules = [("head/kernel", 2.0), ("head/.*", 3.0), ("blocks_0/.*", 10.0)]
    scales = dict(named_leaves(optimizer.scale_tree(params, 4, 0.5, rules)))
    assert (scales["head/kernel"], scales["head/bias"]) == (2.0, 3.0)
    assert scales["blocks_0/norm1/bias"] == pytest.approx(10 * 0.5**4)
    assert scales["blocks_3/norm1/bias"] == 0.5
    assert scales["cls_token"] == 0.5**5


def test_a_rule_whose_value_is_none_is_an_error():
    params = vit_shapes("vit_micro_patch2", image_size=8)
    with pytest.raises(ValueError, match="optim.lr_rules: 'head/kernel': got 'a', expected a fact"):
        optimizer.scale_tree(params, 4, 1.0, [("head/kernel", "a")])
    for value in ("no", 0.5, None):
        with pytest.raises(ValueError, match=f"rules: .*: got {value!r}, expected True or False"):
            optimizer.make_optimizer(
                optax.constant_schedule(1.0), params, weight_decay=0.5, b1=0.9, b2=0.999,
                clip_norm=0.0, decay_rules=((".*", value),),
            )  # fmt: skip


def test_a_rule_that_matches_nothing_is_an_error():
    params = vit_shapes("vit_micro_patch2", image_size=8)
    with pytest.raises(ValueError, match=r"optim.lr_rules: 'hed/\.\*' matches no parameter"):
        optimizer.scale_tree(params, 4, 1.0, [("head/.*", 1.0), ("hed/.*", 2.0), (".*", 0.0)])


def adamw(schedule, scales, clip_norm=0.0, weight_decay=0.05):
    return optimizer.make_optimizer(
        schedule, scales, weight_decay=weight_decay, b1=0.9, b2=0.999, clip_norm=clip_norm
    )


def test_adamw_with_schedule_decay_and_layer_scale_is_torchs(recipes):
    arrays = np.load(recipes / "optim_metrics.npz")
    settings = json.loads((recipes / "optim_metrics.json").read_text())["adamw"]
    rates, scales = jnp.array(settings["lr_per_step"]), settings["lr_scale"]
    decay = settings["weight_decay"]["kernel"]
    tx = adamw(lambda step: rates[step], {"head": scales}, weight_decay=decay)
    params = {"head": {name: jnp.float32(arrays[f"adamw_{name}_init"]) for name in scales}}
    state = tx.init(params)
    for step in range(len(rates)):
        grads = {name: jnp.float32(arrays[f"adamw_{name}_grads"][step]) for name in scales}
        updates, state = tx.update({"head": grads}, state, params)
        params = optax.apply_updates(params, updates)
        for name in scales:
            # The nearest wrong order of scale and decay is off by 2e-3.
            want = arrays[f"adamw_{name}_float64"][step]
            np.testing.assert_allclose(params["head"][name], want, rtol=0, atol=2e-6)


def test_freezing_keeps_no_moments_and_changes_nothing():
    params = {"head": {"kernel": jnp.ones((2, 3))}, "out": {"kernel": jnp.ones((5, 7))}}
    scales = optimizer.scale_tree(params, 1, 1.0, [("head/.*", 1.0), (".*", 0.0)])
    assert optimizer.frozen_tree(scales) == {
        "head": {"kernel": False},
        "out": {"kernel": True},
    }
    tx = adamw(optax.constant_schedule(0.1), scales)
    state = tx.init(params)
    assert {leaf.shape for leaf in jax.tree.leaves(state)} == {(), (2, 3)}
    updates, state = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
    new = optax.apply_updates(params, updates)
    np.testing.assert_array_equal(new["out"]["kernel"], params["out"]["kernel"])
    assert (new["head"]["kernel"] < 1).all()


def test_a_frozen_layer_inside_a_stack_stays_unfrozen_as_a_whole():
    scales = {"blocks": np.array([[0.0], [1.0]]), "other": 0.0}
    assert optimizer.frozen_tree(scales) == {"blocks": False, "other": True}


def test_clipping_scales_the_whole_gradient():
    params = {"cls_token": jnp.zeros(2), "mask_token": jnp.zeros(1)}
    scales = optimizer.scale_tree(params, 1, 1.0, [])
    grads = {"cls_token": jnp.array([3.0, 0.0]), "mask_token": jnp.array([4.0])}

    def moments(clip_norm, grads):
        tx = adamw(optax.constant_schedule(1.0), scales, clip_norm=clip_norm)
        state = tx.update(grads, tx.init(params), params)[1]
        return optax.tree.get(state, "mu")

    tenth = jax.tree.map(lambda leaf: leaf / 10, grads)
    for got, want in ((moments(0.5, grads), tenth), (moments(6.0, grads), grads)):
        for name in params:
            np.testing.assert_allclose(got[name], 0.1 * want[name], rtol=1e-6)


def test_layer_decay_reaches_the_encoder_of_masked_pretraining_and_spares_its_decoder():
    names = ("encoder/pos_embed", "encoder/blocks_0/norm1/scale", "decoder_blocks_0/norm1/scale")
    rules = Rules(optimizer.layer_decay_rules(2, 0.5), "optim.layer_decay")
    assert [rules.of(name) for name in names] == [0.125, 0.25, 1.0]


def test_layer_decay_reaches_a_filter_network():
    rules = Rules(optimizer.layer_decay_rules(2, 0.5), "optim.layer_decay")
    names = ("stem/conv/kernel", "stem_residual/widen/kernel", "stage_1/score/bias", "head/kernel")
    assert [rules.of(name) for name in names] == [0.125, 0.125, 0.5, 1.0]


def test_decay_rules_come_before_the_usual_ones():
    params = {
        "head": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)},
        "norm": {"scale": jnp.ones(2)},
    }
    scales = optimizer.scale_tree(params, 1, 1.0, [])

    def decayed(*rules):
        tx = optimizer.make_optimizer(
            optax.constant_schedule(1.0), scales, weight_decay=0.5, b1=0.9, b2=0.999, clip_norm=0.0,
            decay_rules=rules,
        )  # fmt: skip
        updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
        return {name for name, leaf in named_leaves(updates) if float(jnp.abs(leaf).max()) > 0}

    assert decayed() == {"head/kernel"}
    assert decayed((".*", True)) == {"head/kernel", "head/bias", "norm/scale"}
    assert decayed(("head/.*", False), ("norm/scale", True)) == {"norm/scale"}
    with pytest.raises(ValueError, match=r"optim.decay_rules: 'hed/\.\*' matches no parameter"):
        decayed(("hed/.*", True))

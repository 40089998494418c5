"""Every method on every family: where it is defined, what it says of what isn't seen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vit_jax_xfer as vjx
from tests.native import NATIVE, draw

SIZES = {"image_size": 16, "patch_size": 4, "width": 16, "depth": 2, "num_heads": 2}
SIZES = {**SIZES, "num_classes": 3, "mlp_dim": 16}
FAMILIES = {
    **NATIVE,
    "average_pooling": {"pool": "avg"},
    "mean_of_all": {"pool": "avg_all"},
    "class_and_mean": {"pool": "cls_avg"},
    "maximum_and_mean": {"pool": "avg_max"},
    "patches_pooled": {"pool": "map_patches", "registers": 1, "class_token": False},
    "geglu": {"mlp": "geglu"},
    "pre_logits": {"pre_logits": True},
    "overlapping": {"patch_stride": 2},
    "scanned": {"scan": True, "remat": "full", "layer_scale": 0.2},
}
WINDOWS = {"class_token": False, "pool": "avg", "window_size": 3}
FAMILIES["windows"] = {**WINDOWS, "window_blocks": (0,), "relative_bias": "decomposed"}
FAMILIES["convolutions"] = {"class_token": False, "pool": "avg", "conv_blocks": (0,)}
FAMILIES["windows_scanned"] = {**WINDOWS, "window_blocks": (0,), "scan": True}
FAMILIES["swiglu"] = {"mlp": "swiglu", "mlp_norm": True}
# One of each kind; the others differ in a line of arrays' arithmetic (test_attribution.py).
METHODS = ("attn_lrp", "cp_lrp", "generic_attention", "gradcam", "legrad", "raw_attention")
METHODS += ("rollout", "transformer_attribution")
# Families that the last of them has no rules for.
WITHOUT_RELEVANCE = ("windows", "convolutions")
IMAGES = np.random.default_rng(0).standard_normal((2, 16, 16, 3)).astype(np.float32)


def build(**fields):
    model = vjx.VisionTransformer(**{**SIZES, **fields})
    return model, draw(model, 0)


def explain_all(model, variables, images, methods, target=None):
    """{method: its attribution}, in one program."""

    @jax.jit
    def run(variables, images):
        return {
            method: vjx.explain.attribute(model, variables, images, method, target)
            for method in methods
        }

    return run(variables, images)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_method_gives_a_map(family):
    model, variables = build(depth=1, **FAMILIES[family])
    grid, number = model.grid_in(IMAGES.shape), model.num_tokens(IMAGES.shape)
    methods = METHODS[: -1 if family in WITHOUT_RELEVANCE else None]
    for name, out in explain_all(model, variables, IMAGES, methods, target=1).items():
        assert out.map.shape == (2, *grid), name
        assert out.map.dtype == jnp.float32, name
        assert np.isfinite(out.map).all(), name
        assert np.asarray(out.map).std() > 0, name
        if out.tokens is not None:
            assert out.tokens.shape == (2, number), name
        if not out.signed:
            assert (np.asarray(out.map) >= 0).all(), name


UNSEEN = 5  # a patch
CLASS_POOLED = ("block_bias", "distillation_token", "qk_norm", "registers", "scanned", "swiglu")
LOCAL = ("attn_lrp", "cp_lrp", "generic_attention", "gradient_rollout", "input_x_gradient")
LOCAL += ("layercam", "rollout", "transformer_attribution")


@pytest.mark.parametrize("family", CLASS_POOLED)
def test_a_patch_that_no_token_looks_at_has_no_part(family):
    model, variables = build(**FAMILIES[family])
    number, place = model.num_tokens(IMAGES.shape), model.prefix_tokens + UNSEEN
    # Its key is masked for all others.
    bias = jnp.zeros((model.num_heads, number, number)).at[:, :, place].set(-1e9)
    bias = bias.at[:, place, place].set(0.0)
    given = {f"blocks_{i}": {"attention": {"bias": bias}} for i in range(model.depth)}
    if model.scan:
        given = {"blocks": {"attention": {"bias": jnp.stack([bias] * model.depth)}}}
    found = explain_all(model, {**variables, "given": given}, IMAGES, LOCAL, target=1)
    for name, out in found.items():
        cells = np.asarray(out.map).reshape(2, -1)
        assert (cells[:, UNSEEN] == 0).all(), name
        assert (np.abs(cells).max(axis=1) > 0).all(), name


def test_a_patch_without_values_has_no_part_in_slopes_alone():
    """LeGrad and Grad-CAM also weigh what has no attention, so there its values must be zero."""
    model, variables = build(position="none", depth=1)
    params = jax.tree.map(lambda x: x, variables["params"])
    params["patch_embed"]["bias"] *= 0
    params["blocks_0"]["norm1"]["bias"] *= 0
    params["blocks_0"]["attention"]["qkv"]["bias"] *= 0
    images = IMAGES.copy()
    images[:, 4:8, 4:8] = 0.0
    for name, out in explain_all(model, {"params": params}, images, ["gradcam", "legrad"]).items():
        cells = np.asarray(out.map).reshape(2, -1)
        np.testing.assert_allclose(cells[:, UNSEEN], 0, atol=1e-6 * np.abs(cells).max())
        assert (np.abs(cells).max(axis=1) > 0).all(), name


def test_maps_move_with_the_image():
    model, variables = build(position="none")
    methods = (*METHODS, "attention_gradcam", "hirescam", "input_x_gradient", "partial_lrp")
    shift = {"axis": (1, 2), "shift": (4, 8)}
    images = np.concatenate([IMAGES, np.roll(IMAGES, **shift)])
    for name, out in explain_all(model, variables, images, methods, target=1).items():
        still, moved = np.split(np.asarray(out.map), 2)
        expected = np.roll(still, (1, 2), axis=(1, 2))
        np.testing.assert_allclose(moved, expected, atol=2e-3 * np.abs(still).max(), err_msg=name)


def test_how_a_network_runs_changes_no_map():
    """What rounds, and kernels that take other types or machines, is for training."""
    model, variables = build(depth=1, window_blocks=(), **WINDOWS)
    scanned = {"params": stack({**variables["params"]})}
    methods = ("gradcam", "rollout")
    plain = explain_all(model, variables, IMAGES, methods, target=1)
    for fields, given in (
        ({"product_dtype": jnp.bfloat16, "attention": "cudnn"}, variables),
        ({"scan": True}, scanned),
    ):
        found = explain_all(model.clone(**fields), given, IMAGES, methods, target=1)
        for name in methods:
            np.testing.assert_allclose(
                found[name].map, plain[name].map, rtol=1e-4, atol=1e-6, err_msg=name
            )


def stack(params):
    return {"blocks": jax.tree.map(lambda x: x[None], params.pop("blocks_0")), **params}


def test_class_activation_of_the_patches_themselves():
    """Before the first block there is no class token; weights are linear, so all is in pixels."""
    model, variables = build(depth=1, patch_bias=False, registers=1)

    def explain(method, **options):
        return vjx.explain.attribute(model, variables, IMAGES, method, target=1, **options).map

    found, wanted = explain("hirescam", layer="patch_embed"), explain("input_x_gradient")
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5)


def test_relevance_of_a_linear_network_is_input_times_weight():
    """Blocks that add nothing, one norm whose width is a constant to the rules."""
    model, variables = build(pool="avg", patch_bias=False)
    params = jax.tree.map(np.array, variables["params"])
    for i in range(model.depth):
        params[f"blocks_{i}"]["attention"]["proj"] = jax.tree.map(
            np.zeros_like, params[f"blocks_{i}"]["attention"]["proj"]
        )
        params[f"blocks_{i}"]["mlp"]["fc2"] = jax.tree.map(
            np.zeros_like, params[f"blocks_{i}"]["mlp"]["fc2"]
        )
    found = explain_all(model, {"params": params}, IMAGES, ["attn_lrp", "cp_lrp"], target=1)
    tokens = vjx.extract(model.clone(depth=0), {"params": params}, IMAGES).tokens[:, 1:]
    tokens = np.asarray(tokens, np.float64)
    mean = tokens.mean(axis=1)
    width = np.sqrt(mean.var(axis=1, keepdims=True) + model.norm_eps)
    weight = params["head_norm"]["scale"] * params["head"]["kernel"][:, 1] / width
    weight = (weight - weight.mean(axis=1, keepdims=True)) / tokens.shape[1]
    expected = (tokens * weight[:, None]).sum(-1)
    for name, out in found.items():
        np.testing.assert_allclose(out.tokens[:, 1:], expected, rtol=1e-4, atol=1e-6, err_msg=name)
        # Pixels have what positions have not.
        positions = (params["pos_embed"][0, 1:] @ weight.T).sum(0)
        whole = out.pixels.sum((1, 2)) + positions
        np.testing.assert_allclose(whole, expected.sum(1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "fields",
    [{"mlp": "geglu", "layer_scale": 0.5}, {**FAMILIES["convolutions"], "depth": 1}],
)
def test_relevance_is_conserved_without_biases(fields):
    model, variables = build(position="none", **fields)
    params = jax.tree_util.tree_map_with_path(
        lambda path, x: jnp.zeros_like(x) if path[-1].key == "bias" else x, variables["params"]
    )
    out = explain_all(model, {"params": params}, IMAGES, ["cp_lrp"], target=1)["cp_lrp"]
    logits = model.apply({"params": params}, IMAGES)[:, 1]
    np.testing.assert_allclose(out.tokens.sum(axis=1), logits, rtol=1e-4)


def test_legrad_of_a_block_that_convolutions_follow():
    """By its definition, of one block: the slope of the score by the map."""
    model, variables = build(depth=1, **FAMILIES["convolutions"])
    # Norms' scales of 0.3 would let little of the convolutions through.
    variables["params"]["blocks_0"]["propagation"]["norm_3"]["scale"] += 3.0
    maps = vjx.extract(model, variables, IMAGES, attention=True).attention[0]

    @jax.jit
    def slopes(maps):
        def score(maps):
            given = {"blocks_0": {"attention": {"map": maps}}}
            _, found = model.apply({**variables, "given": given}, IMAGES, mutable=["residual"])
            means = found["residual"]["blocks_0"]["stream"].mean(axis=1, keepdims=True)
            return model.apply(variables, means, method="after_blocks").logits[:, 1].sum()

        return jax.grad(score)(maps)

    expected = jax.nn.relu(slopes(maps)).mean(axis=(1, 2))
    out = vjx.explain.attribute(model, variables, IMAGES, "legrad", target=1)
    np.testing.assert_allclose(out.tokens, expected, rtol=1e-4, atol=1e-7)


def test_relevance_passes_batch_norm():
    """As a norm of each number alone does: the classes' norm, folded into the head, is none."""
    model, variables = build(depth=1, batch_norm=True)
    params = dict(variables["params"])
    norm = {"mean": jnp.zeros(16), "var": jnp.linspace(0.3, 3.0, 16)}
    statistics = {"batch_stats": {"head_batch_norm": norm}}
    factor = jax.lax.rsqrt(norm["var"] + 1e-6)[:, None]
    folded = {**params, "head": {**params["head"], "kernel": params["head"]["kernel"] * factor}}
    name = "transformer_attribution"
    found = vjx.explain.attribute(model, {"params": params, **statistics}, IMAGES, name, target=1)
    plain = model.clone(batch_norm=False)
    expected = vjx.explain.attribute(plain, {"params": folded}, IMAGES, name, target=1)
    np.testing.assert_allclose(found.map, expected.map, rtol=1e-3, atol=1e-6)


def test_ways_to_run_change_no_map():
    model, variables = build(layer_scale=0.3)
    blocks = [variables["params"][f"blocks_{i}"] for i in range(model.depth)]
    params = {name: x for name, x in variables["params"].items() if "blocks" not in name}
    params["blocks"] = jax.tree.map(lambda *x: jnp.stack(x), *blocks)
    plain = explain_all(model, variables, IMAGES, METHODS, target=1)
    other = model.clone(scan=True, remat="full")
    for name, out in explain_all(other, {"params": params}, IMAGES, METHODS, target=1).items():
        expected = np.asarray(plain[name].map)
        atol = 1e-3 * np.abs(expected).max()
        np.testing.assert_allclose(out.map, expected, atol=atol, err_msg=name)


def test_sixteen_bits_are_explained_in_thirty_two():
    model, variables = build()
    low = model.clone(dtype=jnp.bfloat16)
    methods = ["generic_attention", "gradcam"]
    ours, theirs = (explain_all(one, variables, IMAGES, methods, target=1) for one in (model, low))
    for name in methods:
        np.testing.assert_array_equal(ours[name].map, theirs[name].map)


def test_a_copied_student_shows_the_teachers_maps():
    teacher, teacher_variables = build()
    student, variables = build(layer_scale=0.3)
    maps = vjx.extract(teacher, teacher_variables, IMAGES, attention=True).attention
    given = {f"blocks_{i}": {"attention": {"map": maps[i]}} for i in range(student.depth)}
    methods = ["rollout", "generic_attention", "attn_lrp", "legrad", "transformer_attribution"]
    found = explain_all(student, {**variables, "given": given}, IMAGES, methods, target=1)
    theirs = vjx.explain.attribute(teacher, teacher_variables, IMAGES, "rollout")
    np.testing.assert_allclose(found["rollout"].joint, theirs.joint, rtol=1e-4, atol=1e-6)
    assert all(np.isfinite(out.map).all() for out in found.values())


FILTER = {
    name: vjx.create_model(f"{name}_vit_micro", num_classes=3) for name in ("filter", "dropout")
}
ON_FILTERS = ("attn_lrp", "generic_attention", "gradcam", "gradient_rollout", "rollout", "xgradcam")
NOT_ON_FILTERS = ("attention_gradcam", "legrad", "partial_lrp", "transformer_attribution")


def filter_variables(model):
    shapes = jax.eval_shape(model.init_variables, jax.random.key(0))
    rng = np.random.default_rng(0)
    return jax.tree_util.tree_map_with_path(
        lambda path, x: jnp.asarray(
            1 + 0.1 * rng.random(x.shape)
            if path[-1].key == "var"
            else 0.3 * rng.standard_normal(x.shape),
            x.dtype,
        ),
        shapes,
    )


@pytest.mark.parametrize("kind", FILTER)
def test_filter_networks(kind):
    model = FILTER[kind]
    variables = filter_variables(model)
    images = np.random.default_rng(1).standard_normal((2, 32, 32, 3)).astype(np.float32)
    found = explain_all(model, variables, images, ON_FILTERS, target=1)
    for name, out in found.items():
        assert np.isfinite(out.map).all(), name
        assert np.asarray(out.map).std() > 0, name
    # A rollout moves the head's look about, of which nothing is lost.
    assert found["rollout"].map.shape == (2, 14, 14)
    np.testing.assert_allclose(found["rollout"].map.sum((1, 2)), 1, rtol=1e-5)
    np.testing.assert_allclose(found["gradient_rollout"].map.sum((1, 2)), 1, rtol=1e-5)
    for name in NOT_ON_FILTERS:
        with pytest.raises(ValueError, match=f"{name}: .*use "):
            vjx.explain.attribute(model, variables, images, name)


def test_attention_of_a_filter_lands_where_its_pixels_were():
    model = FILTER["dropout"]
    variables = filter_variables(model)
    images = np.random.default_rng(1).standard_normal((1, 32, 32, 3)).astype(np.float32)
    chosen = jax.jit(lambda variables: vjx.extract(model, variables, images).filters[0].kept)
    kept = chosen(variables)
    out = vjx.explain.attribute(model, variables, images, "raw_attention", layer=1)
    seen = np.flatnonzero(np.asarray(out.map[0]).ravel())
    np.testing.assert_array_equal(seen, kept[0])
    np.testing.assert_allclose(out.map.sum(), 1, rtol=1e-5)

"""What must hold of each native part, whatever its weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.native import IMAGES, draw, network
from vit_jax_xfer.models.extract import extract
from vit_jax_xfer.models.transformer.block import Block
from vit_jax_xfer.models.transformer.block_design import KERNEL_INITS, BlockDesign
from vit_jax_xfer.models.transformer.rotary import make_rotation, rotate

RNG = np.random.default_rng(0)
OTHER = RNG.standard_normal((3, 24, 40, 3)).astype(np.float32)


def changed(variables, **values):
    """The variables with values in place of parameters; names have __ for /, {} for every block."""
    params = jax.tree.map(lambda x: x, variables["params"])
    for name, value in values.items():
        blocks = [f"blocks_{i}" for i in range(2)] if name.startswith("blocks__") else [None]
        for block in blocks:
            *path, leaf = name.removeprefix("blocks__").split("__")
            tree = params if block is None else params[block]
            for step in path:
                tree = tree[step]
            tree[leaf] = value(tree[leaf]) if callable(value) else value
    return {"params": params}


def tokens(model, variables, images=IMAGES):
    return model.apply(variables, images, method="forward").tokens


def test_a_block_whose_layer_scale_is_zero_is_the_identity():
    model = network(layer_scale=0.1)
    variables = draw(model, 0)
    silent = changed(
        variables, blocks__layer_scale1=jnp.zeros_like, blocks__layer_scale2=jnp.zeros_like
    )
    embedded = model.apply(silent, IMAGES, method="embed")
    norm = silent["params"]["norm"]
    mean, std = embedded.mean(-1, keepdims=True), embedded.std(-1, keepdims=True)
    wanted = (embedded - mean) / std * norm["scale"] + norm["bias"]
    np.testing.assert_allclose(tokens(model, silent), wanted, rtol=1e-4, atol=1e-5)
    ones = changed(
        variables, blocks__layer_scale1=jnp.ones_like, blocks__layer_scale2=jnp.ones_like
    )
    plain = {
        name: {k: v for k, v in x.items() if "layer_scale" not in k} if "blocks" in name else x
        for name, x in ones["params"].items()
    }
    wanted = tokens(network(), {"params": plain})
    np.testing.assert_allclose(tokens(model, ones), wanted, rtol=1e-5, atol=1e-5)


def test_the_start_of_layer_scale(monkeypatch):
    # Drawing kernels would cost seconds of compilation.
    monkeypatch.setitem(KERNEL_INITS, "truncated_normal", jax.nn.initializers.zeros)
    block = Block(BlockDesign(num_heads=1, mlp_dim=4, layer_scale=0.25))
    params = block.init(jax.random.key(0), jnp.ones((1, 2, 4)))["params"]
    for name in ("layer_scale1", "layer_scale2"):
        np.testing.assert_array_equal(params[name], np.full(4, 0.25))


def test_registers_come_after_the_class_token_without_positions():
    model = network(registers=2)
    variables = draw(model, 0)
    embedded = model.apply(variables, OTHER, method="embed")
    assert embedded.shape == (3, 1 + 2 + 15, 48) and model.num_tokens(OTHER.shape) == 18
    registers = np.broadcast_to(variables["params"]["register_tokens"], (3, 2, 48))
    np.testing.assert_array_equal(embedded[:, 1:3], registers)
    params = {k: x for k, x in variables["params"].items() if k != "register_tokens"}
    without = network().apply({"params": params}, OTHER, method="embed")
    np.testing.assert_array_equal(np.delete(embedded, (1, 2), axis=1), without)
    assert extract(model, variables, OTHER).num_prefix_tokens == 3


def test_positions_of_class_tokens():
    for fields, rows in (({}, 1), ({"distillation_token": True}, 2)):
        model = network(**fields)
        variables = draw(model, 0)
        params = variables["params"]
        prefix = [params["cls_token"]] + ([params["dist_token"]] if rows == 2 else [])
        embedded = model.apply(variables, IMAGES, method="embed")
        wanted = np.concatenate(prefix, axis=1) + params["pos_embed"][:, :rows]
        np.testing.assert_allclose(embedded[:1, :rows], wanted, rtol=1e-6)
        bare = changed(variables, pos_embed=lambda x, rows=rows: x[:, rows:])
        model = model.clone(class_position=False)
        other = model.apply(bare, IMAGES, method="embed")
        np.testing.assert_array_equal(other[:1, :rows], np.concatenate(prefix, axis=1))
        np.testing.assert_array_equal(other[:, rows:], embedded[:, rows:])


def test_two_heads_are_averaged():
    model = network(distillation_token=True)
    variables = draw(model, 0)
    out = model.apply(variables, IMAGES, method="forward")
    heads = (variables["params"][name] for name in ("head", "distillation_classifier"))
    both = [out.tokens[:, i] @ head["kernel"] + head["bias"] for i, head in enumerate(heads)]
    np.testing.assert_allclose(out.logits, sum(both) / 2, rtol=1e-4, atol=1e-4)
    first = {k: x for k, x in variables["params"].items() if k != "distillation_classifier"}
    alone = model.clone(distillation_head=False).apply({"params": first}, IMAGES)
    np.testing.assert_allclose(alone, both[0], rtol=1e-4, atol=1e-4)


def test_masked_patches_are_not_seen():
    model = network(mask_token=True)
    variables = draw(model, 0)
    mask = RNG.random((3, 16)) < 0.5
    pixels = np.repeat(np.repeat(mask.reshape(3, 4, 4), 8, 1), 8, 2)[..., None]
    embedded = model.apply(variables, IMAGES, mask, method="embed")
    hidden = model.apply(variables, np.where(pixels, 7, IMAGES), mask, method="embed")
    np.testing.assert_array_equal(hidden, embedded)
    open_ = model.apply(variables, IMAGES, method="embed")
    same = (embedded == open_).all(-1)
    np.testing.assert_array_equal(same[:, 1:], ~mask)
    table = variables["params"]["pos_embed"][0, 1:]
    wanted = variables["params"]["mask_token"][0, 0] + table
    np.testing.assert_allclose(embedded[0, 1:][mask[0]], wanted[mask[0]], rtol=1e-6)
    none = model.apply(variables, IMAGES, np.zeros_like(mask), method="embed")
    np.testing.assert_array_equal(none, open_)
    with pytest.raises(ValueError, match="mask: this network has no mask token"):
        network().apply(draw(network(), 0), IMAGES, mask=mask, method="embed")
    with pytest.raises(ValueError, match=r"mask: got \(3, 15\), expected \(3, 16\), \(B, N\)"):
        model.apply(variables, IMAGES, mask[:, :15], method="embed")


@pytest.mark.parametrize("kind", ["dinov3", "eva02"])
def test_rotary_scores_depend_on_relative_offsets_alone(kind):
    grid, prefix = (3, 4), 2
    rotation = make_rotation(kind, grid, grid, 8, 100.0, prefix)
    q, k = (jnp.asarray(RNG.standard_normal(8), jnp.float32) for _ in range(2))
    q, k = (jnp.broadcast_to(x, (1, prefix + 12, 1, 8)) for x in (q, k))
    q_turned, k_turned = (np.asarray(rotate(x, rotation))[0, :, 0] for x in (q, k))
    np.testing.assert_array_equal(q_turned[:prefix], q[0, :prefix, 0])
    np.testing.assert_allclose((q_turned**2).sum(-1), (q[0, :, 0] ** 2).sum(-1), rtol=1e-5)
    scores = (q_turned @ k_turned.T)[prefix:, prefix:]
    cells = np.stack(np.indices(grid), -1).reshape(-1, 2)
    found = {}
    for i, a in enumerate(cells):
        for j, b in enumerate(cells):
            first = found.setdefault(tuple(a - b), scores[i, j])
            np.testing.assert_allclose(scores[i, j], first, rtol=1e-4, atol=1e-5)
    assert np.ptp(list(found.values())) > 0.1


def test_the_angles_of_each_family():
    """Of heads of 8: two frequencies of rows, two of columns."""
    dinov3 = make_rotation("dinov3", (2, 4), (9, 9), 8, 100.0, 1)
    # Centres of cells lie at ±½ of two rows, and at ±¾, ±¼ of four columns.
    angles = 2 * np.pi * np.array([-0.5, -0.05, -0.75, -0.075])
    np.testing.assert_allclose(dinov3.cos[1], np.cos(np.tile(angles, 2)), atol=1e-6)
    np.testing.assert_allclose(dinov3.sin[-1], np.sin(np.tile(-angles, 2)), atol=1e-6)
    assert not dinov3.interleaved
    eva02 = make_rotation("eva02", (2, 4), (16, 16), 8, 10000.0, 1)
    # The last cell is (1, 3), on a grid of 16 × 16: (8, 12).
    angles = np.repeat([8, 0.08, 12, 0.12], 2)
    np.testing.assert_allclose(eva02.sin[-1], np.sin(angles), atol=1e-6)
    np.testing.assert_allclose(eva02.cos[:2], 1)  # the class token, and cell (0, 0)
    assert eva02.interleaved
    with pytest.raises(ValueError, match="rotary: needs heads of a multiple of 4 channels"):
        make_rotation("eva02", (2, 2), (2, 2), 6, 100.0, 0)


def test_one_table_for_all_blocks_is_an_equal_table_in_each():
    shared = network(relative_bias="shared", position="none")
    variables = draw(shared, 0)
    params = dict(variables["params"])
    table = params.pop("relative_bias")
    for i in range(2):
        attention = {**params[f"blocks_{i}"]["attention"], "relative_bias": table}
        params[f"blocks_{i}"] = {**params[f"blocks_{i}"], "attention": attention}
    for images in (IMAGES, OTHER):
        own = tokens(shared.clone(relative_bias="block"), {"params": params}, images)
        np.testing.assert_allclose(own, tokens(shared, variables, images), rtol=1e-5, atol=1e-5)


def test_normalised_queries_and_keys_bound_the_scores():
    model = network(qk_norm=True)
    names = {f"blocks__attention__{x}_norm__scale": jnp.ones_like for x in "qk"}
    names |= {f"blocks__attention__{x}_norm__bias": jnp.zeros_like for x in "qk"}
    names |= {"blocks__attention__qkv__kernel": lambda x: 30 * x}
    out = extract(model, changed(draw(model, 0), **names), IMAGES, qkv=True)
    for x in (out.q, out.k):
        np.testing.assert_allclose((x**2).sum(-1), 16, rtol=1e-3)
    scores = np.einsum("lbthd,lbshd->lbhts", out.q, out.k) / 4
    assert np.abs(scores).max() <= 4.001


def test_biases_without_the_keys():
    """no_key, masked_key and a full bias with zeros for the keys are the same."""
    variables = draw(network(), 0)
    full = changed(variables, blocks__attention__qkv__bias=lambda x: x.at[1].set(0))
    wanted = tokens(network(), full)
    masked = network(qkv_bias="masked_key")
    np.testing.assert_array_equal(tokens(masked, variables), wanted)
    two = changed(variables, blocks__attention__qkv__bias=lambda x: x[jnp.array([0, 2])])
    np.testing.assert_array_equal(tokens(network(qkv_bias="no_key"), two), wanted)
    # The keys' bias adds one number to all scores of a query, which changes no softmax.
    np.testing.assert_allclose(tokens(network(), variables), wanted, rtol=1e-3, atol=1e-4)

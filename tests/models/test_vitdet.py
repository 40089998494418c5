"""ViTDet's parts of a vision transformer: windows, offsets in two vectors, convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vit_jax_xfer as vjx
from vit_jax_xfer.models.attention import kernels
from vit_jax_xfer.models.attention.self_attention import QueryKeyValue
from vit_jax_xfer.models.registry import VITDET
from vit_jax_xfer.models.transformer.decomposed_positions import with_offsets
from vit_jax_xfer.models.transformer.patches import for_patches
from vit_jax_xfer.models.transformer.positions import resize_weights
from vit_jax_xfer.models.transformer.windows import from_windows, to_windows
from vit_jax_xfer.models.vit import VisionTransformer

SMALL = {"image_size": 20, "patch_size": 4, "width": 16, "depth": 2, "num_heads": 2, "mlp_dim": 16}
DETECTOR = VisionTransformer(
    **{**VITDET, **SMALL, "position_size": 12, "window_size": 3, "conv_blocks": (1,)}
)
IMAGES = jax.ShapeDtypeStruct((2, 16, 28, 3), jnp.float32)


def drawn(model, seed=0):
    numbers = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
    variables = jax.tree.map(lambda x: 0.3 * numbers.normal(size=x.shape), shapes)
    variables = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), variables)
    return variables, jnp.asarray(numbers.normal(size=IMAGES.shape), jnp.float32)


@pytest.mark.parametrize(
    ("case", "blocks"),
    [
        ("window_global_relpos_native", [0, 2]),
        ("window_only_abs_native", range(4)),
        ("conv_propagation_native", range(4)),
    ],
)
def test_the_publishers_numbers(golden_case, case, blocks):
    found = golden_case(f"dense/vitdet/{case}")
    model, variables = vjx.load_pretrained(
        found.state,
        family="vitdet",
        image_size=64,
        window_size=3,
        window_blocks=list(blocks),
        num_heads=3,
    )
    assert (model.image_size, model.position_size, model.windowed) == (64, 32, tuple(blocks))

    @jax.jit
    def run(variables, images):
        return model.apply(variables, images, layers=(0, 1, 3), method="feature_maps")

    names = ("stage1", "stage2", "stage4")
    result = run(variables, jnp.asarray(found.arrays["image"]))
    for ours, name in zip(result, names, strict=True):
        np.testing.assert_allclose(ours, found.arrays[name], atol=2e-5)


def test_windows_are_cut_and_joined():
    grid = (4, 7)
    tokens = jnp.arange(2 * 28 * 3.0).reshape(2, 28, 3) + 1
    windows = to_windows(tokens, grid, 3)
    assert windows.shape == (2 * 2 * 3, 9, 3)
    cells = tokens.reshape(2, 4, 7, 3)
    np.testing.assert_array_equal(windows[1].reshape(3, 3, 3), cells[0, :3, 3:6])
    last = windows[-1].reshape(3, 3, 3)  # one cell of the grid, at its corner
    np.testing.assert_array_equal(last[0, 0], cells[1, 3, 6])
    assert not last[1:].any() and not last[:, 1:].any()
    np.testing.assert_array_equal(from_windows(windows, grid, 3), tokens)


@pytest.mark.parametrize("size", [2, 4])  # as the grid has, and resized to it
def test_wide_products_are_the_biased_scores(size):
    grid, d = (2, 3), 4
    numbers = np.random.default_rng(0)
    q, k = numbers.normal(size=(2, 1, 6, 2, d)).astype(np.float32)
    down, across = (numbers.normal(size=(2 * n - 1, d)).astype(np.float32) for n in (size, 3))
    wide_q, wide_k = with_offsets(jnp.asarray(q), jnp.asarray(k), down, across, grid)
    assert wide_q.shape == wide_k.shape == (1, 6, 2, 16)
    if size != 2:  # 7 rows to 3 by linear interpolation between their centres
        places = (np.arange(3) + 0.5) * 7 / 3 - 0.5
        low = np.floor(places).astype(int)
        share = (places - low)[:, None]
        down = (1 - share) * down[low] + share * down[low + 1]
    rows, columns = (axis.reshape(-1) for axis in np.indices(grid))
    wanted = np.einsum("bihd,bjhd->bhij", q, k) * d**-0.5
    wanted += np.einsum("bihd,ijd->bhij", q, down[rows[:, None] - rows + 1])
    wanted += np.einsum("bihd,ijd->bhij", q, across[columns[:, None] - columns + 2])
    found = np.einsum("bihd,bjhd->bhij", wide_q, wide_k) * 16**-0.5
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_which_blocks_have_windows():
    def windowed(depth, **fields):
        return VisionTransformer(**{**VITDET, **SMALL, "depth": depth, **fields}).windowed

    assert set(range(12)) - set(windowed(12)) == {2, 5, 8, 11}
    assert set(range(24)) - set(windowed(24)) == {5, 11, 17, 23}
    assert windowed(4) == (0, 2) and windowed(1) == ()
    assert windowed(12, window_blocks=(3,)) == (3,) and windowed(12, window_size=0) == ()
    assert DETECTOR.clone(depth=12).shallow(4).windowed == (0, 1, 3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"class_token": True}, "window_size: goes with patch tokens alone"),
        ({"scan": True}, "scan: the blocks differ"),
        ({"window_blocks": (2,)}, "window_blocks: 2 is no block of a network of 2"),
        ({"conv_blocks": (-1,)}, "conv_blocks: -1 is no block"),
        ({"window_size": 0, "window_blocks": (0,)}, "window_blocks: needs window_size"),
        ({"pool_norm": True}, "pool='grid' goes with num_classes=0"),
    ],
)
def test_fields_that_do_not_go_together(fields, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(DETECTOR.clone(**fields).init, jax.random.key(0), IMAGES)


def test_a_student_has_its_teachers_windows():
    student = vjx.student_like(DETECTOR, num_classes=3)
    assert student == DETECTOR.clone(num_classes=3, pool="avg", preprocessing=None)
    vjx.Transfer().check(student, DETECTOR, (16, 28, 3))


MODES = ("distill", "copy", "distill_k", "copy_q")


def test_attention_moves_within_windows():
    """Each way of transfer, against maps written out and given back by hand."""
    student, teacher = DETECTOR, DETECTOR.clone(mlp_dim=8)
    (own, images), (theirs, _) = drawn(student), drawn(teacher, 1)

    @jax.jit
    def run(own, theirs, images):
        def moved(own, mode, materialize):
            return vjx.transfer_forward(
                student, own, teacher, theirs, images, mode=mode, materialize=materialize
            )

        results = {(mode, maps): moved(own, mode, maps) for mode in MODES for maps in (False, True)}
        loss = jax.grad(lambda own, maps: moved(own, "distill", maps)[1])
        gradients = [loss(own, maps) for maps in (False, True)]
        emitted = [
            model.apply(variables, images, mutable=["attention"])[1]["attention"]
            for model, variables in ((student, own), (teacher, theirs))
        ]
        given = {"given": emitted[1], **own}
        return results, gradients, emitted, student.apply(given, images), student.apply(own, images)

    results, gradients, (ours, other), copied, plain = run(own, theirs, images)
    assert other["blocks_0"]["attention"]["map"].shape == (2 * 2 * 3, 2, 9, 9)
    assert other["blocks_1"]["attention"]["map"].shape == (2, 2, 28, 28)
    loss = sum(
        -(np.asarray(other[name]["attention"]["map"]) * np.log(ours[name]["attention"]["map"]))
        .sum(-1)
        .mean()
        for name in ours
    )
    for maps in (False, True):
        result, found = results["distill", maps]
        np.testing.assert_allclose(found, loss, rtol=1e-5)
        np.testing.assert_allclose(result, plain, atol=1e-5)
        np.testing.assert_allclose(results["copy", maps][0], copied, atol=1e-5)
        assert results["distill_k", maps][1] > 0.01
        assert np.abs(results["copy_q", maps][0] - plain).max() > 0.01
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *gradients)
    down = gradients[0]["params"]["blocks_0"]["attention"]["relative_down"]
    assert np.abs(down).max() > 1e-4


@pytest.mark.parametrize(
    ("fields", "how", "message"),
    [
        ({"window_size": 4}, {}, "student's layer 0 has windows of 3 and the teacher's layer 0"),
        (
            {"window_blocks": ()},
            {},
            "windows of 3 and the teacher's layer 0 no windows",
        ),
        ({"relative_bias": "none"}, {"mode": "copy_q"}, "needs relative_bias='decomposed' in both"),
        ({}, {"average": "images"}, "average: 'images' has no mean of the windows"),
    ],
)
def test_windows_that_differ_are_refused(fields, how, message):
    teacher = DETECTOR.clone(**fields)
    with pytest.raises(ValueError, match=message):
        vjx.Transfer(**how).check(DETECTOR, teacher, (16, 28, 3))
    vjx.Transfer(layers=(1,)).check(DETECTOR, teacher, (16, 28, 3))  # which sees all tokens


def test_what_windows_show_is_of_all_tokens():
    """Of a grid of 4 × 7 in windows of 3, which reach beyond it; with what offsets add."""
    variables, images = drawn(DETECTOR)
    asked = {"attention": True, "qkv": True, "layers": (0, 1)}
    found = jax.jit(lambda v, x: vjx.extract(DETECTOR, v, x, **asked))(variables, images)
    assert found.v.shape == (2, 2, 28, 2, 8)
    rows, columns = np.divmod(np.arange(28), 7)
    window = rows // 3 * 3 + columns // 3
    meet = window[:, None] == window
    for layer, seen in enumerate((meet, np.ones((28, 28), bool))):
        q, k, maps = (np.asarray(x[layer]) for x in (found.q, found.k, found.attention))
        scores = np.einsum("bthd,bshd->bhts", q, k) / np.sqrt(q.shape[-1])
        assert (maps > 0).all(axis=(0, 1)).tolist() == seen.tolist()
        ratios = np.log(maps[..., seen]) - scores[..., seen]  # the same along a row
        whole = np.full(scores.shape, np.nan)
        whole[..., seen] = ratios
        assert np.nanmax(np.nanstd(whole, axis=-1)) < 1e-5


def test_a_gpus_kernel_gets_one_size_for_all(monkeypatch):
    """Values are widened for it, and what comes of that is cut off."""
    variables, images = drawn(DETECTOR)
    wanted = jax.jit(DETECTOR.apply)(variables, images)
    monkeypatch.setattr(kernels, "platform", lambda: "gpu")
    sizes = []
    choose = kernels.choose

    def watched(q, k, v, *rest, **options):
        sizes.append({x.shape[-1] for x in (q, k, v)})
        return choose(q, k, v, *rest, **options)

    monkeypatch.setattr(kernels, "choose", watched)
    found = jax.jit(lambda *given: DETECTOR.apply(*given))(variables, images)
    assert sizes == [{16}, {24}]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize(("layer", "side"), [(0, 3), (1, 0)])
@pytest.mark.parametrize("facet", ["key", "query", "value"])
def test_descriptors_lie_where_the_patches_do(layer, side, facet):
    """A window's keys at their places, without the ones at rows and columns."""
    variables, images = drawn(DETECTOR)
    grid = (4, 7)

    @jax.jit
    def run(variables, images):
        found = vjx.dense.descriptors(DETECTOR, variables, images, facet, layer)
        _, emitted = DETECTOR.apply(
            variables, images, mutable="intermediates", capture_intermediates=_projections
        )
        block = emitted["intermediates"][f"blocks_{layer}"]["attention"]
        return found, block["qkv"]["__call__"][0][["query", "key", "value"].index(facet)]

    found, values = run(variables, images)
    values = jnp.swapaxes(values, 2, 3).reshape(*values.shape[:2], -1)
    if side:
        values = from_windows(values, grid, side)
    np.testing.assert_allclose(found, values.reshape(2, *grid, 16), atol=1e-5)


def _projections(module, _):
    return isinstance(module, QueryKeyValue)


def test_patches_of_another_size_make_the_same_tokens():
    """Of an image enlarged with them, whose pixels stay the same averages of the small ones."""
    numbers = np.random.default_rng(0)
    kernel = numbers.normal(size=(4, 4, 3, 5)).astype(np.float32)
    enlarge = resize_weights(4, 7, 7 / 4, antialias=True)
    patch = numbers.normal(size=(4, 4, 3)).astype(np.float32)
    larger = np.einsum("ip,jq,pqc->ijc", enlarge, enlarge, patch)
    wanted = np.einsum("pqc,pqcw->w", patch, kernel)
    found = np.einsum("pqc,pqcw->w", larger, for_patches(kernel, 7))
    np.testing.assert_allclose(found, wanted, rtol=1e-4)

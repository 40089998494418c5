"""Labels along a video: the published code's results, and a plain double loop in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.evaluate.videos import label_propagation
from vit_jax_xfer.evaluate.videos.label_propagation import propagate_labels


def inputs(n=3, h=7, w=9, channels=6, labels=3, seed=0):
    rng = np.random.default_rng(seed)
    context = rng.standard_normal((n, h, w, channels)).astype(np.float32)
    known = rng.random((n, h, w, labels)).astype(np.float32)
    return context, known, rng.standard_normal((h, w, channels)).astype(np.float32)


def slow(context, known, target, radius, topk, temperature):
    """Cell by cell, sorting what it may look at."""
    context, target = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (context, target))
    n, h, w = context.shape[:3]
    result = np.zeros((h, w, known.shape[-1]))
    for y in range(h):
        for x in range(w):
            seen = []
            for frame, v, u in np.ndindex(n, h, w):
                if radius == 0 or max(abs(v - y), abs(u - x)) <= radius:
                    seen.append((float(target[y, x] @ context[frame, v, u]), known[frame, v, u]))
            seen.sort(key=lambda pair: -pair[0])
            weights = np.exp(np.array([cosine for cosine, _ in seen[:topk]]) / temperature)
            result[y, x] = weights @ np.array([label for _, label in seen[:topk]]) / weights.sum()
    return result


@pytest.mark.parametrize("name", ["case0", "case1"])
def test_published_results(golden_case, name):
    meta, arrays, _ = golden_case(f"label_propagation/{name}")
    found = propagate_labels(
        arrays["context_features"],
        arrays["context_labels"],
        arrays["target_features"],
        radius=meta["radius"],
        topk=meta["topk"],
        temperature=meta["temperature"],
    )
    assert isinstance(found, jax.Array)
    np.testing.assert_allclose(found, arrays["target_labels"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("block", [1, 3 * 5 * 5 * 4, label_propagation.BLOCK])
@pytest.mark.parametrize(("radius", "topk"), [(2, 5), (0, 4), (1, 200), (50, 1), (4, 3)])
def test_any_tiling_equals_the_plain_loop(monkeypatch, block, radius, topk):
    monkeypatch.setattr(label_propagation, "BLOCK", block)
    context, known, target = inputs()
    expected = slow(*(x.astype(np.float64) for x in (context, known, target)), radius, topk, 0.07)
    found = propagate_labels(context, known, target, radius, topk, temperature=0.07)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_ties_with_the_last_are_kept():
    # Orthogonal features: a cell sees one twin in each of the frames, and topk takes two of three.
    context = np.broadcast_to(np.eye(4, dtype=np.float32).reshape(1, 2, 2, 4), (3, 2, 2, 4))
    known = np.zeros((3, 2, 2, 3), np.float32)
    known[np.arange(3), :, :, np.arange(3)] = 1
    found = propagate_labels(context, known, context[0], topk=2)
    np.testing.assert_allclose(found, np.full((2, 2, 3), 1 / 3), rtol=1e-6)


def test_lengths_do_not_matter():
    context, known, target = inputs()
    expected = propagate_labels(context, known, target)
    found = propagate_labels(1e-6 * context, known, 1e6 * target)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_features_of_zeros_see_everything_alike():
    context, known, target = inputs()
    found = propagate_labels(context, known, 0 * target, radius=0)
    np.testing.assert_allclose(found[3, 4], known.mean((0, 1, 2)), rtol=1e-5)


def test_an_object_without_a_cell_stays_without():
    context, known, target = inputs()
    known[..., 1] = 0
    found = np.asarray(propagate_labels(context, known, target))
    assert (found[..., 1] == 0).all()
    assert (found[..., 0] > 0).all()


def test_low_temperatures_and_half_precision():
    context, known, target = inputs()
    # The reference's exponential, e^1000, is none of float32.
    cold = propagate_labels(context, known, target, temperature=1e-3)
    nearest = propagate_labels(context, known, target, topk=1)
    assert np.isfinite(cold).all()
    assert np.abs(cold - nearest).mean() < 0.01
    half = [jnp.asarray(x, jnp.bfloat16) for x in (context, target)]
    found = propagate_labels(half[0], known > 0.5, half[1])
    expected = propagate_labels(half[0].astype(jnp.float32), known > 0.5, half[1].astype("float32"))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.dtype == jnp.float32


def test_memory_is_that_of_a_block():
    # 448 × 800 pixels in patches of 8, lifted once, with DAVIS's context: 16 GB of similarities.
    shapes = [(8, 112, 200, 384), (8, 112, 200, 4), (112, 200, 384)]
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    compiled = jax.jit(propagate_labels).lower(*arrays).compile()
    memory = compiled.memory_analysis()
    assert memory.temp_size_in_bytes < 120e6
    assert memory.temp_size_in_bytes + memory.argument_size_in_bytes < 1e9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context_features": np.zeros((7, 9, 6), "f")}, "context_features: expected .n, h, w, C."),
        ({"target_features": np.zeros((7, 8, 6), "f")}, r"target_features: got .7, 8, 6."),
        ({"context_labels": np.zeros((2, 7, 9, 3), "f")}, "context_labels: got .2, 7, 9."),
        ({"context_labels": np.full((3, 7, 9, 3), np.inf)}, "context_labels: 567 of 567 values"),
        ({"target_features": np.zeros((7, 9, 6), int)}, "target_features: expected floating point"),
        ({"radius": -1}, "radius: got -1, expected a whole number from 0 on"),
        ({"radius": 2.5}, "radius: got 2.5, expected a whole number from 0 on"),
        ({"topk": 0}, "topk: got 0, expected a whole number from 1 on"),
        ({"temperature": 0.0}, "temperature: expected more than 0, got 0.0"),
    ],
)
def test_bad_input_is_named(change, message):
    names = ("context_features", "context_labels", "target_features")
    arguments = dict(zip(names, inputs(), strict=True)) | change
    with pytest.raises(ValueError, match=message):
        propagate_labels(**arguments)


@pytest.mark.parametrize("name", ["context_features", "target_features"])
def test_nan_is_an_error(name):
    arguments = dict(
        zip(("context_features", "context_labels", "target_features"), inputs(), strict=True)
    )
    arguments[name][..., 2, 3, 1] = np.nan
    with pytest.raises(ValueError, match=f"^{name}: [13] of [0-9]+ values are NaN or infinite"):
        propagate_labels(**arguments)

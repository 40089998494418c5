"""CKA between layers: reference values, batches, and filter networks' stages."""

import jax
import numpy as np
import pytest

import vit_jax_xfer as vjx
from vit_jax_xfer.analysis.layer_similarity import layer_features
from vit_jax_xfer.evaluate.similarity.cka import cka_from_terms, hsic_terms
from vit_jax_xfer.models.filter.network import MICRO, FilterViT


def test_reference_values_of_arrays(golden_case):
    meta, arrays, _ = golden_case("explain/cka")
    x = arrays["x"]
    for name in ("y", "r", "x"):
        other = arrays[name]
        for kind in ("linear", "unbiased", "rbf"):
            found = vjx.analysis.cka(x, other, kind)
            assert found == pytest.approx(float(arrays[f"{kind}_x{name}"]), abs=1e-5), (name, kind)
        found = vjx.analysis.minibatch_cka(x, other, meta["batch_size"])
        assert found == pytest.approx(float(arrays[f"minibatch_x{name}"]), abs=1e-5), name
    with pytest.raises(ValueError, match="kind: 'cosine' is none of linear, unbiased, rbf"):
        vjx.analysis.cka(x, x, "cosine")
    with pytest.raises(ValueError, match="batch_size: got 49, expected from 4 to the 48 rows"):
        vjx.analysis.minibatch_cka(x, x, 49)
    assert vjx.analysis.cka(np.ones_like(x), x, "rbf") == 0


def test_reference_values_of_layers(golden_case):
    meta, arrays, state = golden_case("explain/cka_layers")
    model, variables = vjx.load_pretrained(state, num_heads=meta["heads"])
    images = arrays["image"].astype(np.float32)
    features = jax.jit(layer_features, static_argnums=(0, 3))
    for tokens, name in (("all", "flat"), ("class", "cls"), ("mean", "patchmean")):
        found = features(model, variables, images, tokens)
        cka = vjx.analysis.layer_cka([vjx.analysis.layer_terms(found, found, unbiased=False)])
        np.testing.assert_allclose(cka, arrays[f"linear_{name}"], atol=1e-5)
    found, size = features(model, variables, images, "all"), meta["batch_size"]
    batches = [[x[i : i + size] for x in found] for i in range(0, len(images), size)]
    cka = vjx.analysis.layer_cka([vjx.analysis.layer_terms(x, x) for x in batches])
    np.testing.assert_allclose(cka, arrays["minibatch_flat"], atol=1e-5)


@pytest.mark.parametrize("unbiased", [False, True])
def test_every_pair_is_that_of_the_two_alone(unbiased):
    rng = np.random.default_rng(0)
    first = [rng.standard_normal((7, width)).astype(np.float32) + 2 for width in (3, 20)]
    second = [x[:, ::-1] ** 2 for x in (*first, first[0][:, :2])]
    found = vjx.analysis.layer_cka([vjx.analysis.layer_terms(first, second, unbiased)])
    wanted = [[cka_from_terms(hsic_terms(x, y, unbiased)) for y in second] for x in first]
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    still = [np.ones((7, 4), np.float32)]
    assert vjx.analysis.layer_cka([vjx.analysis.layer_terms(first, still, unbiased)]).tolist() == [
        [0.0],
        [0.0],
    ]


def test_a_filter_networks_layers_are_its_stages():
    model = FilterViT(num_classes=3, **MICRO)
    images = jax.random.normal(jax.random.key(0), (2, 24, 24, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    found = jax.eval_shape(lambda v, x: layer_features(model, v, x, "mean"), variables, images)
    assert [x.shape for x in found] == [(2, 32), (2, 32), (2, 64), (2, 64)]
    with pytest.raises(ValueError, match="tokens: 'class' needs a class token"):
        jax.eval_shape(lambda v, x: layer_features(model, v, x, "class"), variables, images)
    with pytest.raises(ValueError, match="layers: expected at least 4 images, got 2"):
        vjx.analysis.layer_terms(np.ones((1, 2, 3)), np.ones((1, 2, 3)))

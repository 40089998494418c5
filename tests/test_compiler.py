"""The options that a program is compiled with: which library multiplies, by what is multiplied."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer import compiler, create_model
from vit_jax_xfer.features.backbone import backbone_of
from vit_jax_xfer.features.feature_extractor import FeatureExtractor
from vit_jax_xfer.models.products import product
from vit_jax_xfer.train.compile import Program

WEIGHTS = jax.ShapeDtypeStruct((4, 8), jnp.float32)


@pytest.fixture
def intel(monkeypatch):
    monkeypatch.setattr(compiler, "_by_intel", lambda: True)
    monkeypatch.setattr(compiler, "_known", lambda: True)


def traced(rows, dtype=jnp.float32, product_dtype=None):
    multiply = partial(product, product_dtype=product_dtype)
    tokens = jax.ShapeDtypeStruct((2, rows // 2, 4), dtype)
    weights = jax.ShapeDtypeStruct(WEIGHTS.shape, dtype)
    slopes = jax.grad(lambda tokens, weights: multiply(tokens, weights).sum())
    return jax.jit(slopes).trace(tokens, weights)


@pytest.mark.parametrize(
    ("program", "by_eigen"),
    [
        (traced(2048), True),
        (traced(1024), True),
        (traced(1022), False),  # few rows
        (traced(2048, jnp.bfloat16), False),
        (traced(2048, product_dtype="bfloat16"), False),
        (traced(2048, jnp.float16), False),
        (jax.jit(jnp.sin).trace(WEIGHTS), False),  # nothing is multiplied
        (jax.jit(lambda x: jax.lax.map(lambda y: y @ y.T, x)).trace(jnp.ones((2, 1024, 2))), True),
    ],
)
def test_the_library_that_multiplies(program, by_eigen, intel):
    options = compiler.compiler_options("cpu", program)
    assert (options.get(compiler.LIBRARY) == compiler.SUMS_ALONE) is by_eigen
    assert options["xla_disable_hlo_passes"] == "cse_barrier_expander"
    assert compiler.compiler_options("gpu", program) == {}


@pytest.mark.parametrize("missing", ["_by_intel", "_known"])
def test_other_processors_and_versions_keep_the_default(missing, intel, monkeypatch):
    monkeypatch.setattr(compiler, missing, lambda: False)
    assert compiler.compiler_options("cpu", traced(2048)) == compiler.compiler_options("cpu")


def test_the_option_is_minded():
    """Where XLA has it, a large product is Eigen's and the same but for rounding."""
    if not compiler._known():
        pytest.skip("this version of XLA has no such option")
    tokens = np.random.default_rng(0).standard_normal((2048, 384), np.float32)
    program = jax.jit(jnp.matmul).trace(tokens, tokens[:384].T.copy())
    forms = [
        program.lower().compile(options)
        for options in ({}, {compiler.LIBRARY: compiler.SUMS_ALONE})
    ]
    assert ["ynn_fusion" in form.as_text() for form in forms] == [True, False]
    ours, eigens = (np.asarray(form(tokens, tokens[:384].T.copy())) for form in forms)
    np.testing.assert_allclose(ours, eigens, rtol=1e-4, atol=1e-4)


def test_a_version_without_the_option_is_noticed(monkeypatch):
    monkeypatch.setattr(compiler, "LIBRARY", "xla_cpu_no_such_option")
    compiler._known.cache_clear()
    try:
        assert not compiler._known()
    finally:
        compiler._known.cache_clear()


@pytest.fixture
def options_taken(intel, monkeypatch):
    """The options that programs are compiled with, where every product is a large one."""
    found = []
    options = compiler.compiler_options

    def watched(*given):
        found.append(options(*given))
        return found[-1]

    monkeypatch.setattr(compiler, "ROWS", 1)
    monkeypatch.setattr(compiler, "compiler_options", watched)
    return found


def test_a_training_step_is_compiled_by_what_it_multiplies(options_taken):
    device = SimpleNamespace(step=SimpleNamespace(device_set={jax.devices("cpu")[0]}))
    Program.compile(SimpleNamespace(traced=traced(4), shardings=device))
    assert [compiler.LIBRARY in one for one in options_taken] == [True]


def test_features_are_compiled_by_what_they_multiply(options_taken):
    model = create_model("vit_tiny_patch16", image_size=16, depth=1, num_classes=0)
    variables = model.init(jax.random.key(0), np.zeros((1, 16, 16, 3), np.float32))
    backbone, variables = backbone_of(model, variables)
    extractor = FeatureExtractor("own", backbone, (variables, {}))
    photos = np.zeros((2, 16, 16, 3), np.uint8)
    first, again = extractor(photos), extractor(photos)
    np.testing.assert_array_equal(first, again)
    assert [compiler.LIBRARY in one for one in options_taken] == [True]  # compiled once

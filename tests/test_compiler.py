"""The options that a program is compiled with: which library multiplies, by what is multiplied."""

import warnings
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer import compiler, create_model
from vit_jax_xfer.compare.compiled_once import cache_settings, use_cache
from vit_jax_xfer.features.backbone import backbone_of
from vit_jax_xfer.features.feature_extractor import FeatureExtractor
from vit_jax_xfer.models.products import product
from vit_jax_xfer.tasks.supervised import Classification, ClassificationSettings
from vit_jax_xfer.train.compile import Program
from vit_jax_xfer.train.evaluation import Evaluator
from vit_jax_xfer.train.sharding import make_mesh


@pytest.fixture
def intel(monkeypatch):
    monkeypatch.setattr(compiler, "_by_intel", lambda: True)
    monkeypatch.setattr(compiler, "_known", lambda library: True)


def traced(rows, dtype=jnp.float32, product_dtype=None, summed=4, columns=8):
    multiply = partial(product, product_dtype=product_dtype)
    tokens = jax.ShapeDtypeStruct((2, rows // 2, summed), dtype)
    weights = jax.ShapeDtypeStruct((summed, columns), dtype)
    slopes = jax.grad(lambda tokens, weights: multiply(tokens, weights).sum())
    return jax.jit(slopes).trace(tokens, weights)


def in_a_loop(*shape):
    return jax.jit(lambda x: jax.lax.map(lambda y: y @ y.T, x)).trace(jnp.ones(shape))


def library(options):
    """Which library multiplies, by the options."""
    if options.get("xla_cpu_use_onednn"):
        assert options.items() >= compiler.BY_ONEDNN.items()
        return "oneDNN"
    return "Eigen" if options.items() >= compiler.BY_EIGEN.items() else "YNNPACK"


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (traced(2048), "Eigen"),
        (traced(1024), "Eigen"),
        (traced(1022), "YNNPACK"),  # few rows
        (traced(200, summed=128, columns=384), "oneDNN"),
        (traced(200, summed=127, columns=384), "YNNPACK"),
        (traced(126, summed=128, columns=384), "YNNPACK"),
        (traced(2048, summed=128, columns=64), "Eigen"),  # narrow
        (traced(2048, jnp.bfloat16), "YNNPACK"),
        (traced(2048, product_dtype="bfloat16"), "YNNPACK"),
        (traced(2048, jnp.bfloat16, summed=128, columns=384), "YNNPACK"),
        (traced(2048, jnp.float16), "YNNPACK"),
        (jax.jit(jnp.sin).trace(jnp.ones(3)), "YNNPACK"),  # nothing is multiplied
        (in_a_loop(2, 1024, 2), "Eigen"),
        (in_a_loop(2, 128, 128), "oneDNN"),
    ],
)
def test_the_library_that_multiplies(program, expected, intel):
    options = compiler.compiler_options("cpu", program)
    assert library(options) == expected
    assert options["xla_disable_hlo_passes"] == "cse_barrier_expander"
    assert compiler.compiler_options("gpu", program) == {}


def test_the_largest_product_decides(intel):
    """Attention's narrow products beside a wide layer, and a narrow head's."""

    def layers(rows, columns):
        def network(x, wide, narrow):
            return jnp.einsum("btd,bsd->bts", x[..., :64], x[..., :64]), (x @ wide) @ narrow

        shapes = (2, rows, 256), (256, columns), (columns, 10)
        return jax.jit(network).trace(*(jax.ShapeDtypeStruct(one, jnp.float32) for one in shapes))

    assert library(compiler.compiler_options("cpu", layers(200, 512))) == "oneDNN"
    assert library(compiler.compiler_options("cpu", layers(1024, 16))) == "Eigen"


@pytest.mark.parametrize("rows", [200, 2048])
def test_other_processors_keep_the_default(rows, intel, monkeypatch):
    monkeypatch.setattr(compiler, "_by_intel", lambda: False)
    program = traced(rows, summed=128, columns=384)
    assert compiler.compiler_options("cpu", program) == compiler.compiler_options("cpu")


@pytest.mark.parametrize(
    ("known", "rows", "expected"),
    [("Eigen", 2048, "Eigen"), ("Eigen", 200, "YNNPACK"), ("", 2048, "YNNPACK")],
)
def test_versions_without_the_options(known, rows, expected, intel, monkeypatch):
    monkeypatch.setattr(compiler, "_known", lambda library: library == known)
    program = traced(rows, summed=128, columns=384)
    assert library(compiler.compiler_options("cpu", program)) == expected


def test_a_cache_that_raises_gets_programs_that_it_can_keep(intel):
    program = traced(2048, summed=128, columns=384)
    jax.config.update("jax_raise_persistent_cache_errors", True)
    try:
        assert library(compiler.compiler_options("cpu", program)) == "Eigen"
    finally:
        jax.config.update("jax_raise_persistent_cache_errors", False)


@pytest.mark.parametrize("name", compiler.LIBRARIES)
def test_a_library_that_is_asked_for(name, intel, monkeypatch):
    """In a call or in the environment, on any processor; products of bfloat16 stay YNNPACK's."""
    monkeypatch.setattr(compiler, "_by_intel", lambda: False)
    exact, small = traced(64), traced(64, product_dtype="bfloat16")
    assert library(compiler.compiler_options("cpu", exact, library=name)) == name
    monkeypatch.setenv(compiler.VARIABLE, name)
    assert library(compiler.compiler_options("cpu", exact)) == name
    assert library(compiler.compiler_options("cpu", exact, library="Eigen")) == "Eigen"
    assert library(compiler.compiler_options("cpu", small)) == "YNNPACK"
    assert compiler.compiler_options("gpu", exact) == {}


def test_a_library_that_is_none(intel, monkeypatch):
    with pytest.raises(ValueError, match="library: 'MKL' is none of YNNPACK, Eigen, oneDNN"):
        compiler.compiler_options("cpu", traced(64), library="MKL")
    monkeypatch.setenv(compiler.VARIABLE, "onednn")
    with pytest.raises(ValueError, match=f"{compiler.VARIABLE}: 'onednn' is none of"):
        compiler.compiler_options("cpu", traced(64))
    monkeypatch.setenv(compiler.VARIABLE, "oneDNN")
    monkeypatch.setattr(compiler, "_known", lambda library: False)
    with pytest.raises(ValueError, match="has no choice of oneDNN"):
        compiler.compiler_options("cpu", traced(64))


def test_the_options_are_minded():
    """Where XLA has them; and all products are the same but for rounding."""

    def products(x, y):
        heads, others = x.reshape(4, 32, 8, 48), y.reshape(4, 32, 8, 48)
        scores = jnp.einsum("bthd,bshd->bhts", heads, others)
        slopes = jax.grad(lambda x, y: jnp.tanh(x @ y.T).sum(), (0, 1))(x, y)
        return (
            x @ y.T,
            x.T @ y,
            scores,
            jnp.einsum("bhts,bthd->bshd", scores, heads),
            slopes,
            x @ y[0],
        )

    x, y = np.random.default_rng(0).standard_normal((2, 128, 384), np.float32)
    program = jax.jit(products).trace(x, y)
    default = program.lower().compile()
    for name, options in (("Eigen", compiler.BY_EIGEN), ("oneDNN", compiler.BY_ONEDNN)):
        if not compiler._known(name):
            pytest.skip("this version of XLA has no such options")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tests' cache on disk can't keep oneDNN's
            form = program.lower().compile(options)
        assert ("onednn_fusion" in form.as_text()) is (name == "oneDNN")
        for one, other in zip(*map(jax.tree.leaves, (form(x, y), default(x, y))), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-3)


def test_a_version_without_the_options_is_noticed(monkeypatch):
    monkeypatch.setitem(compiler.LIBRARIES, "Eigen", {"xla_cpu_no_such_option": True})
    compiler._known.cache_clear()
    try:
        assert not compiler._known("Eigen")
    finally:
        compiler._known.cache_clear()


def test_no_warning_of_a_program_that_is_not_kept(tmp_path, monkeypatch):
    """JAX can't write oneDNN's programs into a cache on disk."""
    if not (compiler._known("oneDNN") and jax.default_backend() == "cpu"):
        pytest.skip("this version of XLA has no such options")
    monkeypatch.setattr(compiler, "_by_intel", lambda: True)
    before = cache_settings()
    use_cache(
        {
            "jax_compilation_cache_dir": str(tmp_path),
            "jax_persistent_cache_min_compile_time_secs": 0.0,
            "jax_persistent_cache_min_entry_size_bytes": -1,
        }
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            program = compiler.compiled(traced(2048, summed=128, columns=384))
    finally:
        use_cache(before)
    assert "onednn_fusion" in program.as_text()


def test_a_jitted_function_is_compiled_by_what_each_of_its_networks_multiplies(options_taken):
    def multiply(dtype, x):
        return (x.astype(dtype) @ x.T.astype(dtype)).astype(jnp.float32)

    jitted = compiler.Jitted(multiply, static_argnums=(0,))
    x = np.random.default_rng(0).standard_normal((8, 4), np.float32)
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float32):
        np.testing.assert_allclose(jitted(dtype, x), x @ x.T, rtol=0.05, atol=0.05)
    assert [library(one) for one in options_taken] == ["Eigen", "YNNPACK"]
    assert jitted.trace(jnp.float32, x).out_info.shape == (8, 8)


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
    assert [library(one) for one in options_taken] == ["Eigen"]


def test_features_are_compiled_by_what_they_multiply(options_taken):
    model = create_model("vit_tiny_patch16", image_size=16, depth=1, num_classes=0)
    variables = model.init(jax.random.key(0), np.zeros((1, 16, 16, 3), np.float32))
    backbone, variables = backbone_of(model, variables)
    extractor = FeatureExtractor("own", backbone, (variables, {}))
    photos = np.zeros((2, 16, 16, 3), np.uint8)
    first, again = extractor(photos), extractor(photos)
    np.testing.assert_array_equal(first, again)
    assert [library(one) for one in options_taken] == ["Eigen"]  # compiled once


def test_an_evaluation_is_compiled_by_what_it_multiplies(options_taken):
    mesh = make_mesh(1, 1, 1, devices=jax.devices()[:1])
    model = create_model("vit_tiny_patch16", image_size=16, depth=1, num_classes=3)
    task = Classification(model, ClassificationSettings())
    variables = model.init(jax.random.key(0), np.zeros((1, 16, 16, 3), np.float32))
    rows = {
        "image": np.zeros((2, 16, 16, 3), np.float32),
        "label": np.array([0, 1], np.int32),
        "mask": np.array([True, True]),
    }
    figures = Evaluator(task, mesh)(variables, {}, [rows, rows])
    assert figures["loss"] > 0
    assert [library(one) for one in options_taken] == ["Eigen"]

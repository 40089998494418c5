"""Which attention kernel runs where: auto never fails, and what can't run says why in one line."""

import importlib.util

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

import vit_jax_xfer as vjx
from vit_jax_xfer.models.attention import kernels
from vit_jax_xfer.models.attention.kernel_choice import obstacle

BF16, F32, F16, F64 = jnp.bfloat16, jnp.float32, jnp.float16, jnp.float64


def shaped(tokens, dim=64, dtype=BF16):
    return jax.ShapeDtypeStruct((1, tokens, 2, dim), dtype)


def choose(q, v, requested, biased=False):
    return kernels.choose(q, q, v, requested, 100, biased)


@pytest.fixture
def machine(monkeypatch):
    """machine(backend, devices, capability): what JAX says of the machine; returns nothing."""

    class Device:
        def __init__(self, capability):
            self.compute_capability = capability

    def pretend(backend, devices=1, capability="9.0"):
        monkeypatch.setattr(jax, "default_backend", lambda: backend)
        monkeypatch.setattr(jax, "device_count", lambda: devices)
        monkeypatch.setattr(jax, "local_devices", lambda: [Device(capability)] * devices)

    return pretend


@pytest.mark.parametrize(
    ("backend", "q", "v", "requested", "chosen"),
    [
        ("cpu", shaped(100), shaped(100), "auto", "plain"),
        ("cpu", shaped(101), shaped(101), "auto", "blockwise"),
        ("cpu", shaped(101), shaped(101), "plain", "plain"),
        ("cpu", shaped(10), shaped(10), "blockwise", "blockwise"),
        ("gpu", shaped(10), shaped(10), "auto", "cudnn"),
        ("gpu", shaped(10), shaped(10), "cudnn", "cudnn"),
        ("gpu", shaped(999), shaped(999), "auto", "cudnn"),
        ("gpu", shaped(10), shaped(10), "plain", "plain"),
        ("gpu", shaped(10, dtype=F32), shaped(10, dtype=F32), "auto", "plain"),
        ("gpu", shaped(10, 264), shaped(10, 264), "auto", "plain"),
        ("gpu", shaped(10, 36), shaped(10, 36), "auto", "plain"),
        # Distillation's values are the student's keys, whose heads may differ from the teacher's.
        ("gpu", shaped(10), shaped(10, 32), "auto", "plain"),
        ("gpu", shaped(101), shaped(101, 32), "auto", "blockwise"),
        ("tpu", shaped(100), shaped(100), "auto", "plain"),
        ("tpu", shaped(101), shaped(101), "auto", "splash"),
        ("tpu", shaped(101), shaped(101, 32), "auto", "splash"),
        ("tpu", shaped(101, dtype=F32), shaped(101, dtype=F32), "auto", "splash"),
        ("tpu", shaped(101, dtype=F16), shaped(101, dtype=F16), "auto", "blockwise"),
        ("tpu", shaped(10), shaped(10), "splash", "splash"),
        ("tpu", shaped(101), shaped(101), "blockwise", "blockwise"),
    ],
)
def test_choice(machine, backend, q, v, requested, chosen):
    machine(backend)
    assert choose(q, v, requested) == chosen


@pytest.mark.parametrize(
    ("capability", "dim", "fits"),
    [("8.9", 136, False), ("9.0", 136, True), ("10.0", 256, True), ("9.0", 264, False)],
)
def test_newer_gpus_take_larger_heads(machine, capability, dim, fits):
    machine("gpu", capability=capability)
    x = shaped(10, dim)
    assert (obstacle("cudnn", x, x, x, False) is None) == fits


@pytest.mark.parametrize(
    ("capability", "chosen"),
    [("8.0", "plain"), ("8.9", "plain"), ("9.0", "cudnn"), ("10.0", "plain")],
)
def test_auto_takes_cudnn_where_it_was_measured(machine, capability, chosen):
    machine("gpu", capability=capability)
    assert choose(shaped(10), shaped(10), "auto") == chosen
    assert choose(shaped(10), shaped(10), "cudnn") == "cudnn"


@pytest.mark.parametrize(("kind", "chosen"), [("NVIDIA H200", "cudnn"), ("NVIDIA A100", "plain")])
def test_a_described_gpu_is_told_by_its_name(kind, chosen):
    described = AbstractDevice(device_kind=kind, num_cores=1, platform="gpu")
    mesh = AbstractMesh((8,), ("data",), (AxisType.Auto,), abstract_device=described)
    with jax.sharding.use_abstract_mesh(mesh):
        assert choose(shaped(10), shaped(10), "auto") == chosen


def test_gpus_of_amd_have_no_cudnn(machine):
    machine("gpu", capability="gfx942")
    assert choose(shaped(10), shaped(10), "auto") == "plain"
    with pytest.raises(ValueError, match="model.attention: cudnn .* not on AMD's gfx942"):
        choose(shaped(10), shaped(10), "cudnn")


@pytest.mark.parametrize("backend", ["cpu", "gpu", "tpu"])
def test_a_bias_goes_portable(machine, backend):
    machine(backend)
    assert choose(shaped(100), shaped(100), "auto", biased=True) == "plain"
    assert choose(shaped(101), shaped(101), "auto", biased=True) == "blockwise"


def test_several_tpus_need_their_mesh(machine):
    """Outside of `jax.set_mesh` nothing says how an array lies, and the compiler can't split it."""
    machine("tpu", devices=8)
    assert choose(shaped(101), shaped(101), "auto") == "blockwise"


@pytest.mark.parametrize(("platform", "chosen"), [("tpu", "splash"), ("cpu", "blockwise")])
def test_the_mesh_says_for_what_a_program_is(platform, chosen):
    """A plan for TPUs is made on a CPU."""
    described = AbstractDevice(device_kind="as described", num_cores=1, platform=platform)
    mesh = AbstractMesh((8,), ("data",), (AxisType.Auto,), abstract_device=described)
    with jax.sharding.use_abstract_mesh(mesh):
        assert choose(shaped(101), shaped(101), "auto") == chosen


@pytest.mark.parametrize(
    ("backend", "requested", "q", "v", "biased", "reason"),
    [
        ("cpu", "cudnn", shaped(10), shaped(10), False, "runs on NVIDIA GPUs, not on this cpu"),
        ("tpu", "cudnn", shaped(10), shaped(10), False, "runs on NVIDIA GPUs, not on this tpu"),
        ("gpu", "cudnn", shaped(10, dtype=F32), shaped(10), False, "bfloat16 or float16, not floa"),
        ("gpu", "cudnn", shaped(10), shaped(10, 32), False, r"one head size .* not \[32, 64\]"),
        ("gpu", "cudnn", shaped(10, 36), shaped(10, 36), False, "8 divides, up to 256, not 36"),
        ("gpu", "cudnn", shaped(10, 264), shaped(10, 264), False, "up to 256, not 264"),
        ("gpu", "cudnn", shaped(197), shaped(197), True, "even numbers of tokens, not 197 × 197"),
        ("gpu", "splash", shaped(10), shaped(10), False, "runs on TPUs, not on this gpu"),
        ("tpu", "splash", shaped(10), shaped(10), True, "takes no bias"),
        ("tpu", "splash", shaped(10, dtype=F16), shaped(10), False, "float32, not float16"),
        ("tpu", "tokamax", shaped(10, dtype=F64), shaped(10), False, "float32, not float64"),
    ],
)
def test_what_cannot_run_says_why(machine, monkeypatch, backend, requested, q, v, biased, reason):
    machine(backend)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with jax.enable_x64(True), pytest.raises(ValueError, match=reason) as failure:
        choose(q, v, requested, biased)
    text = str(failure.value)
    assert text.startswith(f"model.attention: {requested} ") and "\n" not in text


def test_types_of_queries_and_keys_differ(machine):
    machine("tpu")
    with pytest.raises(ValueError, match="one type, not bfloat16 and float32"):
        kernels.choose(shaped(10), shaped(10, dtype=F32), shaped(10), "splash", 100)


def test_a_missing_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"model.attention: tokamax .*'vit_jax_xfer\[tokamax\]'"):
        choose(shaped(10), shaped(10), "tokamax")


def test_unknown_implementation():
    with pytest.raises(ValueError, match="model.attention: 'flash' is unknown; .*'splash'"):
        choose(shaped(10), shaped(10), "flash")


@pytest.mark.parametrize("attention", ["cudnn", "splash"])
def test_a_network_refuses_before_it_computes(attention):
    model = vjx.create_model("vit_micro_patch2", image_size=8, attention=attention)
    with pytest.raises(ValueError, match=f"model.attention: {attention} runs on .* this cpu"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))

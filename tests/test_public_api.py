"""What a notebook types: names, shapes, and what must not be needed for it."""

import subprocess
import sys

import jax
import numpy as np
import pytest

import vit_jax_xfer as vjx

NAMES = ["create_model", "extract", "list_models", "load_pretrained", "mae_forward"]
NAMES += ["transfer_forward", "FAMILIES"]
OPTIONAL = ["grain", "tensorflow", "tensorflow_datasets", "torch", "ml_collections", "sklearn"]
OPTIONAL += ["matplotlib", "PIL", "orbax", "optax", "tensorboardX", "safetensors", "absl.flags"]
# The shapes of the published cases: run op by op, equal shapes are compiled once for all files.
IMAGES = np.random.default_rng(0).standard_normal((3, 32, 32, 3)).astype(np.float32)
SIZES = {"image_size": 32, "width": 48, "num_heads": 3}


def draw(model, *inputs):
    """Variables as numpy arrays."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: 0.1 * rng.standard_normal(x.shape).astype(x.dtype), shapes)


@pytest.fixture(scope="module")
def network():
    model = vjx.create_model("vit_micro_patch8", depth=2, num_classes=10, **SIZES)
    return model, draw(model, IMAGES)


def test_names():
    assert set(NAMES) <= set(vjx.__all__) <= set(dir(vjx))
    for name in vjx.__all__:
        assert getattr(vjx, name) is not None
    assert {"supervised", "mae"} <= set(vjx.FAMILIES)
    with pytest.raises(AttributeError, match="no attribute 'create_modle'"):
        _ = vjx.create_modle


@pytest.mark.parametrize("scan", [False, True])
def test_extract(network, scan):
    model, variables = network
    if scan:
        model = model.clone(scan=True)
        variables = draw(model, IMAGES)
    out = vjx.extract(model, variables, IMAGES, attention=True, qkv=True, layers=[-1])
    shapes = {
        "logits": (3, 10),
        "pooled": (3, 48),
        "tokens": (3, 17, 48),
        "cls": (3, 48),
        "patch_tokens": (3, 4, 4, 48),
        "attention": (1, 3, 3, 17, 17),
        "q": (1, 3, 17, 3, 16),
        "k": (1, 3, 17, 3, 16),
        "v": (1, 3, 17, 3, 16),
    }
    for name, shape in shapes.items():
        value = getattr(out, name)
        assert isinstance(value, jax.Array), name
        assert (value.shape, value.dtype) == (shape, np.float32), name
    assert out.num_prefix_tokens == 1
    assert not out.filters
    whole = vjx.extract(model, variables, IMAGES, attention=True)
    np.testing.assert_allclose(whole.attention[-1:], out.attention, rtol=1e-5)
    assert whole.q is whole.k is whole.v is None


def test_transfer_takes_numpy_and_gives_jax(network):
    model, variables = network
    for mode, materialize in (("distill", False), ("copy", True)):
        logits, loss = vjx.transfer_forward(
            *(model, variables, model, variables, IMAGES),
            mode=mode,
            layers=np.array([0, -1]),
            heads=np.array([0, 2]),
            materialize=materialize,
        )
        assert isinstance(logits, jax.Array)
        assert isinstance(loss, jax.Array)
        assert (logits.shape, loss.shape) == ((3, 10), ())


def test_masked_pretraining_and_its_encoder_as_a_teacher(network):
    student, student_variables = network
    model = vjx.create_model(
        "mae_vit_micro_patch8", depth=2, decoder_depth=1, decoder_width=16, **SIZES
    )
    noise = np.random.default_rng(0).random((3, 16))
    variables = draw(model, IMAGES, noise)
    loss, prediction, mask = vjx.mae_forward(model, variables, IMAGES, noise=noise)
    assert all(isinstance(x, jax.Array) for x in (loss, prediction, mask))
    assert (loss.shape, prediction.shape, mask.shape) == ((), (3, 16, 192), (3, 16))
    logits, loss = vjx.transfer_forward(student, student_variables, model, variables, IMAGES)
    assert (logits.shape, loss.shape) == ((3, 10), ())
    out = vjx.extract(model, variables, IMAGES, attention=True)
    assert out.logits is out.pooled is None
    assert out.attention.shape == (2, 3, 3, 17, 17)


def run(code):
    """The code in a fresh interpreter; it must end without an error."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_imports_next_to_nothing():
    code = f"import sys, vit_jax_xfer; print([m for m in {OPTIONAL} if m in sys.modules])"
    assert run(code).strip() == "[]"


def test_models_and_transfer_need_jax_and_flax_alone():
    # flax itself takes optax, orbax and, through them, absl along.
    blocked = [name for name in OPTIONAL if name not in ("optax", "orbax", "absl.flags")]
    run(f"""
import sys
sys.modules.update(dict.fromkeys({blocked}))
import jax, numpy as np
import vit_jax_xfer as vjx
from vit_jax_xfer.pretrained import to_publisher_names
images = np.ones((1, 4, 4, 3), np.float32)
fields = dict(image_size=4, width=8, num_heads=2, num_classes=3)
model = vjx.create_model("vit_micro_patch2", depth=1, **fields)
shapes = jax.eval_shape(model.init, jax.random.key(0), images)
variables = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), shapes)
again, loaded = vjx.load_pretrained(to_publisher_names(variables, "supervised"), num_heads=2)
def everything(variables, loaded):
    out = vjx.extract(model, variables, images, attention=True, qkv=True)
    return out, vjx.transfer_forward(model, variables, again, loaded, images)
jax.eval_shape(everything, variables, loaded)
""")

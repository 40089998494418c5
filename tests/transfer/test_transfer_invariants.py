"""What must hold of copies and distillation, whatever the networks are."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.pretrained.parameter_rules import stack_blocks
from vit_jax_xfer.transfer.forward import paired_forward, transfer_forward
from vit_jax_xfer.transfer.spec import MODES, Transfer

# The shapes of the published cases: run op by op, equal shapes are compiled once for all files.
IMAGES = np.random.default_rng(0).standard_normal((3, 32, 32, 3)).astype(np.float32)
MODEL = VisionTransformer(
    image_size=32, patch_size=8, width=48, depth=3, num_heads=3, num_classes=10
)
COPIES = [mode for mode in MODES if mode.startswith("copy")]


def draw(seed):
    """Random variables far from the initial ones, whose maps would be almost uniform."""
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), IMAGES)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(0.3 * rng.standard_normal(x.shape), x.dtype), shapes)


@pytest.fixture(scope="module")
def pair():
    """The student's and the teacher's variables."""
    return draw(1), draw(2)


def gradients(student, teacher, **options):
    """Of the logits' squares plus the loss, in both networks' variables."""

    def total(student, teacher):
        logits, loss = transfer_forward(MODEL, student, MODEL, teacher, IMAGES, **options)
        return loss + jnp.square(logits).sum()

    return jax.grad(total, argnums=(0, 1))(student, teacher)


def of_qkv(gradient, layer):
    """The gradient of a layer's q, k, v kernel: (C, 3, H, d)."""
    return gradient["params"][f"blocks_{layer}"]["attention"]["qkv"]["kernel"]


@pytest.mark.parametrize(
    ("mode", "materialize", "scan"),
    [
        *((mode, False, False) for mode in COPIES),
        ("copy", True, False),
        ("copy", False, True),
        ("copy", True, True),
    ],
)
def test_copying_from_oneself_changes_nothing(pair, mode, materialize, scan):
    variables = pair[1]
    wanted = MODEL.apply(variables, IMAGES)
    model = MODEL.clone(scan=scan)
    variables = stack_blocks(variables) if scan else variables
    logits, loss = transfer_forward(
        model, variables, model, variables, IMAGES, mode=mode, materialize=materialize
    )
    np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-5)
    assert loss == 0
    assert loss.shape == ()


@pytest.mark.parametrize("mode", COPIES)
def test_copying_from_another_changes_the_logits(pair, mode):
    student, teacher = pair
    own = MODEL.apply(student, IMAGES)
    logits, _ = transfer_forward(MODEL, student, MODEL, teacher, IMAGES, mode=mode)
    assert np.abs(logits - own).max() > 1e-2


@pytest.mark.parametrize("materialize", [False, True])
def test_copied_queries_and_keys_get_no_gradient(pair, materialize):
    options = {"mode": "copy", "materialize": materialize, "layers": [0, -1]}
    gradient, _ = gradients(*pair, **options)
    for layer in (0, 2):
        kernel = of_qkv(gradient, layer)
        np.testing.assert_array_equal(kernel[:, :2], 0)
        assert jnp.abs(kernel[:, 2]).max() > 0
    assert (jnp.abs(of_qkv(gradient, 1)).max(axis=(0, 2, 3)) > 0).all()


@pytest.mark.parametrize("materialize", [False, True])
def test_copied_heads_alone_get_no_gradient(pair, materialize):
    gradient, _ = gradients(*pair, mode="copy", materialize=materialize, heads=[2, 0])
    for layer in range(3):
        largest = np.asarray(jnp.abs(of_qkv(gradient, layer)).max(axis=(0, 3)))
        np.testing.assert_array_equal(largest > 0, [[False, True, False]] * 2 + [[True] * 3])


@pytest.mark.parametrize(
    "options",
    [
        *({"mode": mode} for mode in ("distill", "distill_k", "copy", "copy_v")),
        *({"mode": mode, "materialize": True} for mode in ("distill", "copy")),
    ],
)
def test_no_gradient_reaches_the_teacher(pair, options):
    of_student, of_teacher = gradients(*pair, **options)
    assert not any(x.any() for x in jax.tree.leaves(of_teacher))
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(of_student))
    assert of_qkv(of_student, 0).any()


@pytest.mark.parametrize(
    ("mode", "materialize"), [("distill", False), ("distill", True), ("distill_v", False)]
)
def test_a_student_equal_to_its_teacher_has_nothing_to_learn(pair, mode, materialize):
    def loss(student, teacher):
        return transfer_forward(
            MODEL, student, MODEL, teacher, IMAGES, mode=mode, materialize=materialize
        )[1]

    same, other = (jax.grad(loss)(student, pair[1]) for student in (pair[1], pair[0]))
    size, usual = (max(jnp.abs(x).max() for x in jax.tree.leaves(g)) for g in (same, other))
    assert size < 1e-5 * usual


@pytest.mark.parametrize("layers", [None, [1]])
def test_loss_at_initialisation_is_the_log_of_the_tokens(pair, layers):
    """A new student attends evenly, whatever its teacher does."""
    student = MODEL.init(jax.random.key(0), IMAGES)
    _, loss = transfer_forward(MODEL, student, MODEL, pair[1], IMAGES, layers=layers)
    number = 3 if layers is None else 1
    np.testing.assert_allclose(loss, number * np.log(17), rtol=2e-3)


def test_the_loss_is_the_mean_over_images(pair):
    student, teacher = pair
    forward = partial(paired_forward, Transfer("distill"), MODEL, student, MODEL, teacher)
    logits, per_image = forward(IMAGES)
    assert per_image.shape == (3,)
    whole = transfer_forward(MODEL, student, MODEL, teacher, IMAGES)
    np.testing.assert_allclose(whole[1], per_image.mean(), rtol=1e-6)
    # An image has no part in what comes of the others.
    other_logits, other = forward(IMAGES * np.array([1, 1, -1], np.float32)[:, None, None, None])
    np.testing.assert_allclose(other[:2], per_image[:2], rtol=1e-5)
    np.testing.assert_allclose(other_logits[:2], logits[:2], rtol=1e-4, atol=1e-5)
    assert abs(other[2] - per_image[2]) > 1e-3

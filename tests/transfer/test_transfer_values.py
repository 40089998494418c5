"""What distillation adds up to: with and without maps, by layers and heads, scanned or not."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.models.attention import kernels
from vit_jax_xfer.models.extract import extract
from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.pretrained.parameter_rules import stack_blocks
from vit_jax_xfer.transfer.forward import transfer_forward

# The shapes of the published cases: run op by op, equal shapes are compiled once for all files.
IMAGES = np.random.default_rng(0).standard_normal((3, 32, 32, 3)).astype(np.float32)
FIELDS = {"image_size": 32, "patch_size": 8, "depth": 3, "num_heads": 3, "num_classes": 10}
STUDENT = TEACHER = VisionTransformer(width=48, **FIELDS)
# Heads of 8 channels beside the student's 16.
NARROW_TEACHER = VisionTransformer(width=24, **FIELDS)
DISTILLING = ("distill", "distill_q", "distill_k", "distill_v")


def draw(model, seed):
    """Random variables far from the initial ones, whose maps would be almost uniform."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(0.3 * rng.standard_normal(x.shape), x.dtype), shapes)


@pytest.fixture(scope="module")
def student_variables():
    return draw(STUDENT, 1)


@pytest.fixture(scope="module")
def teacher_variables():
    return draw(TEACHER, 2)


@pytest.mark.parametrize(("layers", "heads"), [(None, None), ((-1,), (2, 0))])
def test_whole_model_gradients_equal_the_map_form(monkeypatch, layers, heads):
    monkeypatch.setattr(kernels, "QUERY_BLOCK", 8)
    fields = {"depth": 2, "dtype": jnp.float64}

    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def gradients(variables, teacher_variables, images):
        def loss(variables, attention, materialize):
            return transfer_forward(
                STUDENT.clone(attention=attention, **fields),
                variables,
                NARROW_TEACHER.clone(attention=attention, **fields),
                teacher_variables,
                images,
                layers=layers,
                heads=heads,
                materialize=materialize,
            )[1]

        forms = [("plain", True), ("plain", False), ("blockwise", False)]
        return [jax.value_and_grad(loss)(variables, *form) for form in forms]

    with jax.enable_x64(True):
        inputs = draw(STUDENT, 1), draw(NARROW_TEACHER, 2), jnp.asarray(IMAGES)
        inputs = jax.tree.map(lambda x: x.astype(jnp.float64), inputs)
        wanted, *others = gradients(*inputs)
        assert wanted[0] > 1
        for got in others:
            jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12), got, wanted)


@pytest.mark.parametrize("mode", DISTILLING)
def test_loss_by_its_definition(student_variables, teacher_variables, mode):
    """Summed over the layers; averaged over images, heads and tokens (and channels)."""
    layers, heads = [2, 0], [1, 2]
    student, teacher = (
        extract(model, variables, IMAGES, attention=True, qkv=True, layers=layers)
        for model, variables in ((STUDENT, student_variables), (TEACHER, teacher_variables))
    )
    if mode == "distill":
        rows = -(teacher.attention * jnp.log(student.attention)).sum(-1)[:, :, heads]
    else:
        one, other = (getattr(out, mode[-1])[..., heads, :] for out in (student, teacher))
        rows = (one - other) ** 2
    wanted = rows.mean(axis=tuple(range(1, rows.ndim))).sum()
    for materialize in (False, True):
        logits, loss = transfer_forward(
            STUDENT,
            student_variables,
            TEACHER,
            teacher_variables,
            IMAGES,
            mode=mode,
            layers=layers,
            heads=heads,
            materialize=materialize,
        )
        np.testing.assert_allclose(loss, wanted, rtol=1e-5)
        # Distillation leaves the student's own output as it is.
        np.testing.assert_allclose(logits, student.logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["distill", "distill_v"])
def test_parts_add_up_to_the_whole(student_variables, teacher_variables, mode):
    def loss(**parts):
        networks = STUDENT, student_variables, TEACHER, teacher_variables
        return transfer_forward(*networks, IMAGES, mode=mode, **parts)[1]

    by_layer = [loss(layers=[layer]) for layer in range(3)]
    np.testing.assert_allclose(loss(), sum(by_layer), rtol=1e-5)
    np.testing.assert_allclose(loss(layers=[0, -1]), by_layer[0] + by_layer[2], rtol=1e-5)
    by_head = [loss(heads=[head]) for head in range(3)]
    np.testing.assert_allclose(loss(), sum(by_head) / 3, rtol=1e-5)


@pytest.mark.parametrize("mode", ["copy", "copy_v", "distill"])
def test_scanned_equals_unscanned(student_variables, teacher_variables, mode):
    stacked = [stack_blocks(x) for x in (student_variables, teacher_variables)]
    chosen = {"mode": mode, "layers": [2, 0], "heads": [1]}
    logits, loss = transfer_forward(
        STUDENT, student_variables, TEACHER, teacher_variables, IMAGES, **chosen
    )
    scanned = transfer_forward(
        STUDENT.clone(scan=True),
        stacked[0],
        TEACHER.clone(scan=True),
        stacked[1],
        IMAGES,
        **chosen,
    )
    np.testing.assert_allclose(scanned[0], logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scanned[1], loss, rtol=1e-5)


@pytest.mark.parametrize("mode", ["distill_q", "distill_v", "copy_k", "copy_v"])
def test_materialize_is_for_maps_alone(student_variables, teacher_variables, mode):
    def program(materialize):
        forward = partial(transfer_forward, mode=mode, materialize=materialize, layers=(0,))
        return str(
            jax.make_jaxpr(
                lambda s, t: forward(STUDENT, s, TEACHER, t, IMAGES)  # the same program
            )(student_variables, teacher_variables)
        )

    assert program(True) == program(False)

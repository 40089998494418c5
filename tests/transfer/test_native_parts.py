"""Every mode with a teacher of every native part, and a student that has it too."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.native import IMAGES, NATIVE, cross_entropy, draw, network
from vit_jax_xfer.models.attention import kernels
from vit_jax_xfer.models.extract import extract
from vit_jax_xfer.models.student import student_like
from vit_jax_xfer.pretrained.parameter_rules import stack_blocks
from vit_jax_xfer.transfer.forward import transfer_forward
from vit_jax_xfer.transfer.spec import MODES

OPTIMISE_LITTLE = {"xla_backend_optimization_level": 0}
BIASED = ("block_bias", "shared_bias")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(kernels, "QUERY_BLOCK", 8)


@pytest.mark.parametrize("part", NATIVE)
def test_a_student_with_its_teachers_weights_has_nothing_to_take(part):
    """Copies give its own logits, tensors are already equal, and maps are at their entropy."""
    teacher = network(**NATIVE[part])
    student = student_like(teacher, num_classes=10)
    variables = draw(teacher, 1)
    assert jax.tree.structure(draw(student, 1)) == jax.tree.structure(variables)
    own = extract(teacher, variables, IMAGES, attention=True)
    for mode in MODES:
        logits, loss = transfer_forward(student, variables, teacher, variables, IMAGES, mode=mode)
        np.testing.assert_allclose(logits, own.logits, rtol=2e-4, atol=2e-5, err_msg=mode)
        wanted = 0.0
        if mode == "distill":
            wanted = sum(cross_entropy(layer, layer) for layer in own.attention)
        np.testing.assert_allclose(loss, wanted, rtol=1e-5, err_msg=mode)


@pytest.mark.parametrize("part", NATIVE)
def test_maps_built_or_not_are_the_same(part):
    """Logits, loss and gradients, in a student with other weights than its teacher's."""
    teacher = network(**NATIVE[part], depth=1)
    student = student_like(teacher, num_classes=10)

    # One program for all four, for compiling is what takes the time.
    @partial(jax.jit, compiler_options=OPTIMISE_LITTLE)
    def all_forms(variables, teacher_variables):
        def total(variables, mode, materialize):
            networks = student, variables, teacher, teacher_variables
            options = {"mode": mode, "materialize": materialize}
            logits, loss = transfer_forward(*networks, IMAGES, **options)
            return 10 * loss + jnp.square(logits).mean(), (logits, loss)

        return [
            [
                jax.value_and_grad(total, has_aux=True)(variables, mode, maps)
                for maps in (True, False)
            ]
            for mode in ("distill", "copy")
        ]

    for (wanted, wanted_gradient), (got, gradient) in all_forms(draw(student, 1), draw(teacher, 2)):
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), got, wanted)
        largest = max(jnp.abs(x).max() for x in jax.tree.leaves(wanted_gradient))
        assert largest > 1e-2
        close = partial(np.testing.assert_allclose, rtol=1e-3, atol=2e-5 * largest)
        jax.tree.map(close, gradient, wanted_gradient)


@pytest.mark.parametrize("part", BIASED)
@pytest.mark.parametrize("student_part", [*BIASED, "layer_scale"])
@pytest.mark.parametrize("mode", ["distill", "copy"])
def test_a_bias_on_either_side(part, student_part, mode):
    """The teacher's map is the one after its bias, whatever the student adds to its own scores."""
    teacher, student = network(**NATIVE[part]), network(**NATIVE[student_part])
    for pair in ((student, teacher), (teacher, student)):
        own, other = draw(pair[0], 1), draw(pair[1], 2)
        maps = extract(pair[1], other, IMAGES, attention=True).attention
        logits, loss = transfer_forward(pair[0], own, pair[1], other, IMAGES, mode=mode)
        if mode == "distill":
            mine = extract(pair[0], own, IMAGES, attention=True).attention
            wanted = sum(cross_entropy(*layer) for layer in zip(maps, mine, strict=True))
            np.testing.assert_allclose(loss, wanted, rtol=1e-5)
        else:
            given = {f"blocks_{i}": {"attention": {"map": x}} for i, x in enumerate(maps)}
            wanted = pair[0].apply({**own, "given": given}, IMAGES)
            np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-5)
            assert np.abs(logits - pair[0].apply(own, IMAGES)).max() > 1e-2


def test_a_biased_student_keeps_its_bias_where_nothing_is_copied():
    """In heads and layers that are left out, and where queries alone are copied."""
    student, teacher = network(**NATIVE["block_bias"]), network()
    own, other = draw(student, 1), draw(teacher, 2)
    chosen = {"mode": "copy", "layers": [1], "heads": [0, 2]}
    logits, _ = transfer_forward(student, own, teacher, other, IMAGES, **chosen)
    maps, _ = transfer_forward(student, own, teacher, other, IMAGES, materialize=True, **chosen)
    np.testing.assert_allclose(logits, maps, rtol=1e-4, atol=1e-5)
    q = extract(teacher, other, IMAGES, qkv=True).q
    given = {f"blocks_{i}": {"attention": {"q": x}} for i, x in enumerate(q)}
    logits, _ = transfer_forward(student, own, teacher, other, IMAGES, mode="copy_q")
    wanted = student.apply({**own, "given": given}, IMAGES)
    np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("part", [*BIASED, "dinov3_rotary"])
@pytest.mark.parametrize(
    "options",
    [
        {"mode": "distill"},
        {"mode": "copy"},
        {"mode": "copy", "layers": [1], "heads": [2]},
    ],
)
def test_scanned_equals_unscanned(part, options):
    teacher, student = network(**NATIVE[part]), network(registers=NATIVE[part].get("registers", 0))
    own, other = draw(student, 1), draw(teacher, 2)
    wanted = transfer_forward(student, own, teacher, other, IMAGES, **options)
    got = transfer_forward(
        student.clone(scan=True),
        stack_blocks(own),
        teacher.clone(scan=True),
        stack_blocks(other),
        IMAGES,
        **options,
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), got, wanted)


@pytest.mark.parametrize("part", BIASED)
def test_no_gradient_reaches_a_biased_teacher(part):
    teacher = network(**NATIVE[part])
    variables, other = draw(teacher, 1), draw(teacher, 2)

    def total(other):
        logits, loss = transfer_forward(teacher, variables, teacher, other, IMAGES)
        copied, _ = transfer_forward(teacher, variables, teacher, other, IMAGES, mode="copy")
        return loss + jnp.square(logits).sum() + jnp.square(copied).sum()

    assert not any(x.any() for x in jax.tree.leaves(jax.grad(total)(other)))

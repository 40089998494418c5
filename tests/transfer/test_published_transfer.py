"""Attention transfer equals the authors' public code (2411.09702): values and gradients."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vit_jax_xfer as vjx
from vit_jax_xfer.pretrained import to_publisher_names

MODES = ("distill", "distill_q", "distill_k", "distill_v", "copy", "copy_q", "copy_k", "copy_v")
CASES = [f"{mode}_{end}_gap" for mode in MODES for end in ("end0", "end-1")]
CASES += ["distill_end0_cls", "copy_end0_cls"]
MAP_CASES = [case for case in CASES if case.split("_end")[0] in ("distill", "copy")]


@pytest.fixture(scope="module")
def case(golden_case):
    """case(name) → (meta, arrays, teacher's state, student's state)."""

    @cache
    def load(name):
        meta, arrays, state = golden_case(f"attention_transfer/{name}")
        teacher, student = (
            {key.removeprefix(who): x for key, x in state.items() if key.startswith(who)}
            for who in ("teacher.", "student.")
        )
        return meta, arrays, teacher, student

    return load


# Run op by op: the cases are many and share their shapes, so compiling each step costs more.
def step(student, teacher, mode, layers, materialize, variables, teacher_variables, io):
    """Cross-entropy + 3 · loss, its parts, and its gradient in the student's variables."""

    def total(variables):
        logits, loss = vjx.transfer_forward(
            student,
            variables,
            teacher,
            teacher_variables,
            io["image"],
            mode=mode,
            layers=layers,
            materialize=materialize,
        )
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), io["label"][:, None], axis=1)
        return -picked.mean() + 3 * loss, (logits, loss)

    return jax.value_and_grad(total, has_aux=True)(variables)


# Scanned and rematerialised steps are compiled, without optimisation, which halves the time.
compiled_step = jax.jit(
    step,
    static_argnums=(0, 1, 2, 3, 4),
    compiler_options={"xla_backend_optimization_level": 0},
)


def check(case, name, materialize=False, **fields):
    """One case, every number that the reference gives."""
    meta, arrays, teacher_state, student_state = case(name)
    teacher, teacher_variables = vjx.load_pretrained(teacher_state, num_heads=meta["heads"])
    student, variables = vjx.load_pretrained(student_state, num_heads=meta["heads"], **fields)
    io = {"image": arrays["image"], "label": arrays["label"].astype(np.int32)}
    mode, layers = meta["mode"], tuple(meta["layers"])
    (total, (logits, loss)), gradient = (compiled_step if fields else step)(
        student, teacher, mode, layers, materialize, variables, teacher_variables, io
    )
    np.testing.assert_allclose(logits, arrays["logits"], rtol=1e-4, atol=5e-6)
    np.testing.assert_allclose(total, arrays["total_loss"], rtol=2e-6)
    if mode.startswith("distill"):
        np.testing.assert_allclose(loss, arrays["distill_loss"], rtol=2e-6)
    else:
        assert loss == 0
    named = to_publisher_names(gradient, "supervised")
    assert set(meta["grad_names"]) == set(named)
    norms = [np.linalg.norm(named[key]) for key in meta["grad_names"]]
    # The teacher's maps leave nothing to a copied layer's q and k but rounding, hence atol.
    scale = arrays["grad_norms"].max()
    np.testing.assert_allclose(norms, arrays["grad_norms"], rtol=1e-4, atol=1e-6 * scale)


@pytest.mark.parametrize("name", CASES)
def test_without_maps(case, name):
    check(case, name)


# For the other modes `materialize` changes nothing: test_transfer_values.py.
@pytest.mark.parametrize("name", MAP_CASES)
def test_with_maps(case, name):
    check(case, name, materialize=True)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("distill_end-1_gap", {"scan": True, "remat": "dots"}),
        ("copy_end-1_gap", {"scan": True}),
        ("distill_end0_cls", {"remat": "full"}),
    ],
)
def test_scanned_and_rematerialised(case, name, fields):
    check(case, name, **fields)


@pytest.mark.parametrize("name", ["distill_end0_gap", "copy_end0_cls"])
def test_each_network_alone(case, name):
    meta, arrays, teacher, student = case(name)
    for who, state in (("teacher", teacher), ("student_alone", student)):
        model, variables = vjx.load_pretrained(state, num_heads=meta["heads"])
        out = vjx.extract(model, variables, arrays["image"], attention=True)
        np.testing.assert_allclose(out.logits, arrays[f"{who}_logits"], rtol=1e-4, atol=5e-6)
        np.testing.assert_allclose(out.attention, arrays[f"{who}_attn"], rtol=1e-5, atol=1e-7)

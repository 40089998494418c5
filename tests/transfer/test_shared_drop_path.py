"""Stochastic depth in a pair: the student's own, or the same branches dropped in both."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.transfer.forward import transfer_forward

# The shapes of the published cases: run op by op, equal shapes are compiled once for all files.
IMAGES = np.random.default_rng(0).standard_normal((3, 32, 32, 3)).astype(np.float32)
FIELDS = {"image_size": 32, "patch_size": 8, "width": 48, "depth": 3, "num_heads": 3}
STUDENT = VisionTransformer(num_classes=10, drop_path=0.5, **FIELDS)
TEACHER = VisionTransformer(num_classes=10, **FIELDS)
RNGS = {"dropout": jax.random.key(3)}


@pytest.fixture(scope="module")
def variables():
    shapes = jax.eval_shape(TEACHER.init, jax.random.key(0), IMAGES)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: jnp.asarray(0.3 * rng.standard_normal(x.shape), x.dtype), shapes)


def forward(variables, train=True, rngs=RNGS, **options):
    return transfer_forward(
        STUDENT, variables, TEACHER, variables, IMAGES, train=train, rngs=rngs, **options
    )


@pytest.mark.parametrize("materialize", [False, True])
def test_shared_masks_make_a_copy_from_oneself_exact(variables, materialize):
    wanted = STUDENT.apply(variables, IMAGES, True, rngs=RNGS)
    # The whole teacher's maps under the same masks are the student's own; alone they are not.
    for shared in (True, False):
        options = {"mode": "copy", "materialize": materialize, "share_drop_path": shared}
        logits, _ = forward(variables, **options)
        assert np.allclose(logits, wanted, rtol=1e-4, atol=1e-5) == shared


def test_shared_masks_leave_nothing_to_distil(variables):
    losses = {
        shared: forward(variables, mode="distill_k", share_drop_path=shared)[1]
        for shared in (True, False)
    }
    assert losses[True] == 0
    assert losses[False] > 1e-3


def test_nothing_is_dropped_outside_training(variables):
    logits, loss = forward(
        variables, train=False, rngs=None, mode="distill_k", share_drop_path=True
    )
    np.testing.assert_allclose(logits, TEACHER.apply(variables, IMAGES), rtol=1e-6)
    assert loss == 0
    other = STUDENT.apply(variables, IMAGES, True, rngs=RNGS)
    assert np.abs(other - logits).max() > 1e-2

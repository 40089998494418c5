"""Networks equal their publishers' code: timm's vision transformers and MAE's pre-training."""

from functools import partial

import jax
import numpy as np
import pytest

import vit_jax_xfer as vjx
from vit_jax_xfer.pretrained import to_publisher_names


@pytest.mark.parametrize("fields", [{}, {"scan": True}, {"attention": "blockwise"}])
@pytest.mark.parametrize("name", ["supervised_cls", "mae_gap"])
def test_timm(golden_case, name, fields):
    meta, arrays, state = golden_case(f"timm/{name}")
    model, variables = vjx.load_pretrained(state, num_heads=meta["num_heads"], **fields)
    out = vjx.extract(model, variables, arrays["image"], attention="attention" not in fields)
    np.testing.assert_allclose(out.tokens, arrays["tokens"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(out.logits, arrays["logits"], rtol=1e-4, atol=5e-6)
    if out.attention is not None:
        np.testing.assert_allclose(out.attention, arrays["attn"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "fields"), [("normpix_0", {}), ("normpix_1", {}), ("normpix_1", {"scan": True})]
)
def test_masked_pretraining(golden_case, name, fields):
    meta, arrays, state = golden_case(f"mae_pretrain/{name}")
    model, variables = vjx.load_pretrained(
        state, num_heads=meta["heads"], decoder_num_heads=meta["decoder"]["heads"], **fields
    )

    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    @partial(jax.value_and_grad, has_aux=True)
    def step(variables):
        loss, prediction, mask = vjx.mae_forward(
            model,
            variables,
            arrays["image"],
            noise=arrays["noise"],
            mask_ratio=meta["mask_ratio"],
            norm_pix_loss=meta["norm_pix_loss"],
        )
        return loss, (prediction, mask)

    (loss, (prediction, mask)), gradient = step(variables)
    np.testing.assert_allclose(loss, arrays["loss"], rtol=2e-6)
    np.testing.assert_array_equal(mask, arrays["mask"])
    np.testing.assert_allclose(prediction, arrays["pred"], rtol=1e-4, atol=1e-5)
    named = to_publisher_names(gradient, "mae")
    norms = [np.linalg.norm(named[key]) for key in meta["grad_names"]]
    atol = 1e-6 * arrays["grad_norms"].max()
    np.testing.assert_allclose(norms, arrays["grad_norms"], rtol=1e-4, atol=atol)

"""Logits and pixels are float32 at any type of activations: rounding hides no class."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.models.filter.filter_blocks import Stage
from vit_jax_xfer.models.filter.network import FilterViT
from vit_jax_xfer.models.mae import MaskedAutoencoder
from vit_jax_xfer.models.vit import VisionTransformer

SMALL = {"image_size": 8, "patch_size": 4, "width": 16, "depth": 1, "num_heads": 2}
CLASSES = {**SMALL, "num_classes": 3}
BARE = VisionTransformer(**SMALL, num_classes=0, pool="none", dtype=jnp.bfloat16)
FILTER = {
    "stages": (Stage("full", 8, 2),),
    "image_size": 15,
    "stem_width": 8,
    "num_classes": 3,
    "dtype": jnp.bfloat16,
}
# A network, and where the last layer is that makes its result.
CASES = {
    "cls": (VisionTransformer(**CLASSES, dtype=jnp.bfloat16), "head"),
    "avg": (VisionTransformer(**CLASSES, pool="avg", dtype=jnp.bfloat16), "head"),
    "attention pooling": (VisionTransformer(**CLASSES, pool="map", dtype=jnp.bfloat16), "head"),
    "distillation": (
        VisionTransformer(**CLASSES, distillation_token=True, dtype=jnp.bfloat16),
        "distillation_classifier",
    ),
    "filter": (FilterViT(**FILTER, head_width=8), "head"),
    "filter, one layer": (FilterViT(**FILTER, head_width=0), "head"),
    "pixels": (MaskedAutoencoder(BARE, 16, 1, 2), "decoder_pred"),
}


@pytest.mark.parametrize("case", CASES)
def test_kernels_that_differ_by_less_than_bfloat16_give_different_logits(case):
    model, last = CASES[case]
    params = dict(jax.tree.map(np.array, model.init_variables(jax.random.key(0))))
    kernel = params["params"][last]["kernel"]
    kernel[:, 0] = np.asarray(kernel[:, 0], jnp.bfloat16)
    kernel[:, 1] = kernel[:, 0] * (1 + 2**-11)
    rounded = np.asarray(kernel, jnp.bfloat16)
    np.testing.assert_array_equal(rounded[:, 0], rounded[:, 1])
    if case == "distillation":  # only the second head tells them apart
        params["params"]["head"]["kernel"][:, 1] = params["params"]["head"]["kernel"][:, 0]
    shapes = model.example_inputs()
    images = jax.random.uniform(jax.random.key(1), shapes[0].shape)
    result = jax.tree.leaves(model.apply(params, images, *(jnp.zeros(x.shape) for x in shapes[1:])))
    assert result[0].dtype == jnp.float32
    first, second = np.asarray(result[0][..., 0]), np.asarray(result[0][..., 1])
    assert np.all(first != second)

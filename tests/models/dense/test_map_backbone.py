"""LiFT after an encoder: each map doubled from the images, strides halved."""

import jax
import numpy as np
import pytest

import vit_jax_xfer as vjx
from vit_jax_xfer.models.dense.map_backbone import MapBackbone

FIELDS = {"image_size": 16, "width": 8, "depth": 2, "num_heads": 2}


@pytest.mark.parametrize("layers", [None, (0, -1)])
def test_maps_are_doubled_from_the_images(layers):
    encoder = vjx.create_model("vit_micro_patch4", **FIELDS).headless()
    lift = vjx.create_model("convex_lift", patch_size=4, width=8, radius=1, key_width=4, hidden=4)
    backbone = MapBackbone(encoder, lift, layers)
    images = np.random.default_rng(0).normal(size=(2, 16, 24, 3)).astype(np.float32)

    @jax.jit
    def run(key, images):
        variables = backbone.init(key, images)
        inside = {
            name: {kind: tree[name] for kind, tree in variables.items() if name in tree}
            for name in ("encoder", "lift")
        }
        maps = encoder.apply(inside["encoder"], images, layers=layers, method="feature_maps")
        doubled = [lift.apply(inside["lift"], images, x) for x in maps]
        return backbone.apply(variables, images), doubled

    found, wanted = run(jax.random.key(0), images)
    number = 1 if layers is None else 2
    assert (backbone.strides, backbone.widths) == ((2,) * number, (8,) * number)
    assert len(found) == number and found[0].shape == (2, 8, 12, 8)
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_of_several_strides_the_coarsest_is_doubled():
    encoder = vjx.create_model("filter_vit_micro").headless()
    lift = vjx.create_model("lift", patch_size=8, width=64)
    assert MapBackbone(encoder).strides == (4, 8)
    assert MapBackbone(encoder, lift).strides == (4,)
    with pytest.raises(ValueError, match="stride 8 and width 64; the backbone's have stride 2"):
        MapBackbone(encoder, lift, (0, -1)).strides  # noqa: B018

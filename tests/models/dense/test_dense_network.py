"""An encoder by its name, its maps, LiFT after it, and a head: fields, parameters, two halves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.models import registry
from vit_jax_xfer.models.dense.dense_network import DenseNetwork
from vit_jax_xfer.models.dense.feature_pyramid import FeaturePyramid

VIT = {"backbone": "vit_micro_patch4", "image_size": 16, "width": 8, "depth": 2, "num_heads": 2}


class ToyNetwork(DenseNetwork):
    """A pyramid of the maps."""

    predicts = "boxes"
    heads = starts_afresh = ("pyramid",)
    num_classes: int = 3

    def setup(self):
        super().setup()
        self.pyramid = FeaturePyramid(4, extra=0)

    def __call__(self, images, train=False):
        return self.decode(self.encode(images, train), train)

    def decode(self, maps, train=False):
        return self.pyramid(maps)


@pytest.mark.parametrize(
    ("fields", "strides", "widths"),
    [
        (VIT, (4,), (8,)),
        ({**VIT, "layers": (0, -1), "scan": True}, (4, 4), (8, 8)),
        ({**VIT, "lift": "convex_lift"}, (2,), (8,)),
        ({**VIT, "backbone": "mae_vit_micro_patch8"}, (8,), (8,)),
        ({"backbone": "filter_vit_micro"}, (4, 8), (64, 64)),
        ({"backbone": "filter_vit_micro", "lift": "lift"}, (4,), (64,)),
    ],
)
def test_one_field_names_the_encoder(fields, strides, widths):
    model = registry.build(ToyNetwork, fields)
    assert (model.strides, model.widths) == (strides, widths)
    assert model.encoder.num_classes == 0 and model.num_classes == 3
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    inside = {"encoder", "pyramid", *(("lift",) if "lift" in fields else ())}
    assert set(variables["params"]) == inside
    maps = jax.eval_shape(lambda v, x: model.apply(v, x, method="encode"), variables, images)
    for x, stride, width in zip(maps, strides, widths, strict=True):
        assert x.shape[1] in (64 // stride, 64 // stride - 1) and x.shape[3] == width
    # The encoder is applied alone, with its part of the variables.
    alone = model.encoder_variables(variables)
    encoded = jax.eval_shape(
        lambda v, x: model.encoder.apply(v, x, layers=model.layers, method="feature_maps"),
        alone,
        images,
    )
    if "lift" not in fields:
        assert [x.shape for x in encoded] == [x.shape for x in maps]


def test_halves_are_the_whole():
    model = registry.build(ToyNetwork, {**VIT, "layers": (0, 1)})
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
    variables = model.init(jax.random.key(0), images)

    @jax.jit
    def both(variables, images):
        maps = model.apply(variables, images, method="encode")
        encoder = model.encoder
        result = encoder.apply(model.encoder_variables(variables), images)
        return (
            model.apply(variables, images),
            model.apply(variables, maps, method="decode"),
            maps,
            result,
        )

    whole, halves, maps, result = both(variables, images)
    jax.tree.map(np.testing.assert_array_equal, whole, halves)
    # What the encoder's own call gives is its last map; the first layer's is another.
    np.testing.assert_allclose(result, maps[1], atol=1e-6)
    assert np.abs(maps[0] - maps[1]).max() > 1e-3


def test_fields_go_where_they_belong():
    model = registry.build(ToyNetwork, {**VIT, "num_classes": 5, "drop_path": 0.1})
    assert (model.num_classes, model.encoder.drop_path, model.depth) == (5, 0.1, 2)
    other = model.with_fields(num_classes=4, attention="plain")
    assert (other.num_classes, other.encoder.attention) == (4, "plain")
    with pytest.raises(ValueError, match="FilterViT has no field 'patch_size'"):
        registry.build(ToyNetwork, {"backbone": "filter_vit_micro", "patch_size": 4})
    with pytest.raises(ValueError, match="a LiFT gives no feature maps"):
        registry.build(ToyNetwork, {"backbone": "lift"}).strides  # noqa: B018
    lifted = registry.build(ToyNetwork, {**VIT, "lift": "lift"})
    with pytest.raises(ValueError, match="lift: made for features of stride 4 and width 9"):
        lifted.clone(lift=lifted.lift.clone(width=9)).strides  # noqa: B018

"""The network of segmentation: its maps, its heads' sizes, its start, its fields."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vit_jax_xfer as vjx
from vit_jax_xfer.pretrained.description import describe, from_description
from vit_jax_xfer.pretrained.warm_start import start_from

SMALL = {"width": 8, "depth": 2, "num_heads": 2, "image_size": 16, "patch_size": 4}


def network(head="linear", backbone="vit_micro_patch4", **fields):
    own = {"channels": 4} if head in ("upernet", "setr_pup") else {}
    fields = {**SMALL, **own, **fields} if backbone[:9] == "vit_micro" else {**own, **fields}
    return vjx.create_model("segmentation", backbone=backbone, head=head, num_classes=5, **fields)


@pytest.mark.parametrize(
    ("head", "fields", "auxiliary"),
    [
        ("linear", {"lift": "lift"}, 0),
        ("upernet", {}, 1),
        ("upernet", {"auxiliary": False}, 0),
        ("upernet", {"backbone": "filter_vit_micro"}, 1),
        ("segmenter", {"scan": True}, 0),
        ("segmenter", {"width": 208, "num_heads": 4}, 0),
        ("setr_pup", {}, 2),
    ],
)
def test_every_head_gives_logits_of_the_images_size(head, fields, auxiliary):
    model = network(head, **fields)
    side = 48 if "backbone" in fields else 16
    images = jnp.zeros((2, side, side, 3))
    variables = jax.eval_shape(model.init_variables, jax.random.key(0))

    def both(variables, images):
        maps = model.apply(variables, images, method="encode")
        rest = {"rngs": {"dropout": jax.random.key(0)}, "mutable": ["batch_stats"]}
        plain = model.apply(variables, images)
        trained = model.apply(variables, maps, images, True, method="decode_all", **rest)
        return plain, trained

    logits, ((again, others), moved) = jax.eval_shape(both, variables, images)
    assert logits.shape == again.shape == (2, side, side, 5) and logits.dtype == jnp.float32
    assert [x.shape for x in others] == [logits.shape] * auxiliary
    assert ("batch_stats" in moved) == (head != "segmenter")
    assert from_description(json.loads(json.dumps(describe(model)))) == model


def blank(model):
    """Variables of which each is its own number everywhere."""
    leaves, tree = jax.tree.flatten(jax.eval_shape(model.init_variables, jax.random.key(0)))
    return tree.unflatten([np.full(x.shape, i, x.dtype) for i, x in enumerate(leaves)])


def test_a_plain_networks_weights_are_a_start():
    model = network()
    source = vjx.create_model("vit_micro_patch4", **{**SMALL, "image_size": 8}, num_classes=3)
    variables = blank(source)
    found = start_from(source, variables, model)
    assert set(found["params"]) == {"encoder"}
    own = found["params"]["encoder"]
    np.testing.assert_array_equal(own["norm"]["scale"], variables["params"]["norm"]["scale"])
    assert own["pos_embed"].shape == (1, 17, 8) and "head" not in own
    whole = start_from(model, blank(model), network(image_size=24))
    assert whole["params"]["encoder"]["pos_embed"].shape == (1, 37, 8)
    assert "pixel_head" in whole["params"]
    other = vjx.create_model("filter_vit_micro")
    shapes = jax.eval_shape(other.init_variables, jax.random.key(0))
    with pytest.raises(ValueError, match="a FilterViT; a VisionTransformer starts only from"):
        start_from(other, shapes, model)


def test_what_a_head_or_a_backbone_lacks_is_named():
    images = jnp.zeros((1, 16, 16, 3))
    for fields, words in (
        ({"head": "pyramid"}, "head: 'pyramid' is none of linear, upernet, segmenter, setr_pup"),
        ({"channels": 8}, "channels: the head 'linear' has none"),
        ({"head": "segmenter", "classifier_dropout": 0.1}, "classifier_dropout: .*'segmenter'"),
    ):
        model = network(**fields)
        with pytest.raises(ValueError, match=words):
            jax.eval_shape(model.init, jax.random.key(0), images)
    with pytest.raises(ValueError, match="no field 'keep'"):
        network(keep=0.5)
    with pytest.raises(ValueError, match="no field 'windth'; did you mean 'width'"):
        network(windth=3)
    with pytest.raises(ValueError, match="backbone: a LiFT gives no feature maps"):
        jax.eval_shape(network(backbone="lift_patch8").init, jax.random.key(0), images)

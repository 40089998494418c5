"""Which tokens the head reads, by how it pools."""

import jax
import jax.numpy as jnp
import numpy as np

import vit_jax_xfer as vjx
from vit_jax_xfer.explain.methods import attention_products as products
from vit_jax_xfer.explain.methods.watched_network import WatchedNetwork

IMAGES = np.zeros((1, 4, 4, 3), np.float32)
# Fields of a network of two by two patches, and how much its head reads of each token.
READS = (
    ({}, [1, 0, 0, 0, 0]),
    ({"registers": 1, "pool": "avg"}, [0, 0, 0.25, 0.25, 0.25, 0.25]),
    ({"pool": "avg_all"}, [0.2] * 5),
    ({"pool": "cls_avg"}, [0.5, 0.125, 0.125, 0.125, 0.125]),
    ({"pool": "avg_max"}, [0, 0.25, 0.25, 0.25, 0.25]),
    ({"distillation_token": True}, [0.5, 0.5, 0, 0, 0, 0]),
    ({"distillation_token": True, "pool": "avg"}, [0, 0.5, 0.125, 0.125, 0.125, 0.125]),
    ({"distillation_token": True, "distillation_head": False}, [1, 0, 0, 0, 0, 0]),
    ({"pool": "none", "num_classes": 0}, [1, 0, 0, 0, 0]),
    ({"pool": "none", "num_classes": 0, "class_token": False}, [0.25] * 4),
)


def opened(**fields):
    sizes = {"image_size": 4, "patch_size": 2, "width": 4, "depth": 1, "num_heads": 1}
    return WatchedNetwork(vjx.VisionTransformer(**{**sizes, "num_classes": 2, **fields}), {})


@jax.jit
def rows():
    """What is read of each token itself."""
    whole = [(opened(**fields), jnp.eye(len(row))[None]) for fields, row in READS]
    return [products.read_rows(network, IMAGES, identity)[0] for network, identity in whole]


def test_what_the_head_reads():
    for found, (fields, expected) in zip(rows(), READS, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, err_msg=str(fields))


def test_attention_pooling_reads_by_its_own_map():
    network = opened(pool="map_patches", registers=1, class_token=False)
    row = jnp.array([[[0.1, 0.2, 0.3, 0.4]]])
    joint = jnp.eye(5)[None].at[0, 4, 0].set(1.0)
    found = products.read_joint(network, IMAGES, joint, row)
    np.testing.assert_allclose(found[0], [0.4, 0.1, 0.2, 0.3, 0.4], rtol=1e-6)
    # A second head reads its own token, of the mean of both heads' logits.
    network = opened(pool="map_patches", class_token=False, distillation_token=True)
    found = products.read_joint(network, IMAGES, joint, row)
    np.testing.assert_allclose(found[0], [0.7, 0.05, 0.1, 0.15, 0.2], rtol=1e-6)

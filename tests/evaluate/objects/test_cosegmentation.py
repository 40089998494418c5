"""The common object of several images, whose features are known."""

import numpy as np
import pytest

from vit_jax_xfer.evaluate.objects.cosegmentation import cosegment


def scenes(number=4, noise=0.1):
    """A thing on a ground that is another one in every image, and where the thing is."""
    rng = np.random.default_rng(0)
    thing, *grounds = rng.standard_normal((number + 1, 12))
    maps, masks = [], []
    for n, ground in enumerate(grounds):
        mask = np.zeros((12, 14), bool)
        mask[3 : 8 + n % 2, 2 + n : 9 + n] = True
        features = np.where(mask[..., None], thing, ground)
        maps.append(features + noise * rng.standard_normal(features.shape))
        masks.append(mask)
    return maps, masks


@pytest.mark.parametrize("clusters", [None, 5])
def test_the_thing_is_cut_out(clusters):
    maps, masks = scenes()
    found = cosegment(maps, clusters)
    for mask, expected in zip(found.masks, masks, strict=True):
        np.testing.assert_array_equal(mask, expected)
    assert [one.shape for one in found.clusters] == [(12, 14)] * 4
    tried = []
    again = cosegment(maps, clusters, report=tried.append)
    assert again.common == found.common
    # Numbers are tried until one brings too little, which is not taken.
    assert tried == ([] if clusters else list(range(2, found.number + 2)))


def test_what_is_wrong():
    maps, _ = scenes()
    with pytest.raises(ValueError, match="maps: got 1 images, expected two or more"):
        cosegment(maps[:1])
    with pytest.raises(ValueError, match=r"maps\[1\]: .* NaN or infinite"):
        cosegment([maps[0], maps[1] * np.nan])
    with pytest.raises(ValueError, match="no cluster is on enough of the images"):
        cosegment([np.ones((3, 3, 2)), np.ones((3, 3, 2))])


def test_clusters_that_the_first_image_lacks_are_counted():
    maps = [np.tile(np.eye(4, 5)[0], (4, 4, 1)) for _ in range(3)]
    for number, one in enumerate(maps):
        one[1:3, 1:3] = np.eye(4, 5)[1 if number == 0 else 2]
    found = cosegment(maps, clusters=3, votes=0.3)
    assert found.number == 3 and max(one.max() for one in found.clusters) == 2
    assert min(one.max() for one in found.clusters) < 2

"""The order of images: that of grain, which 0.1 had, and every image once an epoch."""

import numpy as np
import pytest

from vit_jax_xfer.data.shuffled_order import ShuffledOrder

# A walk far beyond the set, one of few steps, numbers of 17 bits, and of 22.
SIZES = (2, 50, 1297, 60_000, 65_538, 70_000, 1_281_167)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_it_is_that_of_grain(size, seed):
    grain = pytest.importorskip("grain")
    theirs = grain.MapDataset.range(size).seed(seed).shuffle().repeat()
    ours = ShuffledOrder(size, seed)
    places = np.random.default_rng(0).integers(0, 9 * size, 20).tolist()
    places += [0, size - 1, size, 10**12]
    assert [ours[place] for place in places] == [int(theirs[place]) for place in places]


def test_numbers_that_stay():
    order = ShuffledOrder(1297, 3)
    assert [order[place] for place in (0, 1, 1296, 1297, 10**9)] == [104, 380, 1139, 531, 1120]
    assert ShuffledOrder(1, 3)[10**9] == 0


# Of 65,537 images grain leaves one out: its last number is a power of 2, a bit more.
@pytest.mark.parametrize("size", [3, 50, 5000, 65_537, 70_000])
def test_each_epoch_has_every_image_once_in_a_new_order(size):
    order = ShuffledOrder(size, 7)
    epochs = np.array([order[place] for place in range(2 * size)]).reshape(2, size)
    assert (np.sort(epochs) == np.arange(size)).all()
    assert size == 3 or (epochs[0] != epochs[1]).any()

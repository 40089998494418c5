"""Suites of tensorflow_datasets, by its mock: which sets, whose classes, what is refused."""

import numpy as np
import pytest

from vit_jax_xfer.suites import known_suites
from vit_jax_xfer.suites.imagenet_labels import synsets, synsets_of
from vit_jax_xfer.suites.known_suites import incomplete, open_suite

tfds = pytest.importorskip("tensorflow_datasets")
OUTPUTS = tuple(np.random.default_rng(3).permutation(synsets()).tolist())


@pytest.fixture(scope="module", autouse=True)
def mocked():
    with tfds.testing.mock_data(num_examples=4):
        yield


@pytest.mark.parametrize("name", ["imagenet", "sketch", "v2", "cifar10", "inaturalist2018"])
def test_labels_are_the_records_own(name):
    (one,) = open_suite(name, "tfds:", partial=True)
    records = [one.source.record(i)["label"] for i in range(4)]
    outputs = one.source.class_names[::-1]
    found = one.targets(outputs)[:, 0]
    assert [outputs[i] for i in found] == [one.source.class_names[label] for label in records]
    assert one.source[0]["image"].dtype == np.uint8
    assert incomplete(name, [one]).startswith("4 of ")


def test_real_has_several_right_classes():
    (one,) = open_suite("real", "tfds:", partial=True)
    for i, row in enumerate(one.targets(OUTPUTS)):
        right = {synsets()[label] for label in one.source.record(i)["real_label"]}
        assert {OUTPUTS[number] for number in row if number >= 0} == right and right


def test_a_and_r_are_scored_among_their_classes(monkeypatch):
    """tfds gives their labels as numbers of all 1,000 classes."""
    for name in ("a", "r"):
        (one,) = open_suite(name, "tfds:", partial=True)
        assert one.scored == synsets_of(name) and one.source.num_classes == 1000
        own = np.array([synsets().index(one) for one in synsets_of(name)][:4])
        monkeypatch.setattr(type(one.source), "labels", lambda source, own=own: own)
        assert [OUTPUTS[i] for i in one.targets(OUTPUTS)[:, 0]] == [synsets()[i] for i in own]


def test_what_tfds_has_not():
    with pytest.raises(ValueError, match="c: tfds makes its imagenet2012_corrupted anew, so no"):
        open_suite("c", "tfds:")
    with pytest.raises(ValueError, match="inaturalist2019: tfds has no such set; give a folder"):
        open_suite("inaturalist2019", "tfds:")
    with pytest.raises(ValueError, match="v2: tfds:imagenet_v2/matched-frequency/test has 4 im"):
        open_suite("v2", "tfds:")


def test_what_is_not_prepared(tmp_path, monkeypatch):
    def none(path, split, folder):
        assert (path, split, folder) == ("imagenet_a", "test", str(tmp_path))
        raise ValueError(f"spec: tfds:{path} is not prepared as array_record")

    monkeypatch.setattr("vit_jax_xfer.suites.tfds_suites.open_tfds", none)
    with pytest.raises(ValueError, match="^a: tfds:imagenet_a is not prepared as array_record"):
        open_suite("a", f"tfds:{tmp_path}")
    assert known_suites.TFDS == "tfds:"

"""Ranges of each class: classes on both sides, nothing twice, the same on every host and seed."""

import numpy as np
import pytest

from tests.data.sources.test_folder import make_tree
from vit_jax_xfer.data import open_source
from vit_jax_xfer.data.sources.split import is_stratified, split_name, stratified_range

# Classes of 2, 3, 10 and 41 examples, in one order of all.
LABELS = np.random.RandomState(7).permutation(np.repeat([0, 1, 2, 3], [2, 3, 10, 41]))


def both(percent, labels=LABELS):
    sides = (f"train[:{percent}%,stratified]", f"train[{percent}%:,stratified]")
    return [stratified_range(side, labels) for side in sides]


@pytest.mark.parametrize("percent", [1, 50, 80, 99])
def test_classes_are_on_both_sides_and_nothing_is_twice(percent):
    first, second = both(percent)
    assert sorted([*first, *second]) == list(range(len(LABELS)))
    for side in (first, second):
        assert set(LABELS[side]) == {0, 1, 2, 3} and np.all(np.diff(side) > 0)
    wanted = np.clip(np.round(np.array([2, 3, 10, 41]) * percent / 100), 1, [1, 2, 9, 40])
    assert np.bincount(LABELS[first]).tolist() == wanted.tolist()


def test_a_split_never_changes():
    # What a run's figures hang on: another numpy or another process must not move an image.
    assert both(80)[1].tolist() == [0, 3, 9, 19, 21, 25, 36, 39, 44, 47, 51, 53]
    names = ["train[-20%:,stratified]", "train[80%:100%,stratified]"]
    for name in names:
        assert stratified_range(name, LABELS).tolist() == both(80)[1].tolist()


def test_numbers_are_of_each_class():
    kept = stratified_range("test[:2,stratified]", LABELS)
    assert np.bincount(LABELS[kept]).tolist() == [2, 2, 2, 2]
    assert np.bincount(LABELS[stratified_range("x[2:,stratified]", LABELS)]).tolist() == [
        *(0, 1, 8, 39)
    ]
    with pytest.raises(ValueError, match="keeps none of the 56 examples"):
        stratified_range("x[50:,stratified]", LABELS)


def test_a_class_of_one_is_on_the_first_side():
    first, second = both(80, np.array([0, 1, 1, 1, 1, 1]))
    assert 0 in first and 0 not in second and len(second) == 1


def test_names():
    assert split_name("train[:80%,stratified]") == "train" and is_stratified("t[1:,stratified] ")
    assert not is_stratified("train[:80%]")
    with pytest.raises(ValueError, match=r"expected a name with an optional range such as"):
        split_name("train[:80%,sorted]")


def test_of_sources(tmp_path):
    make_tree(tmp_path, classes=("ant", "bee", "cat"), images=5)
    sides = [open_source(f"folder:{tmp_path}", f"train[{r},stratified]") for r in (":80%", "80%:")]
    assert [np.bincount(side.labels()).tolist() for side in sides] == [[4, 4, 4], [1, 1, 1]]
    few = open_source(f"folder:{tmp_path}", "train[:80%,stratified]", per_class=2, subset_seed=5)
    held_out = {sides[1][i]["name"] for i in range(3)}
    assert held_out.isdisjoint(few[i]["name"] for i in range(6))  # no seed takes them back
    # Without classes it is a range of one shuffle, where images may lie by what they show.
    flat = open_source(f"folder:{tmp_path / 'train' / 'ant'}", "train[:40%,stratified]")
    assert flat.indices.tolist() == [0, 2]

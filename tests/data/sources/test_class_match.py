"""Classes by name: other orders, fewer, renamed ones; maps from files; error texts."""

import json

import numpy as np
import pytest

from vit_jax_xfer.data.sources.arrays import ArraySource
from vit_jax_xfer.data.sources.class_match import match_classes, read_class_map, rename_classes
from vit_jax_xfer.suites.imagenet_labels import LANDMARKS, are_imagenets, synsets

MODEL = ("ant", "bee", "cat", "dog")


def test_another_order_and_fewer_classes():
    match = match_classes(("dog", "ant"), MODEL)
    assert match(np.array([0, 1, 1])).tolist() == [3, 0, 0] and match.table.dtype == np.int32
    assert match.lacking == ("bee", "cat") and not match.numbers
    assert match.present(5).tolist() == [True, False, False, True, False]


def test_several_of_a_set_may_be_one_class():
    assert match_classes(("dog", "ant", "dog"), MODEL).table.tolist() == [3, 0, 3]


def test_accents_in_either_code():
    # One letter, or a letter and its accent, as macOS names folders.
    one, two = "caf\u00e9", "cafe\u0301"
    for own, wanted in ((one, two), (two, one)):
        match = match_classes((own, "ant"), ("ant", wanted, "bee"))
        assert match.table.tolist() == [1, 0] and match.lacking == ("bee",)


def test_numbers_are_names_too():
    folders = ("0", "1", "10", "11", "2")  # as folders sort
    match = match_classes(("0", "1", "2"), folders)
    assert match.table.tolist() == [0, 1, 4] and not match.numbers
    assert match_classes(("0", "1"), ("0", "1", "2")).numbers


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (("ant", "dogs"), "its class 'dogs' is none of the model's 4; the nearest are 'dog', "),
        (("eel", "fox"), r"'eel' is none of the model's 4 \(and 1 more are not\)"),
    ],
)
def test_unknown_classes(own, message):
    with pytest.raises(ValueError, match=message):
        match_classes(own, MODEL)


def test_model_with_a_name_twice():
    with pytest.raises(ValueError, match="two of the model's classes are called 'crane'"):
        match_classes(("ant",), ("crane", "ant", "crane"))
    same = ("crane", "ant", "crane")
    assert match_classes(same, same).table.tolist() == [0, 1, 2]


def in_words():
    """ImageNet's names in words, as publishers write them: those that it is told by, and others."""
    return tuple(
        f"{LANDMARKS[i]}, its other name" if i in LANDMARKS else f"thing {i}" for i in range(1000)
    )


def test_imagenet_in_words_is_matched_by_wordnets_names_too():
    names, own = in_words(), (synsets()[340], synsets()[7])
    assert match_classes(own, names).table.tolist() == [340, 7]
    assert match_classes(synsets(), names).table.tolist() == list(range(1000))
    assert match_classes((names[340], names[7]), names).table.tolist() == [340, 7]
    swapped = (*names[:291], names[340], *names[292:340], names[291], *names[341:])
    for others in (swapped, names[:-1]):  # another order, fewer: not ImageNet's
        with pytest.raises(ValueError, match="its class 'n02391049' is none of the model's"):
            match_classes(own, others)


@pytest.mark.parametrize(
    ("written", "same"),
    [("zebra", True), ("Zebra, Equus", True), ("zebra_fish", True), ("zebras", False)],
)
def test_how_publishers_write_a_name(written, same):
    names = in_words()
    assert are_imagenets((*names[:340], written, *names[341:])) == same


def test_an_image_without_a_label():
    with pytest.raises(ValueError, match="without a label"):
        match_classes(("ant",), MODEL)(np.array([0, -1]))


def test_maps(tmp_path):
    pairs = {"n01": "ant", "n02": "two words, one comma"}
    (tmp_path / "map.json").write_text(json.dumps(pairs))
    (tmp_path / "map.txt").write_text("n01\tant\n\nn02\ttwo words, one comma\n")
    for form in (pairs, json.dumps(pairs), str(tmp_path / "map.json"), str(tmp_path / "map.txt")):
        assert read_class_map(form) == pairs


def test_renamed_source():
    source = ArraySource(np.zeros((2, 1, 1), np.uint8), np.array([1, 0]), ("n1", "dog"), "some")
    renamed = rename_classes(source, {"n1": "ant", "unused": "x"})
    assert renamed.class_names == ("ant", "dog") and renamed.num_classes == 2
    assert renamed[0]["label"] == 1 and renamed.labels().tolist() == [1, 0] and len(renamed) == 2
    with pytest.raises(ValueError, match="class_map: it renames 'ant', …, .*from the set's names"):
        rename_classes(source, {"ant": "n1"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n01 ant", "class_map: line 1 of .* is 'n01 ant', expected"),
        ("n01\tant\nn01\tbee", "class_map: line 2 of"),
        (None, "class_map: got .*No such file"),
    ],
)
def test_errors_of_text_files(tmp_path, text, message):
    path = tmp_path / "map.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_class_map(str(path))


def test_errors_of_json():
    for text, message in (("{1", "is no JSON"), ('{"a": 1}', "no JSON object from names to names")):
        with pytest.raises(ValueError, match=message):
            read_class_map(text)

"""Files of class names: lines, numbered lines, YAML, columns."""

import pytest

from vit_jax_xfer.data.sources.class_files import read_class_file


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.txt", "ant\n\nbig cat\n", {0: "ant", 1: "big cat"}),
        ("a.txt", "3: ant\n0 : cat: tabby\n", {3: "ant", 0: "cat: tabby"}),
        ("a.yaml", "names: [ant, cat]\n", {0: "ant", 1: "cat"}),
        ("a.yml", "classes:\n  7: ant\n", {7: "ant"}),
        ("a.txt", "Idx\tName\n1\tant, emmet\n", {1: "ant"}),
    ],
)
def test_names_by_id(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)
    assert read_class_file(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "there are none"),
        ("a.txt", "ant\nant\n", "'ant' is there twice"),
        ("a.txt", "1: ant\ncat\n", "line 'cat': expected an id"),
        ("a.txt", "1: ant\n1: cat\n", "line '1: cat'"),
        ("a.txt", "I\tN\nx\tant\n", "expected an id that wasn't there, tabs"),
        ("a.txt", "99999: ant\n", "ids are 99999"),
        ("a.yaml", "names: ant\n", "has no entry 'names'"),
        ("a.yaml", "[1, 2]", "has no entries"),
        ("a.yaml", "a: [", "it is no YAML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=f"spec: class names .*{name}: .*{message}"):
        read_class_file(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="No such file"):
        read_class_file(tmp_path / "a.txt")

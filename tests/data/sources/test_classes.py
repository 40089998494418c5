"""Some classes of a source: labels, names and images, lists, configs, error texts."""

import configparser
import json
import pathlib
import pickle
import re
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from tests.runs import tiny_config
from vit_jax_xfer.data import open_source
from vit_jax_xfer.data.sources.arrays import ArraySource
from vit_jax_xfer.data.sources.class_lists import BUILT_IN, built_in_lists, read_classes
from vit_jax_xfer.data.sources.classes import pick_classes
from vit_jax_xfer.data.sources.tfds import TfdsSource
from vit_jax_xfer.train.inputs import open_inputs


def make_tree(root, counts):
    """root/train/CLASS/*.png, so many a class, no two alike."""
    level = 0
    for name, count in counts.items():
        folder = root / "train" / name
        folder.mkdir(parents=True)
        for i in range(count):
            level += 1
            Image.new("RGB", (2, 3), (level, len(name), 0)).save(folder / f"{i}.png")
    return f"folder:{root}"


def make_npz(path, labels, **arrays):
    images = np.arange(len(labels) * 4, dtype=np.uint8).reshape(-1, 2, 2)
    np.savez(path, train_images=images, train_labels=np.array(labels), **arrays)
    return f"npz:{path}"


def assert_same_source(got, expected):
    assert (got.class_names, got.num_classes) == (expected.class_names, expected.num_classes)
    assert len(got) == len(expected) and got.labels().dtype == np.int64
    np.testing.assert_array_equal(got.labels(), expected.labels())
    for i in range(len(expected)):
        assert type(got[i]["label"]) is int and got[i]["label"] == expected[i]["label"]
        np.testing.assert_array_equal(got[i]["image"], expected[i]["image"])


@pytest.fixture
def animals(tmp_path):
    return make_tree(tmp_path / "animals", {"dog": 3, "ant": 2, "Cat": 4, "bee": 1})


def test_a_folder_is_as_if_it_had_no_other_classes(animals, tmp_path):
    for names in ("dog,Cat", "bee, dog ,ant"):
        kept = tmp_path / f"kept {names}"
        for name in names.split(","):
            target = kept / "train" / name.strip()
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(tmp_path / "animals" / "train" / name.strip())
        assert_same_source(open_source(animals, classes=names), open_source(f"folder:{kept}"))
    assert open_source(animals, classes="dog,Cat").class_names == ("Cat", "dog")
    assert_same_source(open_source(animals, classes="bee,dog,Cat,ant"), open_source(animals))
    assert_same_source(open_source(animals, classes=""), open_source(animals))


def test_arrays_without_names_have_numbers_sorted_as_strings(tmp_path):
    source = open_source(make_npz(tmp_path / "x.npz", [10, 3, 0, 3, 10, 7]), classes="3,10")
    assert source.class_names == ("10", "3")
    assert source.labels().tolist() == [0, 1, 1, 0] == [source[i]["label"] for i in range(4)]
    assert [source[i]["image"][0, 0, 0] for i in range(4)] == [0, 4, 12, 16]


def test_names_in_another_order_than_sorted(tmp_path):
    names = np.array(["zebra", "ant", "cow"])
    spec = make_npz(tmp_path / "x.npz", [0, 1, 2, 0], class_names=names)
    source = open_source(spec, classes="zebra,cow")
    assert source.class_names == ("cow", "zebra") and source.labels().tolist() == [1, 0, 1]
    assert open_source(spec, classes="zebra,ant,cow").labels().tolist() == [2, 0, 1, 2]


def test_images_without_a_label_are_left_out():
    pixels = np.arange(5, dtype=np.uint8)[:, None, None]
    source = ArraySource(pixels, np.array([2, -1, 0, -1, 1]), ("a", "b", "c"), "some")
    kept = pick_classes(source, "a,c")
    assert kept.labels().tolist() == [1, 0]
    assert [kept[i]["image"][0, 0, 0] for i in range(2)] == [0, 2]
    none = ArraySource(pixels, np.full(5, -1), ("a", "b", "c"), "none")
    with pytest.raises(ValueError, match="classes: none has no image of the classes 'a,c'"):
        pick_classes(none, "a,c")


def test_split_then_classes_then_per_class(animals):
    digits = open_source("digits", "train[:50%]", classes="3,5,8")
    part = open_source("digits", "train[:50%]").labels()
    assert np.bincount(digits.labels()).tolist() == [(part == k).sum() for k in (3, 5, 8)]
    few = open_source("digits", "train[:50%]", classes="3,5,8", per_class=4, subset_seed=1)
    assert np.bincount(few.labels()).tolist() == [4, 4, 4] and few.num_classes == 3
    assert few.class_names == ("3", "5", "8") and few[5]["label"] == few.labels()[5]
    # "bee" has too few images for this, but is not among the classes.
    assert len(open_source(animals, classes="dog,ant", per_class=2)) == 4
    with pytest.raises(ValueError, match="per_class: got 2, but class 'bee'"):
        open_source(animals, classes="dog,bee", per_class=2)
    # A range may leave a chosen class without images; the labels stay.
    assert open_source(animals, "train[:50%]", classes="Cat,dog").num_classes == 2


def test_labels_of_records_are_read_once():
    class Records(list):
        reads = 0

        def __getitem__(self, index):
            Records.reads += 1
            return super().__getitem__(index)

    image = np.zeros((2, 2, 3), np.uint8)
    records = Records({"image": image, "label": i % 3} for i in range(12))
    source = TfdsSource(records, "image", "label", ("n1", "n2", "n3"), "tfds:x/train")
    kept = pick_classes(source, "n1,n3")
    assert Records.reads == 12
    assert kept.labels().tolist() == [0, 1] * 4 and kept.name == "tfds:x/train, 2 classes"
    assert Records.reads == 12


def test_pickling():
    source = open_source("digits", "test", classes="3,5")
    assert_same_source(pickle.loads(pickle.dumps(source)), source)


def test_a_file_of_names(animals, tmp_path, monkeypatch):
    file = tmp_path / "names.txt"
    file.write_bytes("\ufeffdog\r\n\r\n  bee \n".encode())
    assert read_classes(str(file)) == ("bee", "dog")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_source(animals, classes="~/names.txt").labels().tolist() == [0, 1, 1, 1]
    # A name with a comma in it has to stand in a file.
    file.write_text("ant, red\nbee\n")
    assert read_classes(str(file)) == ("ant, red", "bee")


def test_built_in_lists(shared):
    assert built_in_lists() == tuple(f"imagenet100/{k}" for k in range(1, 6))
    published = json.loads((shared / "facts/imagenet100_subsets.json").read_text())
    for key, names in published.items():
        assert read_classes(f"imagenet100/{key}") == tuple(sorted(names))


def test_built_in_lists_are_what_the_repository_has():
    """Figures that were taken from the published lists when they were fetched."""
    lists = [set(read_classes(name)) for name in built_in_lists()]
    assert [len(names) for names in lists] == [100] * 5 and len(set.union(*lists)) == 408
    assert all(re.fullmatch(r"n\d{8}", name) for names in lists for name in names)
    shared_by_two = [len(a & b) for a, b in combinations(lists, 2)]
    assert shared_by_two == [14, 10, 9, 10, 15, 3, 10, 11, 10, 10]


def test_a_built_in_list_on_a_folder(tmp_path):
    names = read_classes("imagenet100/5")
    spec = make_tree(tmp_path / "imagenet", {name: 1 for name in (*names, "n00000001")})
    source = open_source(spec, classes="imagenet100/5")
    assert source.class_names == names and source.labels().tolist() == list(range(100))
    with pytest.raises(ValueError, match=r"'n\d{8}' is not in folder:.*\(and \d\d more are not\)"):
        open_source(spec, classes="imagenet100/1")


def test_an_installed_package_has_the_lists_and_the_digits():
    config = configparser.ConfigParser()
    config.read(pathlib.Path(__file__).parents[3] / "setup.cfg")
    patterns = config["options.package_data"]["vit_jax_xfer.data"].split()
    packed = {path for pattern in patterns for path in BUILT_IN.parent.glob(pattern)}
    lists = {path for path in BUILT_IN.rglob("*") if path.is_file()}
    assert lists and packed == {*lists, BUILT_IN.parent / "digits.npz"}


def test_all_streams_of_a_run_have_the_same_classes():
    fields = {"unlabeled__source": "digits", "unlabeled__batch_size": 4, "data__per_class": 2}
    inputs = open_inputs(tiny_config("scratch", data__classes="5,3", **fields))
    assert inputs.num_classes == 2 and len(inputs.train) == 4
    assert inputs.eval.class_names == inputs.unlabeled.class_names == ("3", "5")
    wanted = np.isin(open_source("digits").labels(), (3, 5)).sum()
    assert len(inputs.unlabeled) == wanted
    assert len(inputs.eval) == np.isin(open_source("digits", "test[:80]").labels(), (3, 5)).sum()
    everything = open_inputs(tiny_config("scratch", **fields))
    assert everything.num_classes == 10 and len(everything.unlabeled) == 1297


def test_another_set_without_labels_is_taken_whole(animals):
    fields = {"unlabeled__source": animals, "unlabeled__batch_size": 4, "data__classes": "3,5"}
    assert len(open_inputs(tiny_config("scratch", **fields)).unlabeled) == 10


def test_another_set_for_evaluation_must_have_the_classes(tmp_path, animals):
    spec = make_npz(tmp_path / "x.npz", [5, 4, 3, 3])
    fields = {"eval__source": spec, "eval__split": "train", "data__classes": "3,5"}
    assert open_inputs(tiny_config("scratch", **fields)).eval.labels().tolist() == [1, 0, 0]
    with pytest.raises(
        ValueError, match="^data.classes: '3' is not in folder:.*/train .and 1 more"
    ):
        open_inputs(tiny_config("scratch", **{**fields, "eval__source": animals}))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("dog,bees", "classes: 'bees' is not in folder:.*/train; the nearest of its 4 are 'bee', "),
        ("dog,ant,dog", "classes: 'dog' is there twice in 'dog,ant,dog'"),
        ("dog,", "classes: '' is not in"),
        ("dog", "classes: got 'dog', expected one of imagenet100/1, .*No such file.*two or more"),
        ("imagenet100/6", "classes: got 'imagenet100/6', expected one of imagenet100/1, "),
        ("x" * 300, "classes: got 'x.*File name too long"),
        ("/", "classes: got '/', .*Is a directory"),
    ],
)
def test_errors(animals, classes, message):
    with pytest.raises(ValueError, match=f"^{message}") as raised:
        open_source(animals, classes=classes)
    assert "\n" not in str(raised.value)


def test_errors_of_files(animals, tmp_path):
    file = tmp_path / "names.txt"
    for text, message in (("dog\n", "classes: got 1 in '.*names.txt', expected"), ("", "got 0")):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            open_source(animals, classes=str(file))
    file.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ValueError, match="it is no UTF-8 text"):
        open_source(animals, classes=str(file))


def test_errors_of_sources(animals, tmp_path):
    with pytest.raises(ValueError, match="classes: got 'a,b' for the unlabelled source folder:"):
        open_source(f"folder:{tmp_path / 'animals' / 'train' / 'dog'}", classes="a,b")
    spec = make_npz(tmp_path / "x.npz", [0, 1, 2], class_names=np.array(["crane", "ox", "crane"]))
    with pytest.raises(ValueError, match="classes: npz:.* has two classes of the name 'crane'"):
        open_source(spec, classes="crane,ox")
    with pytest.raises(ValueError, match=r"^data.classes: '77' is not in digits/train;"):
        open_inputs(tiny_config("scratch", data__classes="3,77"))

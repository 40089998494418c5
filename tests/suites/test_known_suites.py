"""Suites as users' folders have them: nested, packed, flat with a list, half there."""

import json
import pathlib
import shutil
import tarfile

import numpy as np
import pytest
from scipy.io import savemat

from tests.suites.imagenet_tree import make_tree, picture, save
from vit_jax_xfer.suites.imagenet_labels import CORRUPTIONS, SEVERITIES, synsets, synsets_of
from vit_jax_xfer.suites.known_suites import SUITES, incomplete, open_suite

OUTPUTS = tuple(np.random.default_rng(3).permutation(synsets()).tolist())


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The tree, and {suite: [(seed of an image, its right classes)]}."""
    root = tmp_path_factory.mktemp("tree")
    return root, make_tree(root, 6)


@pytest.fixture(scope="module")
def tree(written):
    return written[0]


@pytest.mark.parametrize("name", ["imagenet", "real", "a", "r", "sketch", "v2"])
def test_each_image_has_its_own_classes(name, written):
    root, truths = written
    right = {picture(seed).tobytes(): set(names) for seed, names in truths[name]}
    (one,) = open_suite(name, root, partial=True)
    for i, row in enumerate(one.targets(OUTPUTS)):
        outputs = {OUTPUTS[number] for number in row if number >= 0}
        assert outputs == right.pop(one.source[i]["image"].tobytes())
    assert not right


def found(root, name="imagenet"):
    """{file's name: names of its right classes} of a suite's only set."""
    (one,) = open_suite(name, root, partial=True)
    source = getattr(one.source, "source", one.source)
    right = one.targets(OUTPUTS)
    return {
        pathlib.PurePosixPath(file).name: {OUTPUTS[number] for number in row if number >= 0}
        for file, row in zip(source.files, right, strict=True)
    }


def test_folders_with_more_in_them_and_another_name(tree, tmp_path):
    usual = {name: found(tree, name) for name in ("imagenet", "a", "v2", "real")}
    shutil.copytree(tree / "imagenet-a", tmp_path / "ImageNet_A/imagenet-a")
    shutil.copytree(tree / "imagenet/val", tmp_path / "val")
    v2 = "imagenetv2-matched-frequency-format-val"
    shutil.copytree(tree / v2, tmp_path / "imagenet-v2" / v2)
    shutil.copy(tree / "imagenet/real.json", tmp_path / "real.json")
    for folder in list((tmp_path / "val").iterdir()):
        (folder / "._ILSVRC.JPEG").write_bytes(b"of macOS")
        folder.rename(folder.with_name(folder.name + "_some words, more"))
    (tmp_path / "ImageNet_A/imagenet-a/README.txt").write_text("of the authors")
    (tmp_path / "ImageNet_A/__MACOSX").mkdir()
    assert {name: found(tmp_path, name) for name in usual} == usual
    (one,) = open_suite("imagenet", tmp_path, partial=True)
    assert one.source.left_out and "6 × hidden name" in one.source.left_out[0]
    assert incomplete("imagenet", [one]) == "6 of 50,000 images, 6 of 1,000 classes"


@pytest.fixture
def flat(tree, tmp_path):
    """The validation images in one folder, as published; and {file: class}."""
    classes = {}
    (tmp_path / "val").mkdir()
    for file in (tree / "imagenet/val").glob("*/*"):
        shutil.copy(file, tmp_path / "val" / file.name)
        classes[file.name] = file.parent.name
    return tmp_path, classes


def lists(classes):
    """{file of a list: its text}, of every kind, and each says the same."""
    files = sorted(classes)
    number = {name: place for place, name in enumerate(synsets())}
    pairs = [(file, classes[file]) for file in reversed(files)]
    return {
        "synset_labels.txt": "\n".join(classes[file] for file in files) + "\n\n",
        "val_map.txt": "\n".join(f"{file}\t{name}" for file, name in pairs),
        "val.txt": "\n".join(f"val/{file} {number[name]}" for file, name in pairs),
        "LOC_val_solution.csv": "ImageId,PredictionString\n"
        + "\n".join(f"{file.partition('.')[0]},{name} 1 2 3 4 " for file, name in pairs),
        "ILSVRC2012_validation_ground_truth.txt": "\n".join(
            str(1000 - number[classes[file]]) for file in files
        ),
    }


def test_one_folder_with_any_list(flat, tree):
    root, classes = flat
    with pytest.raises(ValueError, match="imagenet: .*/val has no folders of classes, and no l"):
        open_suite("imagenet", root, partial=True)
    wanted = {file: {name} for file, name in classes.items()}
    for name, text in lists(classes).items():
        (root / name).write_text(text)
        if "ground_truth" in name:
            with pytest.raises(ValueError, match="are the development kit's own and not those of"):
                open_suite("imagenet", root, partial=True)
            rows = [(1000 - place, one) for place, one in enumerate(synsets())]
            kinds = [("ILSVRC2012_ID", "i4"), ("WNID", "U9")]
            savemat(root / "meta.mat", {"synsets": np.array(rows, kinds)})
        assert found(root) == wanted, name
        (root / name).unlink()
    (root / "README.txt").write_text("of the authors, with words")
    (root / "some name.csv").write_text(lists(classes)["val_map.txt"].replace("\t", ","))
    assert found(root) == wanted
    (root / "val_map.txt").write_text("other.JPEG n01440764")
    with pytest.raises(ValueError, match="val_map.txt has no class of ILSVRC2012_val_00000001"):
        open_suite("imagenet", root, partial=True)
    (root / "val_map.txt").write_text("\n".join(f"{file} 1000" for file in classes))
    with pytest.raises(ValueError, match="val_map.txt has the class '1000', expected n01440764"):
        open_suite("imagenet", root, partial=True)
    # ReaL has its classes in a list of its own.
    shutil.copy(tree / "imagenet/real.json", root)
    assert found(root, "real") == found(tree, "real")


def test_files_that_begin_with_their_class(tmp_path):
    for name in synsets()[5:8]:
        save(tmp_path / "val" / f"{name}_some_words.jpg", 1)
    right = {f"{name}_some_words.jpg": {name} for name in synsets()[5:8]}
    assert found(tmp_path) == right
    save(tmp_path / "val/other.jpg", 1)
    with pytest.raises(ValueError, match="has no folders of classes, and no list of them"):
        open_suite("imagenet", tmp_path, partial=True)


def test_the_archive_of_the_validation_images(flat, tree):
    root, classes = flat
    with tarfile.open(root / "ILSVRC2012_img_val.tar", "w") as archive:
        for file in classes:
            archive.add(root / "val" / file, file)
    shutil.rmtree(root / "val")
    (root / "synset_labels.txt").write_text(lists(classes)["synset_labels.txt"])
    assert found(root) == {file: {name} for file, name in classes.items()}
    shutil.copy(tree / "imagenet/real.json", root)
    assert found(root, "real") == found(tree, "real")


def test_what_has_to_be_unpacked_is_said(tmp_path):
    (tmp_path / "imagenetv2-matched-frequency.tar.gz").write_bytes(b"x")
    with pytest.raises(ValueError, match="v2: not below .*; unpack .*frequency.tar.gz"):
        open_suite("v2", tmp_path)


def test_a_class_that_the_set_has_not(tmp_path):
    other = next(name for name in synsets() if name not in synsets_of("a"))
    save(tmp_path / "imagenet-a" / other / "x.png", 1)
    (one,) = open_suite("a", tmp_path, partial=True)
    with pytest.raises(ValueError, match=f"a: .*its class '{other}' is none of the 200 that are"):
        one.targets(OUTPUTS)


def test_images_without_classes_are_no_set(tmp_path):
    for name in ("imagenet-a", "cifar10/test"):
        save(tmp_path / name / "x.png", 1)
    for name in ("a", "cifar10"):
        (one,) = open_suite(name, tmp_path, partial=True)
        with pytest.raises(ValueError, match=f"{name}: .* has images without a class"):
            one.targets(OUTPUTS)
    (tmp_path / "sketch/n01440764").mkdir(parents=True)
    with pytest.raises(ValueError, match="^sketch: class folder .*n01440764 holds no images"):
        open_suite("sketch", tmp_path, partial=True)


@pytest.mark.parametrize("packed", [False, True])
def test_corruptions_by_the_authors_archives(packed, tree, tmp_path):
    """noise, blur, weather and digital, as folders or archives; extra ones count for nothing."""
    groups = {"noise": CORRUPTIONS[:3], "blur": CORRUPTIONS[3:7], "rest": CORRUPTIONS[7:]}
    for group, corruptions in groups.items():
        for one in corruptions:
            shutil.copytree(tree / "imagenet-c" / one, tmp_path / "imagenet-c" / group / one)
    save(tmp_path / "imagenet-c/extra/speckle_noise/1/n01440764/x.png", 1)
    if packed:
        for group in groups:
            with tarfile.open(tmp_path / "imagenet-c" / f"{group}.tar", "w") as archive:
                for one in groups[group]:
                    archive.add(tmp_path / "imagenet-c" / group / one, one)
            shutil.rmtree(tmp_path / "imagenet-c" / group)
        (tmp_path / "imagenet-c/._noise.tar").write_bytes(b"of macOS")
    sets = open_suite("c", tmp_path, partial=True)
    usual = open_suite("c", tree, partial=True)
    assert [one.name for one in sets] == [one.name for one in usual] and len(sets) == 75
    for one, other in zip(sets[::20], usual[::20], strict=True):
        np.testing.assert_array_equal(one.targets(OUTPUTS), other.targets(OUTPUTS))
    with pytest.raises(ValueError, match=r"c/gaussian_noise/1: .* has 1 images of 1 classes, and"):
        open_suite("c", tmp_path)


def test_half_of_the_corruptions(tree, tmp_path):
    shutil.copytree(tree / "imagenet-c/fog", tmp_path / "imagenet-c/fog")
    shutil.rmtree(tmp_path / "imagenet-c/fog/5")
    message = r"c: .*imagenet-c lacks gaussian_noise/1, .*, … \(71 of 75 sets\); --partial takes"
    with pytest.raises(ValueError, match=message):
        open_suite("c", tmp_path)
    sets = open_suite("c", tmp_path, partial=True)
    assert [one.name for one in sets] == [f"c/fog/{severity}" for severity in (1, 2, 3, 4)]
    assert incomplete("c", sets) == "4 of 75 sets, 4 images"
    shutil.rmtree(tmp_path / "imagenet-c/fog")
    with pytest.raises(ValueError, match=r"\(75 of 75 sets\)$"):
        open_suite("c", tmp_path, partial=True)


def test_a_corrupted_set_of_ones_own(tmp_path):
    for corruption in ("haze", "blur"):
        for severity in (1, 3):
            for name in ("cat", "dog"):
                save(tmp_path / "corrupted" / corruption / str(severity) / name / "x.png", severity)
                save(tmp_path / "plain" / name / "x.png", 1)
    (plain,) = open_suite("plain", tmp_path)
    assert plain.targets(("eel", "dog", "cat")).tolist() == [[2], [1]]
    sets = open_suite("corrupted", tmp_path)
    names = ["corrupted/blur/1", "corrupted/blur/3", "corrupted/haze/1", "corrupted/haze/3"]
    assert [one.name for one in sets] == names
    assert sets[0].targets(("eel", "dog", "cat")).tolist() == [[2], [1]]
    shutil.rmtree(tmp_path / "corrupted/haze/3")
    with pytest.raises(ValueError, match=r"corrupted: .* lacks haze/3 \(1 of 4 sets\)"):
        open_suite("corrupted", tmp_path)


def test_a_network_that_calls_classes_otherwise(tree, tmp_path):
    """By a map from the set's names to the model's, of those that are predicted as well."""
    words = {name: f"word {number}" for number, name in enumerate(synsets())}
    outputs = tuple(words[name] for name in OUTPUTS)
    (tmp_path / "map.json").write_text(json.dumps(words))
    for name in ("real", "a", "v2"):
        (usual,) = open_suite(name, tree, True)
        (one,) = open_suite(name, tree, True, str(tmp_path / "map.json"))
        np.testing.assert_array_equal(one.targets(outputs), usual.targets(OUTPUTS))
        np.testing.assert_array_equal(one.predictable(outputs), usual.predictable(OUTPUTS))
    with pytest.raises(ValueError, match="its class 'n.*' is none of the model's 1000"):
        usual.targets(outputs)
    with pytest.raises(ValueError, match="class_map: it renames 'x', …, and none of these is a cl"):
        open_suite("a", tree, True, {"x": "y"})


def test_real_json_of_other_images(tree, tmp_path, monkeypatch):
    shutil.copytree(tree / "imagenet", tmp_path / "imagenet")
    monkeypatch.setitem(SUITES, "real", SUITES["real"].__class__(
        **{**vars(SUITES["real"]), "images": 6, "classes": 6}
    ))  # fmt: skip
    (tmp_path / "imagenet/real.json").write_text(json.dumps([[1]] * 6))
    with pytest.raises(ValueError, match="real: .*is about 6 images, of which 6 are scored, and"):
        open_suite("real", tmp_path)


def test_severities_are_those_of_the_authors():
    assert SEVERITIES == (1, 2, 3, 4, 5) and len(CORRUPTIONS) == 15

"""The command that writes a corrupted set, and the suite that reads it."""

import json
import os

import numpy as np
import pytest

from vit_jax_xfer.data.sources import open_source
from vit_jax_xfer.suites.corrupt import main
from vit_jax_xfer.suites.corruptions import corrupt_image
from vit_jax_xfer.suites.known_suites import open_suite

CLASSES = ("ship", "cat", "dog")  # not in the order of their names
LABELS = np.array([2, 0, 1, 0, 2, 1])


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(3)
    found = rng.integers(0, 256, (len(LABELS), 12, 12, 3)).astype(np.uint8)
    np.savez(
        tmp_path / "set.npz", test_images=found, test_labels=LABELS, class_names=np.array(CLASSES)
    )
    return found


def test_the_suite_reads_each_image_of_each_set(images, tmp_path, capsys):
    out, plain = tmp_path / "shift/corrupted", tmp_path / "shift/plain"
    data = f"npz:{tmp_path}/set.npz"
    assert main(["--data", data, "--out", str(out), "--plain", str(plain), "--seed", "5"]) == 0
    assert "90 images, 15 of each of 6" in capsys.readouterr().out
    found = {one.name: one for one in open_suite("corrupted", tmp_path / "shift")}
    assert len(found) == 15
    for corruption in ("fog", "pixelate"):
        one = found[f"corrupted/{corruption}/3"].source
        assert one.class_names == tuple(sorted(CLASSES))
        assert len(one) == len(LABELS)
        for file, place in zip(one.files, range(len(one)), strict=True):
            index = int(file[-9:-4])
            assert one.class_names[one[place]["label"]] == CLASSES[LABELS[index]]
            wanted = corrupt_image(images[index], corruption, 3, seed=5)
            np.testing.assert_array_equal(one[place]["image"], wanted)
    written = open_source(f"folder:{plain.parent}", "plain")
    for place, file in enumerate(written.files):
        np.testing.assert_array_equal(written[place]["image"], images[int(file[-9:-4])])
    about = json.loads((out / "corruptions.json").read_text())
    assert (about["seed"], about["images"], about["strengths"]["fog"]) == (5, 6, [0.3, 0.5, 0.7])
    assert sorted(path.name for path in out.parent.iterdir()) == ["corrupted", "plain"]


def test_some_images_of_each_class_at_a_size(images, tmp_path):
    out = tmp_path / "corrupted"
    data = f"npz:{tmp_path}/set.npz"
    assert main(["--data", data, "--out", str(out), "--per-class", "1", "--size", "8"]) == 0
    one = open_suite("corrupted", tmp_path)[0].source
    assert len(one) == 3
    assert sorted(one.labels()) == [0, 1, 2]
    assert one[0]["image"].shape == (8, 8, 3)


def test_what_a_killed_run_left_is_not_in_the_set(images, tmp_path):
    left = tmp_path / f".corrupted.{os.getpid()}.partial" / "fog" / "1" / "cat"
    left.mkdir(parents=True)
    (left / "99999.png").touch()
    data = f"npz:{tmp_path}/set.npz"
    assert main(["--data", data, "--out", str(tmp_path / "corrupted")]) == 0
    assert [len(one.source) for one in open_suite("corrupted", tmp_path)] == [len(images)] * 15


def test_what_is_wrong_is_one_line(images, tmp_path, capsys):
    data = f"npz:{tmp_path}/set.npz"
    (tmp_path / "there").mkdir()

    def error(*arguments):
        assert main(list(arguments)) == 1
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "--out: " in error("--data", data, "--out", str(tmp_path / "there"))
    new = str(tmp_path / "new")
    assert "--plain: " in error("--data", data, "--out", new, "--plain", str(tmp_path / "there"))
    for inside in (new, f"{new}/plain"):
        assert "--plain: " in error("--data", data, "--out", new, "--plain", inside)
    assert "--split: " in error("--data", data, "--split", "train", "--out", new)
    np.savez(tmp_path / "bare.npz", test_images=images)
    assert "without a class" in error("--data", f"npz:{tmp_path}/bare.npz", "--out", new)
    names = np.array(["a/b", "c", "d"])
    np.savez(tmp_path / "odd.npz", test_images=images, test_labels=LABELS, class_names=names)
    assert "'a/b'" in error("--data", f"npz:{tmp_path}/odd.npz", "--out", new)
    assert not (tmp_path / "new").exists()

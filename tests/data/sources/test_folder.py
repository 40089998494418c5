"""Image folders: layout, image modes, real photographs, broken files."""

import pickle
import shutil

import numpy as np
import pytest
from PIL import Image

from vit_jax_xfer.data import open_source
from vit_jax_xfer.data.sources import integrity

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def make_tree(root, split="train", classes=("cat", "ant"), images=2):
    for name in classes:
        folder = root / split / name
        folder.mkdir(parents=True)
        for i in range(images):
            Image.fromarray(PIXELS).save(folder / f"{i}.{'png' if i % 2 else 'JPEG'}")
    return root


def test_class_folders(tmp_path):
    make_tree(tmp_path)
    (tmp_path / "train" / "cat" / ".hidden.jpg").write_bytes(b"")
    (tmp_path / "train" / "cat" / "notes.txt").write_text("x")
    source = open_source(f"folder:{tmp_path}")
    assert source.class_names == ("ant", "cat") and len(source) == 4
    assert source.labels().tolist() == [0, 0, 1, 1]
    assert source[3]["label"] == 1 and type(source[3]["label"]) is int
    np.testing.assert_array_equal(source[1]["image"], PIXELS)
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy[0]["image"], source[0]["image"])
    assert len(open_source(f"folder:{tmp_path}", "train[:50%]")) == 2
    assert len(open_source(f"folder:{tmp_path}", per_class=1)) == 2


def test_unlabelled_folders(tmp_path):
    make_tree(tmp_path, split="a", classes=("b",))
    for split, spec in (("b", tmp_path / "a"), ("train", tmp_path / "a" / "b")):
        source = open_source(f"folder:{spec}", split)
        assert len(source) == 2 and source.num_classes == 0 and source[0]["label"] == -1


def test_real_photographs(shared, tmp_path):
    images = sorted((shared / "data/imagenet_sample_1000/images").iterdir())[:6]
    for i, path in enumerate(images):
        folder = tmp_path / "validation" / path.name.split("_")[0]
        folder.mkdir(parents=True)
        shutil.copy(path, folder / f"{i}.jpg")
    source = open_source(f"folder:{tmp_path}", "validation")
    assert source.num_classes == 6 and source.class_names[0] == "n01440764"
    for i, path in enumerate(images):
        np.testing.assert_array_equal(source[i]["image"], np.asarray(Image.open(path)))
    coco = open_source(f"folder:{shared / 'data/coco128/images'}", "train2017")
    assert coco[0]["image"].ndim == 3 and coco.num_classes == 0


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("L", "jpg"), ("CMYK", "jpg"), ("P", "png"), ("RGBA", "png"), ("LA", "png"), ("1", "png"),
     ("RGB", "webp"), ("RGB", "bmp"), ("P", "bmp")],
)  # fmt: skip
def test_modes_become_rgb(tmp_path, mode, suffix):
    image = Image.fromarray(PIXELS).convert(mode)
    image.save(tmp_path / f"x.{suffix}")
    expected = np.asarray(Image.open(tmp_path / f"x.{suffix}").convert("RGB"))
    got = open_source(f"folder:{tmp_path}")[0]["image"]
    assert got.dtype == np.uint8 and got.shape == (24, 32, 3)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_refused_at_opening(tmp_path, suffix):
    Image.fromarray(np.full((4, 4), 40000, np.uint16)).save(tmp_path / f"deep.{suffix}")
    with pytest.raises(ValueError, match=f"deep.{suffix}: mode I;16, expected 8 bits"):
        open_source(f"folder:{tmp_path}")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp"])
def test_truncated_file_is_reported_at_opening(tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(PIXELS).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=f"1 broken image file.*cut.{suffix}"):
        open_source(f"folder:{tmp_path}")


def test_many_broken_files(tmp_path):
    make_tree(tmp_path, images=8)
    for i in range(7):
        path = tmp_path / "train" / "cat" / f"{i}.{'png' if i % 2 else 'JPEG'}"
        path.write_bytes(b"" if i % 2 else b"<html>404</html>")
    with pytest.raises(ValueError, match=r"7 broken image file.*cat/1.png is empty.*and 2 more"):
        open_source(f"folder:{tmp_path}")


def test_bytes_after_the_end_are_accepted(tmp_path):
    for name in ("a.jpg", "b.png"):
        Image.fromarray(PIXELS).save(tmp_path / name)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes() + bytes(100))
    assert len(open_source(f"folder:{tmp_path}")) == 2


def test_file_that_breaks_later(tmp_path):
    make_tree(tmp_path)
    source = open_source(f"folder:{tmp_path}")
    path = tmp_path / "train" / "ant" / "0.JPEG"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match="cannot read image .*ant/0.JPEG: .*runcated"):
        source[0]
    path.unlink()
    with pytest.raises(ValueError, match="cannot read image .*ant/0.JPEG"):
        source[0]


def test_large_folders_are_sampled(tmp_path, monkeypatch):
    checked = []
    monkeypatch.setattr(integrity, "MAX_CHECKED", 3)
    monkeypatch.setattr(integrity, "_problem", lambda path: checked.append(path))
    integrity.check_files([str(i) for i in range(50)], "x")
    assert len(set(checked)) == 3


def test_missing_images(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(ValueError, match="train holds no images"):
        open_source(f"folder:{tmp_path}")
    make_tree(tmp_path, split="val")
    (tmp_path / "val" / "bee").mkdir()
    with pytest.raises(ValueError, match="class folder .*bee holds no images"):
        open_source(f"folder:{tmp_path}", "val")
    with pytest.raises(ValueError, match="split: got 'test', but .* has train, val"):
        open_source(f"folder:{tmp_path}", "test")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="no folders and no images"):
        open_source(f"folder:{empty}")
    Image.fromarray(PIXELS).save(empty / "x.png")
    with pytest.raises(ValueError, match="split: got 'test', but .* has train"):
        open_source(f"folder:{empty}", "test")


def test_class_folders_without_splits(tmp_path):
    make_tree(tmp_path, split=".")
    source = open_source(f"folder:{tmp_path}")
    assert source.class_names == ("ant", "cat") and source.labels().tolist() == [0, 0, 1, 1]
    (tmp_path / "bee").mkdir()
    with pytest.raises(ValueError, match="class folder .*bee holds no images"):
        open_source(f"folder:{tmp_path}")
    with pytest.raises(ValueError, match="split: got 'test', but .* has train"):
        open_source(f"folder:{tmp_path}", "test")
    shutil.move(tmp_path / "ant", tmp_path / "test")  # a split's images, without classes
    with pytest.raises(ValueError, match="split: got 'train', but .* has bee, cat, test"):
        open_source(f"folder:{tmp_path}")

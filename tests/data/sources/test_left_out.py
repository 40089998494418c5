"""Nothing of a folder is skipped in silence; a range has the classes that the rest has."""

import numpy as np
import pytest
from PIL import Image

from vit_jax_xfer.data import open_source

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)


@pytest.fixture
def animals(tmp_path):
    """train/{ant,cat}, three images each, and everything that is none."""
    for name in ("ant", "cat"):
        folder = tmp_path / "train" / name
        folder.mkdir(parents=True)
        for i, suffix in enumerate(("png", "tif", "TIFF")):
            Image.fromarray(PIXELS).save(folder / f"{i}.{suffix}")
    train = tmp_path / "train"
    (train / "cat" / "a.gif").write_bytes(b"x")
    (train / "ant" / "b.gif").write_bytes(b"x")
    (train / "ant" / "notes").write_text("x")
    (train / "cat" / ".DS_Store").write_text("x")
    (train / "cat" / "more").mkdir()
    Image.fromarray(PIXELS).save(train / "cat" / "more" / "hidden away.png")
    Image.fromarray(PIXELS).save(train / "loose.png")
    (train / "ant" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (train / "bee").symlink_to(tmp_path / "no folder")
    return tmp_path


def test_what_is_left_out_is_counted_and_named(animals):
    source = open_source(f"folder:{animals}")
    assert len(source) == 6 and source.class_names == ("ant", "cat")
    np.testing.assert_array_equal(source[1]["image"], PIXELS)  # of a .tif
    assert sorted(source.left_out) == [
        "1 × folder inside a class's folder: cat/more",
        "1 × hidden name: cat/.DS_Store",
        "1 × image beside the class folders: loose.png",
        "2 × dangling link: bee, ant/gone.jpg",
        "3 × file of a suffix that can't be read (.gif 2, none 1): ant/b.gif, ant/notes, cat/a.gif",
    ]
    fewer = open_source(f"folder:{animals}", classes="ant,cat", per_class=1)
    assert fewer.left_out == source.left_out


def test_a_class_without_images_says_what_it_has(animals):
    for path in (animals / "train" / "cat").glob("?.*[fgF]"):
        path.rename(path.with_suffix(".gif")) if path.suffix != ".gif" else None
    with pytest.raises(ValueError, match=r"cat holds no images, but .*file of a suffix.*\.gif"):
        open_source(f"folder:{animals}")


def test_flat_folders_count_too(animals):
    source = open_source(f"folder:{animals / 'train'}", "ant")
    assert len(source) == 3 and source.num_classes == 0 and len(source.left_out) == 2


def test_nothing_is_left_out_of_what_is_whole():
    assert open_source("digits").left_out == ()


def test_range_of_class_folders_has_all_classes(tmp_path):
    for k in range(4):
        (tmp_path / "train" / f"class {k}").mkdir(parents=True)
        for i in range(25):
            Image.new("RGB", (2, 2), (k, i, 0)).save(tmp_path / f"train/class {k}/{i}.png")
    spec = f"folder:{tmp_path}"
    most, rest = open_source(spec, "train[:70%]"), open_source(spec, "train[70%:]")
    assert sorted([*most.indices, *rest.indices]) == list(range(100))
    assert (np.diff(most.indices) > 0).all()
    for source in (most, rest):
        assert set(source.labels()) == {0, 1, 2, 3} and source.left_out == ()
        assert source[0]["label"] == source[0]["image"][0, 0, 0] == source.labels()[0]
    np.testing.assert_array_equal(most.indices, open_source(spec, "train[:70%]").indices)
    assert len(open_source(spec, "train[:2]").labels()) == 2
    assert most.name == f"{spec}/train[:70%] of one fixed shuffle"
    assert open_source(spec, "train[:2]").left_out[0].startswith("every image of the class 'class ")


def test_range_of_arrays_in_the_order_of_classes(tmp_path):
    images = np.zeros((9, 2, 2), np.uint8)
    by_class = np.array([2, 2, 2, 0, 0, 0, 1, 1, 1])
    mixed = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2])
    np.savez(
        tmp_path / "x.npz", a_images=images, a_labels=by_class, b_images=images, b_labels=mixed
    )
    spec = f"npz:{tmp_path / 'x.npz'}"
    assert open_source(spec, "a[:6]").indices.tolist() != list(range(6))
    assert open_source(spec, "b[:6]").indices.tolist() == list(range(6))
    only = open_source(spec, "b[:2]")
    assert only.left_out == ("every image of the class '2': the range has none",)

"""Readers of data sets with masks: layouts, classes, and what is wrong with files."""

import numpy as np
import pytest
from clutter import clutter
from PIL import Image

from vit_jax_xfer.evaluate.segmentation.labelled_images import read_class_mask, shrunk, survey
from vit_jax_xfer.evaluate.segmentation.mask_layouts import open_masks


def write(folder, name, ids, mask_folder, image_size=None):
    ids = np.asarray(ids, np.uint8)
    for path in (folder, mask_folder):
        path.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids).save(mask_folder / f"{name}.png")
    Image.new("RGB", image_size or ids.shape[::-1]).save(folder / f"{name}.jpg")


def names(images):
    return [one.image.stem for one in images]


@pytest.fixture
def folders(tmp_path):
    for i in range(8):
        write(tmp_path / "images", str(i), np.full((4, 6), i), tmp_path / "masks")
    Image.new("RGB", (6, 4)).save(tmp_path / "images/extra.jpg")
    return tmp_path, f"masks:{tmp_path}/images:{tmp_path}/masks"


def test_folders_of_masks(folders):
    clutter(folders[0])
    data = open_masks(folders[1])
    assert names(data.train) == ["0", "1", "2", "4", "5", "6"] and names(data.val) == ["3", "7"]
    assert data.ignore == {255} and data.without_mask == 1
    assert open_masks(folders[1], (0, 7)).ignore == {0, 7}
    assert open_masks(folders[1], ()).ignore == frozenset()


def test_folders_with_splits(tmp_path):
    for split, number in (("train", 3), ("validation", 2)):
        for i in range(number):
            write(tmp_path / "i" / split, f"{i}", [[1]], tmp_path / "m" / split)
    data = open_masks(f"masks:{tmp_path}/i:{tmp_path}/m")
    assert len(data.train) == 3 and len(data.val) == 2
    assert {one.mask.parent.name for one in data.val} == {"validation"}


def test_voc_and_coco128(tmp_path):
    voc = tmp_path / "VOCdevkit/VOC2012"
    for name in "abc":
        write(voc / "JPEGImages", name, [[1]], voc / "SegmentationClass")
    (voc / "ImageSets/Segmentation").mkdir(parents=True)
    (voc / "ImageSets/Segmentation/train.txt").write_text("c\na\n")
    (voc / "ImageSets/Segmentation/val.txt").write_text("b\n")
    data = open_masks(f"voc:{tmp_path}/VOCdevkit")
    assert names(data.train) == ["c", "a"] and names(data.val) == ["b"] and data.ignore == {255}
    (voc / "SegmentationClass/b.png").unlink()
    with pytest.raises(ValueError, match="b.png: no such mask, but .*val.txt has its image"):
        open_masks(f"voc:{voc}")


def test_real_masks(shared):
    data = open_masks(f"coco128:{shared}/data/coco128")
    assert len(data.train) == len(data.val) == 100 and data.ignore == {0}
    found = survey(data.train[:10], 8, data.ignore)
    assert 10 < len(found.ids) < 90 and 0 not in found.ids and found.vanished > 0


def test_masks_are_shrunk_by_the_nearest():
    ids = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(shrunk(ids, 2), [[1, 3], [9, 11]])
    np.testing.assert_array_equal(shrunk(ids, 6)[:, 0], [0, 0, 4, 4, 8, 8])
    # Pillow rounds otherwise where a middle lies on a border: not with these sides.
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 9, (47, 61), dtype=np.uint8))
    expected = picture.resize((24, 24), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(shrunk(np.asarray(picture), 24), expected)


def test_what_masks_hold(tmp_path):
    ids = np.full((8, 8), 255)
    write(tmp_path / "i", "0", ids, tmp_path / "m")
    ids[:, 4:] = 7
    ids[0, 0] = 3  # gone in 4 × 4, of which the middles are odd pixels
    for i in "123":
        write(tmp_path / "i", i, ids, tmp_path / "m")
    images = open_masks(f"masks:{tmp_path}/i:{tmp_path}/m").train
    assert survey(images, 4, frozenset({255})) == ((7,), 1, 2)
    assert survey(images, 8, frozenset({255})) == ((3, 7), 1, 0)


def test_palettes_and_many_ids(tmp_path):
    ids = np.array([[0, 3], [255, 1]], np.uint8)
    # Pillow rounds otherwise where a middle lies on a border: not with these sides.
    picture = Image.fromarray(ids, "P")
    picture.putpalette(list(range(256)) * 3)
    picture.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_class_mask(tmp_path / "p.png"), ids)
    Image.fromarray(ids.astype(np.uint16) * 200).save(tmp_path / "w.png")
    np.testing.assert_array_equal(read_class_mask(tmp_path / "w.png"), ids * np.int64(200))
    Image.new("RGB", (2, 2), "red").save(tmp_path / "c.png")
    with pytest.raises(ValueError, match="c.png: a mask is a picture of class ids.*mode RGB"):
        read_class_mask(tmp_path / "c.png")
    (tmp_path / "c.png").write_bytes(b"no")
    with pytest.raises(ValueError, match="cannot read mask .*c.png"):
        read_class_mask(tmp_path / "c.png")


def test_masks_of_other_formats(folders):
    """Those that lose no number are read where no mask is a PNG, 16 bits of TIFF too."""
    folder, spec = folders
    for i, ending in enumerate((".tif", ".bmp", ".tiff", ".pgm", ".tif", ".TIFF", ".tif", ".tif")):
        png = folder / f"masks/{i}.png"
        ids = np.asarray(Image.open(png))
        ids = ids.astype(np.uint16) * 200 if i == 7 else ids
        Image.fromarray(ids).save(png.with_suffix(ending))
        png.unlink()
    data = open_masks(spec)
    assert names(data.train) == ["0", "1", "2", "4", "5", "6"] and data.without_mask == 1
    found = survey((*data.train, *data.val), 4, frozenset())
    assert found.ids == (0, 1, 2, 3, 4, 5, 6, 1400)
    Image.new("L", (6, 4)).save(folder / "masks/extra.gif")
    with pytest.raises(ValueError, match="extra.gif: masks are PNGs, or all TIFF.*save this one"):
        open_masks(spec)


def test_photographs_beside_their_masks(folders):
    """In one folder a mask is not taken for the photograph of its name; nor is one of two."""
    folder, _ = folders
    for file in (folder / "masks").iterdir():
        file.rename(folder / "images" / file.name)
    spec = f"masks:{folder}/images:{folder}/images"
    data = open_masks(spec)
    assert {one.image.suffix for one in (*data.train, *data.val)} == {".jpg"}
    assert data.without_mask == 1
    Image.new("RGB", (6, 4)).save(folder / "images/3.jpeg")
    with pytest.raises(ValueError, match="3.jpeg: 3.jpg has the same name; leave one of them"):
        open_masks(spec)


def test_rubbish_is_named(folders):
    folder, spec = folders
    write(folder / "images", "2", np.zeros((4, 6)), folder / "masks", (6, 5))
    with pytest.raises(ValueError, match="2.png: 4×6 pixels, and its image .*2.jpg has 5×6"):
        survey(open_masks(spec).train, 4, frozenset())
    (folder / "masks/5.png").write_bytes(b"")
    with pytest.raises(ValueError, match="5.png is empty"):
        open_masks(spec)
    (folder / "images/5.jpg").unlink()
    with pytest.raises(ValueError, match="5.jpg: no such image, but .*masks has its mask"):
        open_masks(spec)
    for i in range(1, 8):
        (folder / f"masks/{i}.png").unlink()
    with pytest.raises(ValueError, match="masks: has 1 masks and no folders train and val"):
        open_masks(spec)
    (folder / "masks/0.png").unlink()
    with pytest.raises(ValueError, match="masks: has no masks"):
        open_masks(spec)
    with pytest.raises(ValueError, match="/nowhere: no such folder"):
        open_masks(f"masks:/nowhere:{folder}")
    for bad in ("", "voc", "masks:a", "ade:x"):
        with pytest.raises(ValueError, match="data: got .* expected voc:PATH, coco128:PATH or"):
            open_masks(bad)

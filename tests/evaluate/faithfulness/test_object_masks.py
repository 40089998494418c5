"""Masks and boxes of objects: ImageNet-Segmentation's file, class masks, boxes at hand."""

import numpy as np
import pytest
from PIL import Image

from vit_jax_xfer.evaluate.faithfulness.object_masks import open_object_boxes, open_object_masks


@pytest.fixture
def segmentations(tmp_path):
    """A file as MATLAB 7.3 writes it: arrays turned around, masks in cells, all by reference."""
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(0)
    photos = [rng.integers(0, 256, (4 + i, 6, 3), np.uint8) for i in range(3)]
    masks = [np.zeros(photo.shape[:2], np.uint8) for photo in photos]
    masks[0][1, 2:4] = masks[2][3:] = 1
    with h5py.File(tmp_path / "gtsegs.mat", "w", userblock_size=512) as file:
        kinds = {"img": [], "gt": []}
        for i, (photo, mask) in enumerate(zip(photos, masks, strict=True)):
            kinds["img"].append(file.create_dataset(f"#refs#/photo{i}", data=photo.T).ref)
            inner = file.create_dataset(f"#refs#/mask{i}", data=mask.T).ref
            cell = file.create_dataset(f"#refs#/cell{i}", (1, 1), h5py.ref_dtype)
            cell[0, 0] = inner
            kinds["gt"].append(cell.ref)
        for name, references in kinds.items():
            place = file.create_dataset(f"value/{name}", (3, 1), h5py.ref_dtype)
            place[:, 0] = references
    return tmp_path / "gtsegs.mat", photos, masks


def test_imagenet_segmentation(segmentations):
    file, photos, masks = segmentations
    found = open_object_masks(f"imagenet:{file}", size=8)
    assert (found.indices, found.left_out) == ((0, 2), 1)  # the second has no object
    for index in found.indices:
        photo, mask = found.read(index)
        np.testing.assert_array_equal(photo, photos[index])
        np.testing.assert_array_equal(mask, masks[index])
    assert found.squashed(1, 8)[1].shape == (8, 8)
    assert len(open_object_masks(f"imagenet:{file}", limit=1, size=8)) == 1


def test_class_masks_and_what_is_not_known(tmp_path):
    ids = np.array([[0, 17, 91, 255]], np.uint8)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for name in range(4):  # of which the last is scored
            Image.fromarray(ids).save(tmp_path / folder / f"{name}.png")
    found = open_object_masks(f"masks:{tmp_path / 'images'}:{tmp_path / 'masks'}", size=4)
    assert found.read(0)[1].tolist() == [[0, 1, 1, -1]]
    Image.fromarray(np.zeros((1, 4), np.uint8)).save(tmp_path / "masks" / "3.png")
    with pytest.raises(ValueError, match="none of its 1 images has an object at 4 pixels"):
        open_object_masks(f"masks:{tmp_path / 'images'}:{tmp_path / 'masks'}", size=4)


def test_masks_of_another_size_are_refused(tmp_path):
    """As where EXIF turns a photograph and not its mask; figures would be of other places."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for name in range(4):
        Image.new("RGB", (6, 4)).save(tmp_path / "images" / f"{name}.jpg", exif=exif)
        Image.fromarray(np.ones((4, 6), np.uint8)).save(tmp_path / "masks" / f"{name}.png")
    with pytest.raises(ValueError, match="3.png: 4×6 pixels, and its image .*has 6×4, turned as"):
        open_object_masks(f"masks:{tmp_path / 'images'}:{tmp_path / 'masks'}", size=4)


def test_real_masks_and_boxes(shared):
    found = open_object_masks(f"coco128:{shared / 'data' / 'coco128'}", limit=3, size=32)
    photo, mask = found.read(found.indices[0])
    assert photo.shape[:2] == mask.shape
    assert set(np.unique(mask)) == {-1, 0, 1}
    found = open_object_boxes(f"voc:{shared / 'data' / 'voc2012_boxes_100'}", limit=2, size=32)
    _, mask = found.squashed(0, 32)
    assert 0 < mask.sum() < mask.size


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("imagenet:/nowhere.mat", "/nowhere.mat: no such file"),
        ("imagenet:{file}", "no MATLAB file of version 7.3; expected gtsegs_ijcv.mat"),
        ("squares:/x", "data: got 'squares:/x', expected voc:PATH"),
    ],
)
def test_what_is_no_such_set_is_refused(spec, message, tmp_path):
    file = tmp_path / "old.mat"
    file.write_bytes(b"MATLAB 5.0 MAT-file" + bytes(600))
    with pytest.raises(ValueError, match=message):
        open_object_masks(spec.format(file=file))

"""Maps of classes: folders of masks, ADE20K, ids that are no class."""

import numpy as np
import pytest
from PIL import Image

from tests.data.object_sets import write_photograph
from vit_jax_xfer import data
from vit_jax_xfer.data.target_arrays import TargetForm

IDS = np.zeros((40, 60), np.uint8)
IDS[:10, :20], IDS[20:, 30:] = 3, 255


def write_masks(root, split="", names=("a", "b"), ids=IDS, folders=("images", "masks")):
    for name in names:
        write_photograph(root / folders[0] / split / f"{name}.png")
        file = root / folders[1] / split / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(ids).save(file)
    return f"masks:{root / folders[0]}:{root / folders[1]}"


def test_classes_are_the_ids_that_are_there(tmp_path):
    spec = write_masks(tmp_path, "train")
    write_masks(tmp_path, "validation", ids=np.where(IDS == 3, 9, IDS).astype(np.uint8))
    source = data.open_source(spec)
    assert source.class_names == ("0", "3", "9")  # of all splits, so that they agree
    assert data.open_source(spec, "validation").class_names == source.class_names
    np.testing.assert_array_equal(source[0]["label_map"], np.where(IDS == 3, 1, IDS))
    assert source[0]["label_map"].dtype == np.uint8
    form = TargetForm("label_map")
    with data.train_stream(source, "flip|normalize", batch_size=2, seed=0, targets=form) as rows:
        batch = next(rows)
    assert batch["label_map"].shape == (2, 40, 60) and "boxes" not in batch
    with pytest.raises(ValueError, match="has maps of classes, expected boxes"):
        data.train_stream(source, "flip", batch_size=2, seed=0, targets=TargetForm())


def test_named_classes(tmp_path):
    spec = write_masks(tmp_path)
    write_photograph(tmp_path / "images" / "c.png")
    (tmp_path / "names.txt").write_text("0: unlabeled\n3: sky\n")
    source = data.open_source(f"{spec}:{tmp_path / 'names.txt'}")
    assert source.class_names == ("sky",) and source.category_ids == (3,)
    assert "pixels of id 0, called 'unlabeled'" in source.left_out
    assert "1 × image without a mask" in source.left_out[0]
    np.testing.assert_array_equal(source[0]["label_map"], np.where(IDS == 3, 0, 255))
    (tmp_path / "names.txt").write_text("3: sky\n")
    with pytest.raises(ValueError, match="has the id 0, which is no class of the set"):
        data.open_source(f"{spec}:{tmp_path / 'names.txt'}")[0]


def test_ade20k(tmp_path):
    ids = np.where(IDS == 3, 150, 0).astype(np.uint8)
    write_masks(tmp_path, "training", ids=ids, folders=("images", "annotations"))
    source = data.open_source(f"ade20k:{tmp_path}")
    assert source.num_classes == 150 and source.class_names[149] == "150"
    np.testing.assert_array_equal(source[0]["label_map"], np.where(IDS == 3, 149, 255))
    rows = "".join(f"{i}\t0.1\tobject {i}, thing\n" for i in range(1, 151))
    (tmp_path / "objectInfo150.txt").write_text("Idx\tRatio\tName\n" + rows)
    assert data.open_source(f"ade20k:{tmp_path}").class_names[149] == "object 150"


def test_what_is_wrong_is_named(tmp_path):
    spec = write_masks(tmp_path)
    with pytest.raises(ValueError, match="got 'validation', but .* have train \\(of folders"):
        data.open_source(spec, "validation")
    with pytest.raises(ValueError, match="no such folder"):
        data.open_source("masks:/nowhere:/nowhere")
    with pytest.raises(ValueError, match="expected masks:IMAGES:MASKS"):
        data.open_source("masks:a")
    write_photograph(tmp_path / "images" / "a.png", 30, 60)
    with pytest.raises(ValueError, match=r"its mask .*a\.png has 40×60 pixels"):
        data.open_source(spec)[0]
    (tmp_path / "images" / "a.png").unlink()
    with pytest.raises(ValueError, match=r"a\.jpg: no such image"):
        data.open_source(spec)


def test_real_masks(shared):
    root = shared / "data/coco128"
    masks = root / "semantic_segmentation"
    spec = f"masks:{root / 'images'}:{masks / 'masks'}:{masks / 'config.yaml'}"
    train, val = (data.open_source(spec, split) for split in ("train", "validation"))
    assert len(train) == len(val) == 100 and train.class_names == val.class_names
    assert train.num_classes == 129 and "person" in train.class_names
    found = np.unique(np.concatenate([np.unique(train.target(i)) for i in range(10)]))
    assert len(found) > 10 and found.max() == 255

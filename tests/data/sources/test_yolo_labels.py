"""YOLO's texts: boxes, outlines, and what is refused by line."""

import numpy as np
import pytest
from PIL import Image

from tests.data.object_sets import write_photograph
from vit_jax_xfer import data
from vit_jax_xfer.data.sources import class_files


def write_yolo(root, texts, split="train2017", names="names:\n  2: ant\n  5: cat\n"):
    for name, text in texts.items():
        write_photograph(root / "images" / split / f"{name}.png")
        if text is not None:
            file = root / "labels" / split / f"{name}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    (root / "data.yaml").write_text(f"path: .\ntrain: images/{split}\n{names}")
    return f"yolo:{root / 'data.yaml'}"


def test_boxes_and_outlines(tmp_path):
    text = "5 0.5 0.5 0.2 0.1\n\n2 0.1 0.1 0.5 0.1 0.5 0.9\n"
    spec = write_yolo(tmp_path, {"a": text, "b": "", "c": None})
    source = data.open_source(spec)
    assert len(source) == 2 and source.class_names == ("ant", "cat")
    assert source.category_ids == (2, 5)
    objects = source[0]["objects"]
    np.testing.assert_allclose(objects.boxes, [(24, 18, 36, 22), (6, 4, 30, 36)])
    assert objects.labels.tolist() == [1, 0] and objects.outlines[0] is None
    np.testing.assert_allclose(objects.outlines[1][0], [(6, 4), (30, 4), (30, 36)])
    assert len(source[1]["objects"]) == 0
    assert "1 × image without a text" in source.left_out[0] and "c.png" in source.left_out[0]
    folders = data.open_source(
        f"yolo:{tmp_path / 'images'}:{tmp_path / 'labels'}:{tmp_path / 'data.yaml'}"
    )
    np.testing.assert_array_equal(folders.all_objects.boxes, source.all_objects.boxes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("9 0.5 0.5 0.2 0.1", "a.txt, line 1: class 9 has no name"),
        ("5 0.5 0.5\n", "line 1: 3 numbers, expected a class with four"),
        ("\n5 x 0.5 1 1", "line 2: got '5 x 0.5 1 1', expected numbers"),
        ("2.5 0.5 0.5 1 1", "class 2.5 has no name"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=f"^spec: .*{message}"):
        data.open_source(write_yolo(tmp_path, {"a": text}))


def test_splits(tmp_path):
    spec = write_yolo(tmp_path, {"a": ""})
    with pytest.raises(ValueError, match="got 'validation', but .* names folders of train"):
        data.open_source(spec, "validation")
    folders = f"yolo:{tmp_path / 'images'}:{tmp_path / 'labels'}:{tmp_path / 'data.yaml'}"
    with pytest.raises(ValueError, match="split: got 'validation', but .* have train"):
        data.open_source(folders, "validation")
    with pytest.raises(ValueError, match="expected yolo:DATA.yaml or IMAGES:LABELS:CLASSES"):
        data.open_source("yolo:a:b")


def test_keypoints_are_no_outlines(tmp_path):
    """Two of x, y, visible behind a box are as many numbers as five corners."""
    text = "5 0.5 0.5 0.2 0.1 0.5 0.5 2 0.4 0.5 2\n"
    names = "kpt_shape: [2, 3]\nnames: [a, b, c, d, e, f]\n"
    spec = write_yolo(tmp_path, {"a": text}, names=names)
    folders = f"yolo:{tmp_path / 'images'}:{tmp_path / 'labels'}:{tmp_path / 'data.yaml'}"
    for one in (spec, folders):
        with pytest.raises(ValueError, match="^spec: .*data.yaml: it has 'kpt_shape', so its"):
            data.open_source(one)


def test_a_yaml_is_read_once(tmp_path, monkeypatch):
    spec = write_yolo(tmp_path, {"a": ""})
    folders = f"yolo:{tmp_path / 'images'}:{tmp_path / 'labels'}:{tmp_path / 'data.yaml'}"
    whole, seen = class_files.read_text, []
    monkeypatch.setattr(class_files, "read_text", lambda *x: seen.append(x[0].name) or whole(*x))
    for number, one in enumerate((spec, folders), start=1):
        assert data.open_source(one).class_names
        assert seen == ["data.yaml"] * number


def test_a_list_of_folders_is_refused(tmp_path):
    write_yolo(tmp_path, {"a": ""})
    (tmp_path / "data.yaml").write_text("train: [images/one, images/two]\nnames: [ant]\n")
    with pytest.raises(ValueError, match="data.yaml: its 'train' is a list; give one folder"):
        data.open_source(f"yolo:{tmp_path / 'data.yaml'}")


def test_real_outlines_and_boxes_agree(shared):
    root = shared / "data/coco128"
    boxes, outlines = (
        data.open_source(
            f"yolo:{root / 'images'}:{root / kind / 'labels'}:{root / kind / 'config.yaml'}", "val"
        )
        for kind in ("object_detection", "instance_segmentation")
    )
    assert boxes.class_names == outlines.class_names and len(boxes) == len(outlines) == 100
    # COCO's outlines and its boxes are of different releases; most objects are in both.
    near = 0
    for index in range(100):
        one, other = boxes.target(index), outlines.target(index)
        for box, label in zip(one.boxes, one.labels, strict=True):
            same = other.boxes[other.labels == label]
            near += bool(len(same)) and bool((abs(same - box).max(1) < 4).any())
    assert near > 0.75 * len(boxes.all_objects)


def test_a_photograph_that_its_exif_turns(tmp_path):
    """Shares of its sides fit it upright and as stored alike."""
    spec = write_yolo(tmp_path, {"a": "5 0.5 0.5 0.2 0.1"})
    exif = Image.Exif()
    exif[0x0112] = 6
    file = tmp_path / "images/train2017/a.png"
    Image.open(file).save(file, exif=exif)
    with pytest.raises(ValueError, match="^spec: .*a.png: its EXIF orientation turns it, and noth"):
        data.open_source(spec)

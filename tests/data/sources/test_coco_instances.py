"""COCO's JSON: classes, crowds, boxes that can't be right, and what is refused."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image

from tests.data.object_sets import annotation, corners, write_coco, write_photograph
from vit_jax_xfer import data
from vit_jax_xfer.data.target_arrays import TargetForm

BOXES = [(5, 6, 20, 30), (30, 2, 59, 39)]


def opened(root, annotations, split="train", **fields):
    write_coco(root, annotations, **fields)
    return data.open_source(f"coco:{root}", split)


def test_a_set_is_read(tmp_path):
    crowd = {"size": [40, 60], "counts": [100, 50, 40 * 60 - 150]}
    source = opened(
        tmp_path,
        [
            annotation(2, BOXES[0], 3, area=123.0),
            annotation(2, BOXES[1], 7, segmentation=[corners(*BOXES[1]), [1, 2, 3, 4]]),
            annotation(1, (0, 2, 3, 9), 7, segmentation=crowd, iscrowd=1),
        ],
        images=3,
    )
    assert source.class_names == ("ant", "cat") and source.category_ids == (3, 7)
    assert len(source) == 3 and source.numbers == [1, 2, 3] and source.targets == "boxes"
    example = pickle.loads(pickle.dumps(source))[1]
    objects = example["objects"]
    np.testing.assert_array_equal(objects.boxes, BOXES)
    assert objects.labels.tolist() == [0, 1] and objects.areas.tolist() == [123, 29 * 37]
    assert [len(outline) for outline in objects.outlines] == [1, 1]  # two corners are no polygon
    assert example["image"].shape == (40, 60, 3) and example["label"] == -1
    (crowds,) = [source.target(0)]
    assert crowds.crowd.tolist() == [True] and len(crowds.targets) == 0
    assert len(source.target(2)) == 0
    assert any("1 × crowd" in text for text in source.left_out)
    assert source.without_outline == 0


def test_boxes_that_cannot_be_right_are_dropped_and_said(tmp_path):
    boxes = [BOXES[0], (5, 5, 5, 9), (9, 9, 3, 12), (70, 5, 80, 9), (50, 30, 64, 45)]
    entries = [annotation(1, box, segmentation=None) for box in boxes]
    entries.append(annotation(1, (float("nan"), 1, 5, 5), segmentation=None, area=4))
    source = opened(tmp_path, entries)
    np.testing.assert_array_equal(source.target(0).boxes, [boxes[0], boxes[4]])
    said = "\n".join(source.left_out)
    for reason in (
        "1 × box without area",
        "1 × box that ends before it starts",
        "1 × box outside of the image",
        "1 × box with a coordinate that is no number",
        "1 × box that ends outside of the image",
    ):
        assert reason in said
    assert "train2017/1.png" in said
    with data.train_stream(source, "normalize", batch_size=2, seed=0, targets=TargetForm()) as rows:
        batch = next(rows)
    row = int(np.argmax(batch["box_labels"][:, 0]))
    np.testing.assert_array_equal(batch["boxes"][row, :2], [boxes[0], (50, 30, 60, 40)])


def test_streams_are_the_same_by_any_workers_and_from_any_step(tmp_path):
    entries = [annotation(1 + i % 3, BOXES[i % 2], 3 + 4 * (i % 2)) for i in range(6)]
    source = opened(tmp_path, entries, images=3)
    form = TargetForm(max_boxes=4, mask_size=8)
    given = {"batch_size": 4, "seed": 3, "in_bytes": True, "targets": form}

    def batches(count, **more):
        pipeline = "lsj(32, 0.5, 2.0)|flip|normalize"
        with data.train_stream(source, pipeline, **given, **more) as stream:
            return [next(stream) for _ in range(count)]

    usual = batches(3)
    assert usual[0]["box_masks"].shape == (4, 4, 8, 8) and usual[0]["box_masks"].any()
    halves = [batches(1, process_index=i, process_count=2)[0] for i in range(2)]
    for name, array in usual[0].items():
        np.testing.assert_array_equal(np.concatenate([half[name] for half in halves]), array)
    for others in (batches(3, workers=1, threads=1), [*usual[:2], *batches(1, start_step=2)]):
        for one, other in zip(usual, others, strict=True):
            for name, array in one.items():
                np.testing.assert_array_equal(array, other[name], err_msg=name)


def test_an_evaluation_has_places_and_padding(tmp_path):
    source = opened(tmp_path, [annotation(1, BOXES[0])], images=3)
    given = {"batch_size": 4, "targets": TargetForm(max_boxes=2)}
    with data.eval_batches(source, "resize_pad(30)", **given) as batches:
        (batch,) = batches
    assert batch["index"].tolist() == [0, 1, 2, -1] and batch["mask"].tolist() == [True] * 3 + [
        False
    ]
    np.testing.assert_array_equal(batch["content"], [(20, 30)] * 3 + [(0, 0)])
    np.testing.assert_array_equal(batch["original"][0], (40, 60))
    np.testing.assert_array_equal(batch["box_labels"], [(1, -1), (-1, -1), (-1, -1), (-1, -1)])
    np.testing.assert_allclose(batch["boxes"][0, 0], np.array(BOXES[0]) / 2)
    with pytest.raises(ValueError, match=r"has boxes, expected maps of classes"):
        data.eval_batches(source, "resize_pad(30)", batch_size=1, targets=TargetForm("label_map"))
    # Without a form an image is an image.
    with data.eval_batches(source, "resize_pad(30)", batch_size=4) as batches:
        assert set(next(batches)) == {"image", "label", "mask"}


def test_masks_need_outlines(tmp_path):
    source = opened(tmp_path, [annotation(1, BOXES[0], segmentation=[])])
    with pytest.raises(
        ValueError, match="1 objects with a box alone, and masks are asked for; data"
    ):
        data.train_stream(
            source, "normalize", batch_size=1, seed=0, targets=TargetForm(mask_size=8)
        )


def test_an_image_of_another_size_than_listed_is_broken(tmp_path):
    source = opened(tmp_path, [annotation(1, BOXES[0])])
    write_photograph(tmp_path / "train2017" / "1.png", 60, 40)
    with pytest.raises(ValueError, match=r"1\.png: it has 60×40 pixels, its boxes are for 40×60"):
        source[0]


@pytest.mark.parametrize("sides", [{}, {"height": None, "width": None}])
def test_sizes_come_from_the_images_where_the_file_has_none(tmp_path, sides):
    source = opened(tmp_path, [annotation(1, BOXES[0])], **sides)
    np.testing.assert_array_equal(source.sizes, [(40, 60)] * 2)


def test_boxes_in_shares_of_the_image_are_refused(tmp_path):
    listed = [annotation(1, (0.1, 0.2, 0.5, 0.9), segmentation=None), annotation(2, (0, 0, 1, 1))]
    with pytest.raises(ValueError, match="^spec: coco:.* all boxes end within the first pixel"):
        opened(tmp_path, listed)


def test_boxes_on_a_turned_image_of_no_listed_size(tmp_path):
    write_coco(tmp_path, [annotation(1, BOXES[0])], height=None, width=None)
    (file, *_) = sorted((tmp_path / "train2017").iterdir())
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(file).save(file, exif=exif)
    with pytest.raises(ValueError, match="^spec: .*its EXIF orientation turns it"):
        data.open_source(f"coco:{tmp_path}")


def test_splits(tmp_path):
    entries = [annotation(1, BOXES[0])]
    file = write_coco(tmp_path, entries)
    write_coco(tmp_path, entries, name="instances_val2017", images=4)
    assert len(data.open_source(f"coco:{tmp_path}", "validation")) == 4
    assert len(data.open_source(f"coco:{tmp_path}", "val[:50%]")) == 2
    alone = f"coco:{file}:{tmp_path / 'train2017'}"
    for split in ("train", "all", "train[:1]"):
        data.open_source(alone, split)
    with pytest.raises(ValueError, match="got 'validation', but .* is one list, of split 'train'"):
        data.open_source(alone, "validation")
    with pytest.raises(
        ValueError, match="'test', for which .* has 0 files; there are instances_tr"
    ):
        data.open_source(f"coco:{tmp_path}", "test")
    with pytest.raises(ValueError, match="classes: .* has classes of objects or pixels"):
        data.open_source(alone, classes="ant,cat")
    with pytest.raises(ValueError, match="per_class: .* has classes of objects or pixels"):
        data.open_source(alone, per_class=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": None}, "has no list 'annotations'"),
        ({"categories": []}, "has no list 'categories'"),
        ({"categories": [{"id": 7, "name": "a"}] * 2}, "two categories have one id"),
        ({"categories": [{"id": "7", "name": "a"}]}, "id is no whole number"),
        ({"images": []}, "is of image 1, which is not listed"),
        ({"images": [{"id": 1, "file_name": "9.png", "height": 40, "width": 60}]},
         "names 1 images that are missing: .*9.png"),
        ({"images": [{"id": 1, "file_name": "1.png", "height": 0, "width": 60}]},
         r"image 1 has height and width \(0, 60\)"),
        ({"annotations": [annotation(1, BOXES[0], 5)]}, "category 5, which is not listed"),
        ({"annotations": [annotation(1, BOXES[0], bbox=[1, 2])]}, "has bbox .1, 2.; expected four"),
        ({"annotations": [annotation(1, BOXES[0], segmentation=[[1, 2, 3]])]}, "no list of polyg"),
        ({"annotations": [annotation(1, BOXES[0], segmentation=[[1, 2, 3, 4, float("nan"), 5]])]},
         "polygon with a corner that is no number"),
        ({"annotations": [annotation(1, BOXES[0], segmentation={"size": [9, 9], "counts": [81]})]},
         r"run lengths for \[9, 9\], and the image has \[40, 60\]"),
        ({"annotations": [annotation(1, BOXES[0], segmentation={"size": [40, 60], "counts": [9]})]},
         "run lengths that don't fill 40×60 pixels"),
        ({"annotations": [annotation(1, BOXES[0], area="x")]}, "has area 'x'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path, change, message):
    file = write_coco(tmp_path, [annotation(1, BOXES[0])])
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ValueError, match=f"^spec: .*{message}"):
        data.open_source(f"coco:{tmp_path}")


def test_published_boxes(shared):
    root = shared / "data/voc2012_boxes_100"
    source = data.open_source(f"coco:{root / 'instances_coco_format.json'}:{root / 'JPEGImages'}")
    voc = data.open_source(f"voc:{root}")
    assert len(source) == len(voc) == 100 and len(source.all_objects) == len(voc.all_objects) == 273
    assert set(source.class_names) == set(voc.class_names)

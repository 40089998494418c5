"""A config's batches with boxes or maps: shapes that are known before, what is said or refused."""

import pytest

from tests.data.object_sets import annotation, write_coco
from tests.runs import tiny_dense
from tests.tasks.mask_folders import write_mask_folders
from vit_jax_xfer.train.inputs import batch_shapes, open_inputs

BOXES = [(4, 6, 30, 30), (30, 10, 58, 36), (1, 1, 9, 9)]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    for split in ("train", "val"):
        write_coco(root / "coco", [annotation(1, box) for box in BOXES], 2,
                   f"instances_{split}2017")  # fmt: skip
    found = {"folder": f"folder:{root / 'coco/train2017'}", "detection": f"coco:{root / 'coco'}"}
    return {**found, "segmentation": write_mask_folders(root, 2, 2)}


def config_of(sources, name, **fields):
    given = {"data__pipeline": "resize_pad(16)|flip|normalize", "data__max_boxes": 2, **fields}
    return tiny_dense(name, sources[name], **given)


@pytest.mark.parametrize(
    ("name", "fields", "names"),
    [
        ("detection", {"data__mask_size": 6}, {"boxes", "box_labels", "box_masks"}),
        ("segmentation", {}, {"label_map"}),
    ],
)
def test_shapes_are_those_of_the_batches(name, fields, names, sources):
    second = {"unlabeled__source": sources["detection"], "unlabeled__batch_size": 8}
    config = config_of(sources, name, **fields, **second)
    inputs = open_inputs(config)
    with inputs.train_stream(0) as stream:
        found = {key: (array.shape, array.dtype) for key, array in next(stream).items()}
    # Of the images without labels there are no boxes, though their set has some.
    expected = {"image", "label", "content", "original", "unlabeled", *names}
    assert set(found) == expected
    shapes = inputs.batch_shapes()
    assert {key: (one.shape, one.dtype) for key, one in shapes.items()} == found
    assert batch_shapes(config, (16, 16, 3)) == shapes  # as `plan` knows them, without the images


def test_images_with_too_many_objects_are_said(sources):
    said = open_inputs(config_of(sources, "detection")).overview(labelled=False)
    assert "train: 1 images have more than 2 objects, of which the largest are kept" in said
    enough = open_inputs(config_of(sources, "detection", data__max_boxes=3))
    assert "more than" not in enough.overview(labelled=False)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        (
            "detection",
            {"data__source": "segmentation"},
            "data.source: masks:.* maps of classes",
        ),
        ("detection", {"eval__source": "segmentation"}, "eval.source: masks:.* expected boxes"),
        ("segmentation", {"data__source": "detection"}, "has boxes, expected maps of classes"),
        (
            "detection",
            {"data__source": "folder", "eval__source": "detection"},
            "data.source: folder:.* has labels alone, expected boxes",
        ),
        ("detection", {"data__pipeline": "rand_augment"}, "can't take boxes or masks along"),
        ("detection", {"data__classes": "ant,cat"}, "data.classes: .* has classes of objects"),
        ("detection", {"data__per_class": 1}, "per_class: .* has classes of objects"),
        ("detection", {"data__max_boxes": 0}, "data.max_boxes: got 0"),
    ],
)
def test_what_does_not_fit_is_named(name, fields, message, sources):
    fields = {key: sources.get(value, value) for key, value in fields.items()}
    config = config_of(sources, name, **fields)
    with pytest.raises(ValueError, match=message):
        open_inputs(config).batch_shapes()

"""Boxes, masks and what of them is kept, as arrays of one shape."""

import numpy as np
import pytest

from vit_jax_xfer.data.frame import Frame, cropped, mirrored, resized
from vit_jax_xfer.data.objects import Objects
from vit_jax_xfer.data.outlines import bounds_in, cut_ring, in_box, run_lengths
from vit_jax_xfer.data.sources.coco_instances import unpacked
from vit_jax_xfer.data.target_arrays import TargetForm

IMAGE = np.zeros((40, 60, 3), np.uint8)
TRIANGLE = np.array([(10.0, 5), (50, 5), (10, 35)])


def objects_of(boxes, outlines=None, labels=None, crowd=None):
    number = len(boxes)
    return Objects(
        np.array(boxes, float).reshape(-1, 4),
        np.array(labels or range(number), np.int32),
        np.array(crowd or [False] * number, bool),
        np.zeros(number, bool),
        np.ones(number),
        tuple(outlines or [None] * number),
    )


def arrays(objects, frame=None, **form):
    frame = frame or Frame.of(40, 60)
    image = np.zeros((frame.move.height, frame.move.width, 3), np.uint8)
    return TargetForm(**form).arrays({"objects": objects}, image, frame)


def test_no_objects_are_padding_alone():
    found = arrays(objects_of([]), max_boxes=3, mask_size=4)
    assert found["boxes"].shape == (3, 4) and not found["boxes"].any()
    assert found["box_labels"].tolist() == [-1, -1, -1] and found["box_masks"].shape == (3, 4, 4)
    assert {name: found[name].dtype.name for name in found} == {
        "image": "uint8",
        "boxes": "float32",
        "box_labels": "int32",
        "box_masks": "uint8",
        "content": "float32",
        "original": "int32",
    }


def test_of_too_many_the_largest_are_kept_in_their_order():
    boxes = [(0, 0, 2, 2), (0, 0, 30, 30), (0, 0, 9, 9), (0, 0, 20, 20), (0, 0, 9, 9)]
    found = arrays(objects_of(boxes), max_boxes=3)
    assert found["box_labels"].tolist() == [1, 2, 3]
    assert found["boxes"][:, 2].tolist() == [30, 9, 20]


def test_crowds_are_no_targets():
    found = arrays(objects_of([(0, 0, 9, 9), (0, 0, 5, 5)], crowd=[True, False]), max_boxes=2)
    assert found["box_labels"].tolist() == [1, -1]


def test_what_is_cut_off_is_gone_or_smaller():
    frame = Frame.of(40, 60).then(cropped(0, 20, 40, 40))
    boxes = [(0, 0, 20, 9), (0, 0, 20.005, 9), (10, 0, 30, 9), (-5, 30, 70, 45)]
    found = arrays(objects_of(boxes), frame, max_boxes=4)
    assert found["box_labels"].tolist() == [2, 3, -1, -1]
    np.testing.assert_allclose(found["boxes"][:2], [(0, 0, 10, 9), (0, 30, 40, 40)])


def test_a_cut_object_gets_the_box_of_what_is_left_of_its_outline():
    frame = Frame.of(40, 60).then(cropped(0, 30, 40, 30))
    box = (10, 5, 50, 35)
    polygon = arrays(objects_of([box], [(TRIANGLE,)]), frame, max_boxes=1)
    # At x = 30, half way, the triangle is half as high.
    np.testing.assert_allclose(polygon["boxes"][0], (0, 5, 20, 20), atol=1e-5)
    lengths = arrays(objects_of([box], [run_lengths((TRIANGLE,), (40, 60))]), frame, max_boxes=1)
    np.testing.assert_allclose(lengths["boxes"][0], (0, 5, 20, 20), atol=1)
    mirror = frame.then(mirrored(40, 30))
    found = arrays(objects_of([box], [(TRIANGLE,)]), mirror, max_boxes=1)
    np.testing.assert_allclose(found["boxes"][0], (10, 5, 30, 20), atol=1e-5)
    # The box is there, the object in it isn't.
    gone = Frame.of(40, 60).then(cropped(25, 35, 15, 25))
    assert arrays(objects_of([box], [(TRIANGLE,)]), gone, max_boxes=1)["box_labels"][0] == -1


@pytest.mark.parametrize("packed", [False, True])
def test_masks_are_in_the_frames_of_their_boxes(packed):
    outline = run_lengths((TRIANGLE,), (40, 60)) if packed else (TRIANGLE,)
    objects = objects_of([(10, 5, 50, 35)], [outline])
    # The upper left half of the box.
    x, y = np.meshgrid((np.arange(16) + 0.5) / 16, (np.arange(16) + 0.5) / 16)
    expected = x + y < 1
    scaled = Frame.of(40, 60).then(resized((40, 60), (90, 33)))
    for frame in (None, scaled):
        mask = arrays(objects, frame, max_boxes=1, mask_size=16)["box_masks"][0]
        assert (mask != expected).sum() <= 24 and set(np.unique(mask)) == {0, 1}
    mirror = arrays(objects, scaled.then(mirrored(90, 33)), max_boxes=1, mask_size=16)
    np.testing.assert_array_equal(mirror["box_masks"][0], mask[:, ::-1])


def test_an_outline_of_several_polygons():
    rings = (
        np.array([(0.0, 0), (4, 0), (4, 4), (0, 4)]),
        np.array([(8.0, 8), (12, 8), (12, 12), (8, 12)]),
    )
    mask = in_box(rings, np.array([0.0, 0, 12, 12]), 3, (40, 60))
    np.testing.assert_array_equal(mask, np.diag([1, 0, 1]))
    np.testing.assert_allclose(
        bounds_in(rings, np.array([2.0, 2, 40, 40]), (40, 60)), (2, 2, 12, 12)
    )


def test_a_polygon_is_cut_at_all_edges():
    cut = cut_ring(TRIANGLE, np.array([0.0, 0, 100, 100]))
    np.testing.assert_array_equal(cut, TRIANGLE)
    assert len(cut_ring(TRIANGLE, np.array([51.0, 0, 60, 60]))) == 0
    inner = cut_ring(TRIANGLE, np.array([20.0, 10, 30, 15]))
    assert sorted(map(tuple, inner.tolist())) == [(20, 10), (20, 15), (30, 10), (30, 15)]


def test_run_lengths_are_unpacked_as_pycocotools_does():
    from pycocotools import mask as reference

    for seed in range(5):
        picture = (np.random.default_rng(seed).random((40, 60)) < 0.02 * 5**seed / 25).astype(
            np.uint8
        )
        packed = reference.encode(np.asfortranarray(np.repeat(picture, 2, 0)))
        runs = unpacked(packed["counts"].decode())
        assert sum(runs) == 80 * 60
        again = reference.frPyObjects({"size": [80, 60], "counts": runs}, 80, 60)
        assert again["counts"] == packed["counts"]
    assert unpacked("~") == [] and unpacked("o") == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "points"}, "kind: got 'points'"),
        ({"max_boxes": 0}, "max_boxes: got 0, expected from 1"),
        ({"mask_size": -1}, "mask_size: got -1"),
    ],
)
def test_a_form_that_cannot_be(fields, message):
    with pytest.raises(ValueError, match=message):
        TargetForm(**fields)

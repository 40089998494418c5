"""Pictures of found objects: colours by class, masks inside, names in view."""

import numpy as np

from vit_jax_xfer.data.outlines import run_lengths
from vit_jax_xfer.evaluate.detection.found_objects import FoundObjects
from vit_jax_xfer.evaluate.detection.object_pictures import draw_objects
from vit_jax_xfer.explain.colour_scales import class_colours

PHOTO = np.full((120, 160, 3), 100, np.uint8)
BOXES = np.array([(10.0, 50, 70, 110), (90, 40, 150, 100)])


def found_of(outlines=None):
    return FoundObjects(BOXES, np.array([0.9, 0.4]), np.array([1, 0]), outlines, (120, 160))


def test_boxes_from_the_threshold_on():
    colours = class_colours(2)
    picture = draw_objects(PHOTO, found_of(), ("ant", "cat"))
    assert (picture[109, 12:69] == colours[1]).all() and (picture[60:100, 10] == colours[1]).all()
    assert not (picture == colours[0]).all(-1).any()
    assert (picture[60:100, 20:60] == 100).all()  # no masks
    # The name lies over the box, on its colour.
    label = picture[30:50, 10:60]
    assert (label == colours[1]).all(-1).mean() > 0.2 and len(np.unique(label)) > 4
    both = draw_objects(PHOTO, found_of(), ("ant", "cat"), 0.4)
    assert (both == colours[0]).all(-1).any()
    np.testing.assert_array_equal(draw_objects(PHOTO, found_of(), ("ant", "cat"), 1.0), PHOTO)


def test_masks_are_mixed_in():
    square = np.array([(30.0, 70), (60, 70), (60, 100), (30, 100)])
    outlines = tuple(run_lengths((square,), (120, 160)) for _ in BOXES)
    picture = draw_objects(PHOTO, found_of(outlines), ("ant", "cat"))
    mixed = np.round((100 + class_colours(2)[1].astype(float)) / 2)
    assert (picture[75:95, 35:55] == mixed).all() and (picture[55:65, 20:60] == 100).all()


def test_names_stay_in_the_picture():
    boxes = np.array([(150.0, 0, 160, 8)])
    found = FoundObjects(boxes, np.array([0.9]), np.array([0]), None, (120, 160))
    picture = draw_objects(PHOTO, found, ("a long name of a class",))
    assert (picture[:14, 10:150] != 100).any()


def test_colours_differ_and_stay():
    colours = class_colours(90).astype(int)
    far = abs(colours[:, None] - colours[None]).sum(-1) + 999 * np.eye(90)
    assert far.min() > 5 and abs(np.diff(colours, axis=0)).sum(-1).min() > 100
    np.testing.assert_array_equal(class_colours(7), colours[:7])

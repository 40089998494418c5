"""Pictures of classes, and their numbers as PNG."""

import numpy as np
import pytest
from PIL import Image

from vit_jax_xfer.evaluate.segmentation.class_pictures import draw_classes, write_numbers
from vit_jax_xfer.explain.colour_scales import class_colours


def test_colours_and_a_legend_of_what_is_there():
    classes = np.zeros((60, 200), int)
    classes[:, 120:] = 2
    photo = np.full((60, 200, 3), 50, np.uint8)
    picture = draw_classes(photo, classes, ("sky", "sea", "sand"))
    colours = class_colours(3)
    for column, label in ((0, 0), (150, 2)):
        mixed = np.round(0.4 * 50 + 0.6 * colours[label])
        assert (picture[:60, column] == mixed).all()
    legend = picture[60:]
    for label, there in enumerate((True, False, True)):
        assert (legend == colours[label]).all(-1).any() == there
    names = [f"class {i}" for i in range(60)]
    many = draw_classes(photo, np.arange(60 * 200).reshape(60, 200) % 60, names)
    assert many.shape[0] > 200 and many.shape[1] == 200


@pytest.mark.parametrize("number", [3, 256, 300])
def test_numbers(tmp_path, number):
    classes = np.array([[0, 1], [2, number - 1]])
    write_numbers(classes, number, tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), classes)

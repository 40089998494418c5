"""What evaluations ask of arrays, in errors that name the image."""

import numpy as np
import pytest

from vit_jax_xfer.arguments.array_checks import require_finite_images


def test_the_first_image_that_is_no_number_is_named():
    rows = np.zeros((3, 2, 2), np.float32)
    require_finite_images("features", rows, str)
    rows[1, 0, 1], rows[2] = np.inf, np.nan
    with pytest.raises(ValueError, match="^image 9: features: some values are NaN or infinite"):
        require_finite_images("features", rows, "image {}".format, 8)

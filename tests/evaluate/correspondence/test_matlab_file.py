"""MATLAB's files against SciPy's writer, and those that are none."""

import io

import numpy as np
import pytest
import scipy.io

from vit_jax_xfer.evaluate.correspondence.matlab_file import read_array


def written(packed=False, **arrays):
    file = io.BytesIO()
    scipy.io.savemat(file, arrays, do_compression=packed)
    return file.getvalue()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["f8", "f4", "i1", "u2", "i4", "i8"])
def test_an_array_among_others(kind, packed):
    points = np.arange(20).reshape(2, 10).astype(kind)
    data = written(packed, a="text", b={"c": 1}, pts_coord=points, d=np.ones((3, 3)))
    found = read_array(data, "pts_coord")
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, points)
    with pytest.raises(KeyError, match="other"):
        read_array(data, "other")


@pytest.mark.parametrize(
    ("array", "said"),
    [(1j * np.ones((2, 10)), "real"), ("text", "real"), (np.array([1, "a"], object), "real|parts")],
)
def test_what_holds_no_real_numbers(array, said):
    with pytest.raises(ValueError, match=said):
        read_array(written(pts_coord=array), "pts_coord")


def test_what_is_no_such_file():
    data = written(pts_coord=np.ones((2, 10)))
    for broken in (b"", b"text" * 99, data[:-20]):
        with pytest.raises((ValueError, KeyError)):
            read_array(broken, "pts_coord")
    with pytest.raises(ValueError, match="unpacks to more than"):
        read_array(written(True, pts_coord=np.zeros((2, 10**6))), "pts_coord")
    # More numbers than there are: a file of a few bytes may not ask for any amount of memory.
    sides = np.array([2, 10], "<i4").tobytes()
    with pytest.raises(ValueError, match="an array of sides"):
        read_array(data.replace(sides, np.array([2**30, 2**30], "<i4").tobytes()), "pts_coord")

"""PF-PASCAL's folders: pairs of the published list, keypoints that aren't shown, what is wrong."""

import numpy as np
import pytest
import scipy.io
from PIL import Image

from vit_jax_xfer.evaluate.correspondence.keypoint_layouts import open_pairs

ROWS = ("PF-dataset-PASCAL/JPEGImages/a.jpg,x/b.jpg,3,1;2,3;4", "b.jpg,a.jpg,bird")


@pytest.fixture
def root(tmp_path):
    inner = tmp_path / "PF-dataset-PASCAL"
    (inner / "Annotations" / "bird").mkdir(parents=True)
    (inner / "JPEGImages").mkdir()
    for name, size, first in (("a", (40, 30), 1.0), ("b", (20, 50), np.nan)):
        Image.new("RGB", size).save(inner / "JPEGImages" / f"{name}.jpg")
        points = np.array([[first, first], [4.0, 9.0], [19.5, 8.0]])
        scipy.io.savemat(inner / "Annotations/bird" / f"{name}.mat", {"kps": points})
    (inner / "test_pairs_pf_pascal.csv").write_text("source_image,target_image,class\n")
    return tmp_path


def write(root, *rows, header=True):
    lines = ["source_image,target_image,class,XA,YA"] * header + list(rows)
    (root / "PF-dataset-PASCAL/test_pairs_pf_pascal.csv").write_text("\n".join(lines))
    return f"pfpascal:{root}"


@pytest.mark.parametrize("header", [True, False])
def test_pairs(root, header):
    name, (first, second) = open_pairs(write(root, *ROWS, header=header))
    assert name == "pfpascal" and first.category == second.category == "bird"
    assert (first.source.name, first.target.name) == ("a.jpg", "b.jpg")
    assert (first.reference, second.reference) == (50, 40)
    np.testing.assert_array_equal(first.shown, [False, True, True])
    np.testing.assert_array_equal(first.source_points, [[0.5, 0.5], [3.5, 8.5], [19, 7.5]])
    assert first.target_size == (20, 50)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("header", [True, False])
def test_names_without_suffix_and_other_separators(root, header, separator):
    """A first line of names without suffix is a pair, where its class is one; none is dropped."""
    rows = [["a", "b", "3"], ["x\\b.jpg", "x\\a.jpg", "bird"]]
    rows = [["source_image", "target_image", "class"]] * header + rows
    file = root / "PF-dataset-PASCAL/test_pairs_pf_pascal.csv"
    file.write_text("\r\n".join(separator.join(row) for row in rows) + "\r\n\r\n")
    _, pairs = open_pairs(f"pfpascal:{root}")
    assert [pair.source.name for pair in pairs] == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    "row, message",
    [
        ("a.jpg,c.jpg,3", r"bird.c\.mat: no such file"),
        ("a.jpg,b.jpg,21", "line 2: class '21'; expected VOC's name, or 1 to 20"),
        ("a.jpg,b.jpg", "line 2: expected two images and a class"),
        ("", "lists no pairs"),
    ],
)
def test_what_is_wrong(root, row, message):
    with pytest.raises(ValueError, match=message):
        open_pairs(write(root, row))


def test_without_a_list(root):
    (root / "PF-dataset-PASCAL/test_pairs_pf_pascal.csv").unlink()
    with pytest.raises(ValueError, match="expected the list of test pairs there"):
        open_pairs(f"pfpascal:{root}")

"""The files below a folder: which are a data set's, and where links lead."""

import pytest
from clutter import clutter

from vit_jax_xfer.data.sources.visible_files import files_below, is_hidden, visible


@pytest.mark.parametrize("name", ["._a.jpg", ".git", "__MACOSX", "@eaDir"])
def test_hidden(name):
    assert is_hidden(name) and not is_hidden("a.jpg") and not is_hidden("_a.jpg")


def test_files_below(tmp_path):
    folder = tmp_path / "photos"
    (folder / "b").mkdir(parents=True)
    for name in ("c.jpg", "b/a.jpg"):
        (folder / name).touch()
    clutter(folder)
    assert files_below(folder) == [folder / "b/a.jpg", folder / "c.jpg"]
    assert visible(folder.glob("*/*.jpg"), folder) == [folder / "b/a.jpg"]


def test_links_are_followed_and_end(tmp_path):
    folder, other = tmp_path / "photos", tmp_path / "elsewhere"
    for one in (folder, other):
        one.mkdir()
    (other / "a.jpg").touch()
    for name in ("x", "y"):
        (folder / name).symlink_to(other)
    (folder / "around").symlink_to(folder)
    (other / "back").symlink_to(folder)
    (folder / "gone.jpg").symlink_to(tmp_path / "gone.jpg")
    found = [str(file.relative_to(folder)) for file in files_below(folder)]
    assert found == ["gone.jpg", "x/a.jpg", "y/a.jpg"]

"""Files appear whole or not at all."""

import os
import pathlib

import numpy as np
import pytest

import vit_jax_xfer
from vit_jax_xfer.whole_files import write_npz, write_whole, written_whole


def test_a_file_appears_at_the_end(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with written_whole(path, durable=True) as partial:
        partial.write_text("new")
        assert path.read_text() == "old" and partial.parent == tmp_path
        assert partial.name.startswith(".")  # what lists a folder's files passes it by
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="no room"), written_whole(path) as partial:
        partial.write_text("ne")
        raise OSError("no room")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_text_is_utf_8(tmp_path):
    write_whole(str(tmp_path / "x.txt"), "a × b\n")
    assert (tmp_path / "x.txt").read_bytes() == b"a \xc3\x97 b\n"
    write_whole(tmp_path / "x.txt", os.fsdecode(b"old\xe9.jpg"))  # a file's name in Latin-1
    assert (tmp_path / "x.txt").read_bytes() == b"old\xe9.jpg"


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays(compressed, tmp_path):
    write_npz(tmp_path / "x.npz", {"a": np.zeros(9999)}, compressed)
    assert np.load(tmp_path / "x.npz")["a"].shape == (9999,)
    assert ((tmp_path / "x.npz").stat().st_size < 9999) == compressed
    with pytest.raises(AttributeError):
        write_npz(tmp_path / "x.npz", {"a": np.ones(2), "b": np.array([lambda: 0])})
    assert list(np.load(tmp_path / "x.npz")) == ["a"]


def test_nothing_writes_arrays_past_it():
    package = pathlib.Path(vit_jax_xfer.__file__).parent
    found = {file.name for file in package.rglob("*.py") if "np.savez" in file.read_text("utf-8")}
    assert found == {"whole_files.py"}

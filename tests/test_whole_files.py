"""Files appear whole or not at all."""

import contextlib
import os
import pathlib
import resource

import numpy as np
import pytest

import vit_jax_xfer
from vit_jax_xfer.features.feature_files import OneFile
from vit_jax_xfer.pretrained.saved_models import write_safetensors
from vit_jax_xfer.whole_files import write_npz, write_whole, written_whole


@pytest.fixture
def no_room():
    """No file can grow beyond so many bytes, as on a full disk."""

    @contextlib.contextmanager
    def limit(size):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit


def features_written(path):
    """Features of images, as the command writes them into one file."""
    store = OneFile(path, "float32", {})
    try:
        for i in range(3):
            store.add(path, f"{i}", np.ones((8, 8, 16)), (8, 8))
    finally:
        store.close(False)


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


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_whole(path, "x" * 9999),
        lambda path: write_npz(path, {"a": np.zeros(9999)}),
        lambda path: write_safetensors(path, {"a": np.zeros(9999)}),
        features_written,
    ],
    ids=["text", "arrays", "weights", "features"],
)
def test_a_full_disk_is_an_error_that_names_the_file(write, tmp_path, no_room):
    path = tmp_path / "x.npz"
    path.write_text("old")
    with pytest.raises(OSError, match="File too large.*") as caught, no_room(2048):
        write(path)
    assert str(path) in str(caught.value)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_nothing_writes_arrays_past_it():
    package = pathlib.Path(vit_jax_xfer.__file__).parent
    found = {file.name for file in package.rglob("*.py") if "np.savez" in file.read_text("utf-8")}
    assert found == {"whole_files.py"}

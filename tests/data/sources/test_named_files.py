"""Lists of a data set: no device, no endless file, no name that leads out of the folder."""

import os
import pathlib

import pytest

from vit_jax_xfer.data import open_source
from vit_jax_xfer.data.sources.class_match import read_class_map
from vit_jax_xfer.data.sources.named_files import inside_folder, read_json, read_text

FOLDER = pathlib.Path("/data/set")


def test_text_of_a_regular_file(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes("\ufeffcat\ndöner\n".encode())
    assert read_text(path) == "cat\ndöner\n"
    assert read_text(path, largest=14) == "cat\ndöner\n"
    with pytest.raises(ValueError, match="it has 14 bytes, expected 13 at most"):
        read_text(path, largest=13)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="it is no UTF-8 text"):
        read_text(path)
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "none")


def test_what_has_no_end_is_not_begun(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # nobody writes to it: to open it would wait for ever
    for path in (tmp_path / "pipe", pathlib.Path("/dev/zero")):
        with pytest.raises(ValueError, match="it is a device or a pipe"):
            read_text(path)
        with pytest.raises(ValueError, match="class_map: got .*it is a device or a pipe"):
            read_class_map(str(path))
        with pytest.raises(ValueError, match="classes: got .*it is a device or a pipe"):
            open_source("digits", classes=str(path))


def test_json_of_any_depth(tmp_path):
    path = tmp_path / "deep.json"
    path.write_text('{"a": [1]}')
    assert read_json(path) == {"a": [1]}
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match="too deep inside each other"):
        read_json(path)
    with pytest.raises(ValueError, match="class_map: .* is no JSON"):
        read_class_map(str(path))


@pytest.mark.parametrize("name", ["x.jpg", "a/x.jpg", "a/./x..jpg", "..x"])
def test_names_inside(name):
    assert inside_folder(FOLDER, name, FOLDER / "list").is_relative_to(FOLDER)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "..", "a\0.jpg"])
def test_names_that_lead_out(name):
    with pytest.raises(ValueError, match="^/data/set/list: .* is no name of a file inside /data"):
        inside_folder(FOLDER, name, FOLDER / "list")

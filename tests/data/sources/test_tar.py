"""Archives of images: read where they lie, classes by folder, what is none refused."""

import gzip
import io
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

from vit_jax_xfer.data.sources.tar import open_tar


def archive(path, names, mode="w"):
    with tarfile.open(path, mode) as file:
        for number, name in enumerate(names):
            data = io.BytesIO()
            Image.new("RGB", (3, 2), (number, 0, 0)).save(data, "PNG")
            member = tarfile.TarInfo(name)
            member.size = len(data.getvalue())
            file.addfile(member, io.BytesIO(data.getvalue()))
    return path


NAMES = ("set/owl/1.png", "set/cat/b.png", "set/cat/a.png", "set/notes.txt", "set/cat/.hidden.png")


def test_images_and_classes(tmp_path):
    source = open_tar(archive(tmp_path / "set.tar", NAMES))
    assert source.class_names == ("cat", "owl") and source.num_classes == 2
    assert source.files == ["set/cat/a.png", "set/cat/b.png", "set/owl/1.png"]
    np.testing.assert_array_equal(source.labels(), [0, 0, 1])
    again = pickle.loads(pickle.dumps(source))
    assert [int(again[i]["image"][0, 0, 0]) for i in range(3)] == [2, 1, 0]
    assert again[2]["name"].endswith("set.tar:set/owl/1.png")


def test_folders_inside(tmp_path):
    names = ("c/fog/3/cat/a.png", "c/fog/30/cat/a.png", "c/snow/3/cat/a.png")
    source = open_tar(archive(tmp_path / "c.tar", names), "fog/3")
    assert source.files == ["c/fog/3/cat/a.png"]
    with pytest.raises(ValueError, match=r"c.tar: holds no images in fog/4"):
        open_tar(tmp_path / "c.tar", "fog/4")


def test_what_is_no_archive_is_refused(tmp_path):
    whole = archive(tmp_path / "set.tar", NAMES).read_bytes()
    (tmp_path / "packed.tar").write_bytes(gzip.compress(whole))
    (tmp_path / "half.tar").write_bytes(whole[:700])
    (tmp_path / "rubbish.tar").write_bytes(b"rubbish" * 300)
    for name in ("packed", "half", "rubbish"):
        with pytest.raises(ValueError, match=f"{name}.tar: .*(no .tar archive|holds no images)"):
            open_tar(tmp_path / f"{name}.tar")

"""Large arrays of a source lie in memory once, and workers map them; names of files are packed."""

import multiprocessing
import os
import pickle
import random

import numpy as np
import pytest

from vit_jax_xfer.data import shared_arrays
from vit_jax_xfer.data.shared_arrays import Handed, received, shared
from vit_jax_xfer.data.sources import integrity
from vit_jax_xfer.data.sources.folder import FolderSource
from vit_jax_xfer.data.sources.packed_names import PackedNames
from vit_jax_xfer.data.sources.source import Subset

NUMBER = 10_000  # names, as those of ImageNet-21k are


def source_of(number):
    files = [f"n{i // 650:08d}/n{i // 650:08d}_{i % 650}.JPEG" for i in range(number)]
    labels = np.arange(number) // 650
    return files, FolderSource("/data", files, labels, ("a", "b"), "folder:/data/train")


@pytest.fixture(scope="module")
def many():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_arrays, "_LARGE", 2**12)
        yield source_of(NUMBER)


def handed_on(thing):
    """A thing as another process gets it, and the bytes that were written for it."""
    ours, theirs = multiprocessing.Pipe()
    handed = Handed(thing)
    with ours, theirs:
        handed.send(ours)
        handed.close()
        return received(theirs), handed


def test_packed_names_are_a_list_of_strings():
    names = ["a/1.jpg", "a/é.png", "b/\udcff.jpg", "b/", ""]
    packed = PackedNames([names[:2], [], names[2:]])
    assert packed == names and names == packed and list(packed) == names and len(packed) == 5
    assert packed[1:3] == names[1:3] and packed[-2] == "b/" and packed != names[:4]
    assert "a/é.png" in packed and pickle.loads(pickle.dumps(packed)) == names
    assert PackedNames([]) == [] and not PackedNames([[]])
    with pytest.raises(IndexError):
        packed[5]


def test_a_name_takes_its_letters_and_four_bytes(many):
    files, source = many
    assert source.files.nbytes == sum(map(len, files)) + 4 * (NUMBER + 1)


def test_a_worker_gets_a_folders_names_by_descriptor_and_each_evaluation_too(many):
    files, source = many
    chosen = Subset(source, np.arange(0, NUMBER, 2), "half")
    found, handed = handed_on((source, {"more": 1}))
    assert found[0].files == files and found[0].class_names == source.class_names
    np.testing.assert_array_equal(found[0].all_labels, source.all_labels)
    assert len(handed.task) < 10_000 and handed._own is None  # nothing is copied for the worker
    # What nobody laid into shared memory, such as a choice, is copied once for all workers.
    found, handed = handed_on(chosen)
    assert len(handed.task) < 10_000 and handed._own is not None
    np.testing.assert_array_equal(found.indices, chosen.indices)
    assert found.source.files[1234] == files[1234]
    found.indices[0] = 7  # a copy of that page; the parent's stays
    assert chosen.indices[0] == 0


def test_shared_memory_is_mapped_and_goes_with_its_array():
    given = shared(np.arange(2**18))
    assert not given.flags.writeable and shared(given) is given
    file = shared_arrays._files[shared_arrays._address(given)]
    found, _ = handed_on(given)
    os.pwrite(file.fileno(), np.int64(77).tobytes(), 8 * 1000)
    assert found[1000] == given[1000] == 77  # the same pages
    del given
    assert file.closed and found[1001] == 1001
    small = np.arange(3)
    assert shared(small) is small


def test_the_check_of_files_reads_the_same_sample_without_a_list_of_all(monkeypatch):
    read = []
    monkeypatch.setattr(integrity, "MAX_CHECKED", 5)
    monkeypatch.setattr(integrity, "_problem", lambda path: read.append(path))
    files = [f"{i}.jpg" for i in range(100)]
    integrity.check_files(PackedNames([files]), "spec", "/data")
    assert sorted(read) == sorted(f"/data/{x}" for x in random.Random(0).sample(files, 5))

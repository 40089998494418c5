"""open_source: specs, splits, few-label subsets, pickling, error texts; digits and npz."""

import io
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import sklearn.datasets

from vit_jax_xfer.data import open_source
from vit_jax_xfer.data.sources import npz
from vit_jax_xfer.data.sources.split import split_range


@pytest.fixture(scope="module")
def npz_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("npz") / "cells.npz"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 6, 5), dtype=np.uint8)
    np.savez(
        path,
        train_images=pixels[:30],
        train_labels=(np.arange(30) % 3)[:, None],
        test_images=pixels[30:, ..., None].repeat(3, -1),
        test_labels=np.full(10, 4),
        extra_images=pixels,
    )
    return path


def test_digits():
    train, test = open_source("digits"), open_source("digits", "test")
    assert (len(train), len(test), train.num_classes) == (1297, 500, 10)
    assert train.class_names == tuple("0123456789")
    example = train[7]
    assert example["image"].shape == (8, 8, 3) and example["image"].dtype == np.uint8
    assert type(example["label"]) is int and example["label"] == train.labels()[7]
    assert train.images.max() == 255 and set(np.unique(train.images)) <= {
        round(v * 255 / 16) for v in range(17)
    }
    everything = {image.tobytes() for source in (train, test) for image in source.images}
    assert len(everything) > 1790  # disjoint, up to a few scans that are equal


def test_digits_do_not_change():
    assert open_source("digits").labels()[:10].tolist() == [2, 8, 2, 6, 6, 7, 1, 9, 8, 5]


def test_digits_are_those_of_scikit_learn():
    theirs = sklearn.datasets.load_digits()
    order = np.random.RandomState(0).permutation(1797)
    both = [open_source("digits"), open_source("digits", "test")]
    images = np.concatenate([np.stack([one[i]["image"] for i in range(len(one))]) for one in both])
    np.testing.assert_allclose(images[..., 0], theirs.images[order] * 255 / 16, atol=0.5)
    assert np.array_equal(np.concatenate([one.labels() for one in both]), theirs.target[order])


def test_npz(npz_file):
    train = open_source(f"npz:{npz_file}")
    assert len(train) == 30 and train[4]["image"].shape == (6, 5, 3) and train[4]["label"] == 1
    # Class 4 is in the test split only, and yet both splits agree on the number of classes.
    assert train.num_classes == open_source(f"npz:{npz_file}", "test").num_classes == 5
    unlabelled = open_source(f"npz:{npz_file}", "extra")
    assert unlabelled[0]["label"] == -1 and unlabelled.num_classes == 0
    np.testing.assert_array_equal(
        unlabelled[33]["image"], open_source(f"npz:{npz_file}", "test")[3]["image"]
    )


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"train_images": np.zeros((2, 4, 4))}, "float64"),
        ({"train_images": np.zeros((0, 4, 4), np.uint8)}, "no images"),
        ({"train_images": np.zeros((2, 4, 4, 2), np.uint8)}, r"\(2, 4, 4, 2\)"),
        ({"images": np.zeros((2, 4, 4), np.uint8)}, "its arrays: images"),
        ({"train_images": np.zeros((2, 4, 4), np.uint8), "train_labels": np.arange(3)}, "3 labels"),
        ({"train_images": np.zeros((2, 4, 4), np.uint8), "train_labels": np.zeros(2)}, "float64"),
        ({"train_images": np.zeros((1, 4, 4), np.uint8), "train_labels": np.array([-2])}, "-2"),
        (
            {
                "train_images": np.zeros((1, 4, 4), np.uint8),
                "train_labels": np.array([2]),
                "class_names": np.array(["a", "b"]),
            },
            "2 class_names",
        ),
        ({"train_images": np.array([{}], dtype=object)}, "pickle"),
    ],
)  # fmt: skip
def test_npz_errors(tmp_path, arrays, message):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        open_source(f"npz:{tmp_path / 'x.npz'}")


def test_npz_in_the_home_folder_with_names_as_bytes(tmp_path, monkeypatch):
    """As h5py gives them."""
    monkeypatch.setenv("HOME", str(tmp_path))
    arrays = {"train_images": np.zeros((2, 4, 4), np.uint8), "train_labels": np.arange(2)}
    np.savez(tmp_path / "x.npz", **arrays, class_names=np.array([b"cat", "Hündin".encode()]))
    assert open_source("npz:~/x.npz").class_names == ("cat", "Hündin")


def test_npz_that_would_unpack_to_more_than_it_holds(tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    monkeypatch.setattr(npz, "_ALWAYS_ALLOWED", 2**16)
    np.savez_compressed(path, train_images=np.zeros((100, 50, 50), np.uint8))
    with pytest.raises(ValueError, match="x.npz.*train_images.npy would unpack .* to 250,128"):
        open_source(f"npz:{path}")
    header = io.BytesIO()
    claim = {"descr": "|u1", "fortran_order": False, "shape": (10**13, 8, 8)}
    np.lib.format.write_array_header_1_0(header, claim)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train_images.npy", header.getvalue() + bytes(64))
    with pytest.raises(
        ValueError, match="train_images.npy declares an array of 640,000,000,000,000"
    ):
        open_source(f"npz:{path}")


def test_broken_npz(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 not a zip file")
    with pytest.raises(ValueError, match="not a readable .npz"):
        open_source(f"npz:{tmp_path / 'x.npz'}")


@pytest.mark.parametrize(
    ("split", "size", "expected"),
    [
        ("train[:30%]", 10, range(3)),
        ("train[30%:]", 10, range(3, 10)),
        ("train[2:5]", 10, range(2, 5)),
        ("train[-2:]", 10, range(8, 10)),
        ("train[-25%:]", 8, range(6, 8)),
        ("train[:]", 4, range(4)),
    ],
)
def test_split_range(split, size, expected):
    assert split_range(split, size).tolist() == list(expected)


def test_split_range_of_a_source():
    whole, part = open_source("digits"), open_source("digits", "train[100:200]")
    assert len(part) == 100 and part.num_classes == 10
    np.testing.assert_array_equal(part.labels(), whole.labels()[100:200])
    np.testing.assert_array_equal(part[5]["image"], whole[105]["image"])


def test_per_class():
    few = open_source("digits", per_class=3, subset_seed=1)
    assert np.bincount(few.labels()).tolist() == [3] * 10
    again = open_source("digits", per_class=3, subset_seed=1)
    np.testing.assert_array_equal(few.indices, again.indices)
    other = open_source("digits", per_class=3, subset_seed=2)
    assert few.indices.tolist() != other.indices.tolist()
    part = open_source("digits", "train[:50%]", per_class=2)
    assert len(part) == 20 and part[3]["label"] == part.labels()[3]


def test_per_class_errors(npz_file):
    with pytest.raises(ValueError, match="per_class: got 500, but class '.' of digits/train has"):
        open_source("digits", per_class=500)
    with pytest.raises(ValueError, match="per_class: got 0"):
        open_source("digits", per_class=0)
    with pytest.raises(ValueError, match="unlabelled"):
        open_source(f"npz:{npz_file}", "extra", per_class=1)


@pytest.mark.parametrize(
    ("spec", "arguments", "message"),
    [
        ("hdf5:x", {}, "spec: got 'hdf5:x', expected 'digits', 'folder:PATH'"),
        ("digits:x", {}, "digits takes no path"),
        ("digits", {"split": "val"}, "split: got 'val', but digits has train, test"),
        ("digits", {"split": "train[1:2:3]"}, r"split: got 'train\[1:2:3\]', expected a name"),
        ("digits", {"split": "train[5:5]"}, "keeps none of the 1297"),
        ("digits", {"data_dir": "/x"}, "data_dir: got '/x', but only tfds"),
        ("npz:/no/such.npz", {}, "npz file '/no/such.npz' does not exist"),
        ("folder:/no/such", {}, "folder '/no/such' does not exist"),
        ("folder:", {}, "folder '' does not exist"),
    ],
)
def test_errors_name_the_argument(spec, arguments, message):
    with pytest.raises(ValueError, match=message):
        open_source(spec, **arguments)


def test_sources_pickle(npz_file):
    few = open_source("digits", "train[:90%]", per_class=5)
    for source in (few, open_source(f"npz:{npz_file}")):
        copy = pickle.loads(pickle.dumps(source))
        np.testing.assert_array_equal(copy[0]["image"], source[0]["image"])


def test_import_is_light():
    heavy = "grain sklearn tensorflow_datasets tensorflow torch matplotlib"
    code = (
        "import sys, vit_jax_xfer; before = set(sys.modules); import vit_jax_xfer.data;"
        f"print([m for m in '{heavy}'.split() if m in set(sys.modules) - before])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_an_npz_with_a_broken_header_is_named(tmp_path):
    written, file = io.BytesIO(), tmp_path / "data.npz"
    np.save(written, np.zeros((2, 8, 8, 3), np.uint8))
    with zipfile.ZipFile(file, "w") as archive:
        broken = written.getvalue().replace(b"False", b"Fxlse")
        archive.writestr("train_images.npy", broken)
    with pytest.raises(ValueError, match="data.npz. is not a readable .npz file"):
        open_source(f"npz:{file}", "train")

"""PyTorch's files read without PyTorch: the same arrays, and what asks for more is refused."""

import argparse
import collections
import datetime
import functools
import pathlib
import struct
import sys
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest

from tests.pretrained.torch_archive import mapping, name, number, storage, tensor, text, write
from vit_jax_xfer.pretrained.lazy_arrays import Stored, Unbuilt
from vit_jax_xfer.pretrained.read_files import read_checkpoint, read_state
from vit_jax_xfer.pretrained.torch_files import open_torch

SIX = np.arange(6, dtype=np.float32)
FORMATS = pytest.mark.parametrize(
    ("zipped", "protocol"), [(zipped, n) for zipped in (True, False) for n in (2, 4, 5)]
)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="needs torch to write .pth files")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.pth"


def refused(path, match):
    """In one line, whether at once or when the arrays are read."""
    with pytest.raises(ValueError, match=match) as caught:
        dict(read_state(path))
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@FORMATS
def test_every_type_and_view(path, torch, monkeypatch, zipped, protocol):
    base = torch.arange(24.0).reshape(2, 3, 4)
    types = ["float64", "float32", "float16", "bfloat16", "bool"]
    types += ["int64", "int32", "int16", "int8", "uint8"]
    if zipped:
        types += ["uint16", "uint32", "uint64"]
    state = {kind: base.to(getattr(torch, kind)) for kind in types}
    state |= {
        "part": base[:, 1:, ::2],
        "turned": base.permute(2, 0, 1),
        "repeated": torch.ones(1).expand(7),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(3.5),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "buffer": torch.nn.Buffer(torch.ones(2)),
    }
    torch.save(state, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    monkeypatch.setitem(sys.modules, "torch", None)
    found = open_torch(path)
    assert list(found) == list(state)
    for key, theirs in state.items():
        expected = theirs.detach().float() if key == "bfloat16" else theirs.detach()
        assert found[key].shape == tuple(theirs.shape)
        assert found[key].dtype == str(theirs.dtype).removeprefix("torch.")
        np.testing.assert_array_equal(found[key].read(), expected.numpy())


@FORMATS
def test_what_stands_beside_weights(path, torch, zipped, protocol):
    content = {
        "model": collections.OrderedDict(w=torch.ones(2)),
        "args": argparse.Namespace(lr=0.1, out=pathlib.PurePosixPath("/runs/1")),
        "best": np.float64(3.5),
        "bytes": b"ab",
        "history": collections.defaultdict(list, {1: [2.5]}),
        "counts": collections.Counter("aab"),
        "kinds": ({1, 2}, frozenset("a"), torch.Size([1, 2]), 2**80, -5, 1j),
        "device": torch.device("cuda:0"),
        "big_endian": np.arange(6, dtype=">f4").reshape(2, 3).T,
        "numpy_state": np.random.default_rng(0).bit_generator.state,
    }
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    found = open_torch(path)
    assert isinstance(found["model"].pop("w"), Stored)
    turned = found.pop("big_endian")
    np.testing.assert_array_equal(np.asarray(turned), content.pop("big_endian"))
    content |= {
        "model": {},
        "args": {"lr": 0.1, "out": "/runs/1"},
        "device": "cuda:0",
    }
    assert found == content


class Configuration(dict):
    """An optimizer's configuration, of a class that nobody here has."""

    def __init__(self):
        super().__init__(lr=0.1)
        self.frozen = True


def test_objects_of_unknown_classes_are_left_out_and_said(path, torch):
    beside = {
        "config": Configuration(),
        "schedule": functools.partial(Configuration, lr=1),
        "when": datetime.timedelta(1),
    }
    torch.save({"model": {"w": torch.ones(2)}, **beside}, path)
    found = read_checkpoint(path)
    assert list(found.state) == ["w"]
    kinds = (f"{__name__}.Configuration", "functools.partial", "datetime.timedelta")
    said = zip(beside, kinds, strict=True)
    assert found.left_out == tuple(f"{key} (a {kind}, which is not read)" for key, kind in said)


def test_whole_networks_say_what_to_save(path, torch):
    torch.save(torch.nn.Linear(2, 2), path)
    refused(path, r"holds a whole torch.nn.modules.linear.Linear, .*save its state_dict\(\)")
    torch.save({"model": torch.nn.Linear(2, 2), "epoch": 3}, path)
    refused(path, r"model is a whole torch.nn.modules.linear.Linear, .*save its state_dict\(\)")


def test_weights_that_are_no_arrays_are_named(path, torch):
    torch.save({"w": torch.eye(2).to_sparse()}, path)
    refused(path, "w is a torch._utils._rebuild_sparse_tensor, expected an array")
    torch.save({"w": torch.ones(2, device="meta")}, path)
    refused(path, "w is a torch._utils._rebuild_meta_tensor_no_storage, expected an array")
    torch.save({"w": torch.ones(2, dtype=torch.complex64)}, path)
    refused(path, "w is of type complex64, expected numbers")
    torch.save({"w": torch.ones(2).to(torch.float8_e4m3fn)}, path)
    refused(path, "w is quantised .float8_e4m3fn.")


@pytest.mark.parametrize(
    ("kind", "known"),
    [
        (("torch", "Tensor"), True),
        (("torch.nn.parameter", "Parameter"), True),
        (("torchao.dtypes", "AffineQuantizedTensor"), False),
    ],
)
def test_tensors_of_other_classes(path, kind, known):
    """What an unknown class's numbers mean is unknown, too."""
    rebuild = name("torch._utils", "_rebuild_tensor_v2")
    arguments = tensor((6,)).removeprefix(rebuild).removesuffix(b"R")
    parts = b"(" + rebuild + name(*kind) + arguments + b"Nt"
    array = name("torch._tensor", "_rebuild_from_type_v2") + parts + b"R"
    write(path, mapping({"w": array}), {"0": SIX.tobytes()})
    if known:
        np.testing.assert_array_equal(read_state(path)["w"], SIX)
    else:
        refused(path, "w is a torchao.dtypes.AffineQuantizedTensor, expected an array")


@pytest.mark.parametrize("order", ["little", "big"])
def test_byte_orders(path, order):
    values = SIX.astype(f"{'<' if order == 'little' else '>'}f4").tobytes()
    brain = np.array([1.5, -2], ml_dtypes.bfloat16)
    brain = brain.view(np.uint16).astype("<u2" if order == "little" else ">u2").tobytes()
    content = mapping(
        {"w": tensor((2, 3)), "b": tensor((2,), stored=storage(2, "1", "BFloat16Storage"))}
    )
    write(path, content, {"0": values, "1": brain}, byteorder=order.encode())
    state = read_state(path)
    np.testing.assert_array_equal(state["w"], SIX.reshape(2, 3))
    np.testing.assert_array_equal(state["b"], [1.5, -2])
    write(path, content, {"0": values, "1": brain}, byteorder=b"middle")
    refused(path, "byteorder says neither little nor big")


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (tensor((2, 4), stored=storage(6)), "shape .2, 4. in 6 numbers"),
        (tensor((3,), offset=4, stored=storage(6)), "shape .3,. in 6 numbers"),
        (tensor((2, 2), (4, 2), stored=storage(6)), "shape .2, 2. in 6 numbers"),
        (tensor((2,), (-1,), stored=storage(6)), "strides .-1,."),
        (tensor((-2,), (1,), stored=storage(6)), "shape .-2,."),
        (tensor((2, 3), (1,), stored=storage(6)), "strides .1,."),
        (tensor((2**40,), (0,), stored=storage(6)), "expanded to shape"),
        (tensor((2**40, 2**40), (0, 0), stored=storage(6)), "expanded to shape"),
        (tensor((6,), stored=storage(7)), "holds 24 bytes, not 7 numbers of float32"),
        (tensor((6,), stored=storage(2**70)), "holds 24 bytes, not"),
        (tensor((6,), stored=storage(-6)), "without a number of numbers"),
        (tensor((6,), stored=storage(6, "1")), "no member data/1"),
        (tensor((6,), stored=storage(6, "../../data/0")), "no member"),
        (tensor((6,), stored=storage(6, kind="StrangeStorage")), "unknown class .torch.Strange"),
        (tensor((6,), stored=text("storage")), "a tensor in a str"),
        (tensor((6,), stored=text("storage") + b"Q"), "outside object that is no storage"),
    ],
)
def test_arrays_that_ask_for_more_than_there_is(path, array, match):
    write(path, mapping({"w": array}), {"0": SIX.tobytes()})
    tracemalloc.start()
    refused(path, match)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_damage_and_packing_are_found(path):
    write(path, mapping({"w": tensor((6,))}), {"0": SIX.tobytes()})
    good = path.read_bytes()
    path.write_bytes(good.replace(SIX.tobytes(), (SIX + 1).tobytes()))
    refused(path, "w: cannot be read .damaged: the checksum")
    path.write_bytes(good.replace(b"float", b"flaot").replace(b"FloatStorage", b"floatStorage"))
    refused(path, "data.pkl is damaged")
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in ["archive/data/0"]}
    write(path, mapping({"w": tensor((6,))}))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    refused(path, "data/0 is packed")


def test_a_checksum_that_was_left_out(path, torch):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"w": torch.arange(6.0)}, path)
    finally:
        torch.serialization.set_crc32_options(True)
    np.testing.assert_array_equal(read_state(path)["w"], SIX)


def test_old_files_that_are_cut(path, torch):
    torch.save({"w": torch.ones(4)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-3])
    refused(path, "truncated in a storage of 4 numbers of float32")


def test_tar_archives_say_how_to_convert(path):
    import tarfile

    with tarfile.open(path, "w") as archive:
        archive.add(__file__, "storages")
    refused(path, "is a tar archive, .*torch.save")


@pytest.mark.parametrize("content", [b"", b"\x80\x02K\x01.", struct.pack("<Q", 3)])
def test_other_content(path, content):
    path.write_bytes(b"anything" + content)
    refused(path, "truncated, or none of PyTorch's files")


def test_other_values_than_names_and_arrays(path):
    write(path, number(3))
    refused(path, "holds a int, expected names and arrays")
    assert isinstance(open_torch(path), int)
    write(path, tensor((6,)), {"0": SIX.tobytes()})
    refused(path, "holds a single array, expected names and arrays")
    write(path, b"ctimm\nmodel\n")
    assert isinstance(open_torch(path), Unbuilt)

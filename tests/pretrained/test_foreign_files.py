"""Files of every kind: the same arrays out of each, and damaged or unsafe ones refused."""

import argparse
import json
import pathlib
import struct
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.pretrained import load_pretrained
from vit_jax_xfer.pretrained.read_files import read_checkpoint, read_state

STATE = {"head.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "steps": np.array(3)}


class Code:
    """Unpickling this writes a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return pathlib.Path.touch, (self.target,)


def same(found):
    assert found.keys() == STATE.keys()
    np.testing.assert_array_equal(found["head.weight"], STATE["head.weight"])
    assert found["head.weight"].dtype == np.float32


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="needs torch to write .pth files")


def as_torch(torch):
    return {name: torch.from_numpy(np.array(x)) for name, x in STATE.items()}


def test_npz_and_safetensors(tmp_path):
    save_file = pytest.importorskip("safetensors.numpy", reason="needs safetensors").save_file
    np.savez(tmp_path / "a.npz", **STATE)
    save_file(STATE, tmp_path / "a.safetensors")
    same(read_state(tmp_path / "a.npz"))
    same(read_state(str(tmp_path / "a.safetensors")))


def test_bfloat16_safetensors(tmp_path):
    pytest.importorskip("safetensors", reason="needs safetensors")
    values = np.asarray(jnp.array([1.5, -2, 3], jnp.bfloat16))
    header = {"w": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}
    text = json.dumps(header).encode()
    data = struct.pack("<Q", len(text)) + text + values.tobytes()
    (tmp_path / "b.safetensors").write_bytes(data)
    found = read_state(tmp_path / "b.safetensors")["w"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [1.5, -2, 3])


def test_bfloat16_npz(tmp_path):
    values = np.asarray(jnp.array([[1.5, -2, 3]], jnp.bfloat16))
    np.savez(tmp_path / "b.npz", w=values, fortran=np.asfortranarray(np.ones((2, 3), ">f8")))
    found = read_state(tmp_path / "b.npz")
    np.testing.assert_array_equal(found["w"], [[1.5, -2, 3]])
    assert found["w"].dtype == found["fortran"].dtype == np.float32
    assert found["fortran"].shape == (2, 3)


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files_with_their_arguments(tmp_path, torch, zipped):
    content = {"model": as_torch(torch), "epoch": 3, "args": argparse.Namespace(lr=0.1)}
    path = tmp_path / "a.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    same(read_state(path))


def test_bfloat16_torch_parameters(tmp_path, torch):
    parameter = torch.nn.Parameter(torch.tensor([1.5, -2.0], dtype=torch.bfloat16))
    torch.save({"w": parameter}, tmp_path / "a.bin")
    np.testing.assert_array_equal(read_state(tmp_path / "a.bin")["w"], [1.5, -2])


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_in_a_torch_file_never_runs(tmp_path, torch, zipped):
    target = tmp_path / "ran"
    content = {"model": as_torch(torch), "extra": Code(target)}
    torch.save(content, tmp_path / "bad.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="bad.pt: holds pickled objects .*getattr") as caught:
        read_state(tmp_path / "bad.pt")
    assert "\n" not in str(caught.value)
    assert not target.exists()


def test_pickled_code_in_an_npz_never_runs(tmp_path):
    target = tmp_path / "ran"
    np.savez(tmp_path / "bad.npz", x=np.array([Code(target)], dtype=object))
    with pytest.raises(ValueError, match="bad.npz: cannot be read"):
        read_state(tmp_path / "bad.npz")
    assert not target.exists()


@pytest.mark.parametrize("kind", ["npz", "safetensors", "pth", "legacy.pth"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.3, 0.9, 0.99])
def test_truncated_files_are_named_in_one_line(tmp_path, kind, kept, request):
    path = tmp_path / f"cut.{kind}"
    state = {"w": np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)}
    if kind == "npz":
        np.savez(path, **state)
    elif kind == "safetensors":
        pytest.importorskip("safetensors.numpy", reason="needs safetensors").save_file(state, path)
    else:
        torch = request.getfixturevalue("torch")
        tensors = {"w": torch.from_numpy(state["w"])}
        torch.save(tensors, path, _use_new_zipfile_serialization=kind == "pth")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ValueError, match=f"cut.{kind}: ") as caught:
        read_state(path)
    assert "\n" not in str(caught.value)


def test_missing_unknown_and_empty(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.npz: no such file"):
        read_state(tmp_path / "none.npz")
    (tmp_path / "weights.h5").write_bytes(b"x")
    with pytest.raises(ValueError, match="weights.h5: is a Keras file; take"):
        load_pretrained(tmp_path / "weights.h5")
    with pytest.raises(ValueError, match="source: holds no arrays"):
        read_state({"model": {}})
    with pytest.raises(ValueError, match="source: epoch is a int, expected an array"):
        read_state({"w": np.ones(1), "epoch": 3})
    with pytest.raises(ValueError, match="source: w is of type <U1, expected numbers"):
        read_state({"w": np.array("a")})
    with pytest.raises(ValueError, match="source: w is of type complex64, expected numbers"):
        read_state({"w": np.ones(2, np.complex64)})


@pytest.mark.parametrize("suffix", ["pth", "bin", "npz", "safetensors", "ckpt", "pth.tar"])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "is a web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is a web page"),
    ],
)
def test_what_downloads_leave_instead_of_weights(tmp_path, suffix, content, what):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"a.{suffix}: {what}") as caught:
        read_state(path)
    assert "\n" not in str(caught.value)


def test_torchscript_archives_are_not_opened(tmp_path):
    path = tmp_path / "ViT-B-32.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("data.pkl", "code/__torch__.py", "constants.pkl", "version"):
            archive.writestr(f"ViT-B-32/{name}", b"")
    with pytest.raises(ValueError, match="TorchScript archive, which holds code.*state_dict"):
        read_state(path)


def test_real_torchscript_archives_are_known(tmp_path, torch):
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(2)).save(tmp_path / "a.pt")
    with pytest.raises(ValueError, match="TorchScript archive"):
        read_state(tmp_path / "a.pt")


def test_a_header_that_asks_for_more_than_there_is(tmp_path):
    np.savez(tmp_path / "a.npz", w=np.ones(3, np.float32))
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        array = archive.read("w.npy").replace(b"(3,), }       ", b"(3000000,), } ")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("w.npy", array)
    with pytest.raises(ValueError, match="b.npz: cannot be read .w.npy is not as long as"):
        read_state(tmp_path / "b.npz")


def test_damage_inside_a_file_shows_when_the_array_is_read(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, w=np.zeros(1000, np.float32), v=np.ones(2, np.float32))
    content = bytearray(path.read_bytes())
    content[2000] ^= 255
    path.write_bytes(content)
    state = read_state(path)
    np.testing.assert_array_equal(state["v"], [1, 1])
    with pytest.raises(ValueError, match="a.npz: w: cannot be read .*CRC"):
        state["w"]


@pytest.mark.parametrize("name", ["vit-b-300ep.pth.tar", "last.ckpt", "UPPER.PTH"])
def test_other_endings_of_torch_files(tmp_path, torch, name):
    torch.save({"state_dict": as_torch(torch), "epoch": 3}, tmp_path / name)
    same(read_state(tmp_path / name))


def test_a_file_has_no_configuration(tmp_path):
    np.savez(tmp_path / "a.npz", **STATE)
    (tmp_path / "config.json").write_text("{}")
    found = read_checkpoint(tmp_path / "a.npz")
    assert (found.config, found.preprocessor, found.left_out) == (None, None, ())
    assert found.where == str(tmp_path / "a.npz")

"""Files of every kind: the same arrays out of each, and damaged or unsafe ones refused."""

import argparse
import json
import pathlib
import struct
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.pretrained import load_pretrained
from vit_jax_xfer.pretrained.files import read_state

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


@pytest.mark.parametrize("wrapper", ["model", "state_dict"])
def test_wrappers_and_prefixes_come_off(wrapper):
    inner = {f"module.backbone.{name}": jnp.asarray(x) for name, x in STATE.items()}
    same(read_state({wrapper: inner, "epoch": 3, "args": None}))


def test_prefixes_that_only_some_names_have_stay():
    assert read_state({"model.a": np.ones(1), "head": np.ones(1)}).keys() == {"model.a", "head"}


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
    with pytest.raises(ValueError, match="bad.pt: truncated, or holds pickled objects") as caught:
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
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
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
    for path in (tmp_path / "weights.h5", tmp_path):
        with pytest.raises(ValueError, match="neither a file that ends in .npz"):
            load_pretrained(path)
    with pytest.raises(ValueError, match="source: holds no arrays"):
        read_state({"model": {}})
    with pytest.raises(ValueError, match="source: epoch is a int, expected an array"):
        read_state({"w": np.ones(1), "epoch": 3})
    with pytest.raises(ValueError, match="source: w is of type <U1, expected numbers"):
        read_state({"w": np.array("a")})


@pytest.mark.parametrize(
    ("suffix", "package", "extra"),
    [(".pth", "torch", "torch"), (".safetensors", "safetensors", "hf")],
)
def test_absent_packages_say_what_to_install(tmp_path, monkeypatch, suffix, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"")
    with pytest.raises(ImportError, match=rf"pip install vit_jax_xfer\[{extra}\]"):
        read_state(path)

"""Arrays that stay in their file until they are asked for."""

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from vit_jax_xfer.pretrained.lazy_arrays import LazyState, Stored
from vit_jax_xfer.pretrained.read_files import read_checkpoint, read_state

STATE = {
    "w": np.arange(6, dtype=np.float32).reshape(2, 3),
    "half": np.ones((4,), np.float16),
    "double": np.full((1, 2), 0.5),
    "steps": np.array(3),
    "mask": np.array([True, False]),
}


def write(path, kind, request):
    """STATE as a file of that kind."""
    if kind == "npz":
        np.savez(path, **STATE)
    elif kind == "compressed.npz":
        np.savez_compressed(path, **STATE)
    elif kind == "safetensors":
        pytest.importorskip("safetensors.numpy", reason="needs safetensors").save_file(STATE, path)
    else:
        torch = pytest.importorskip("torch", reason="needs torch to write .pth files")
        tensors = {name: torch.from_numpy(np.array(x)) for name, x in STATE.items()}
        torch.save(tensors, path, _use_new_zipfile_serialization=kind == "pth")


@pytest.fixture(params=["npz", "compressed.npz", "safetensors", "pth", "legacy.pth"])
def state(tmp_path, request):
    path = tmp_path / f"a.{request.param}"
    write(path, request.param, request)
    return read_state(path)


def counted(**shapes):
    """A state that notes in a list which arrays were read."""
    reads = []

    def stored(name, shape):
        def read():
            reads.append(name)
            return np.ones(shape, np.float32)

        return Stored(shape, "float32", read)

    return LazyState({name: stored(name, shape) for name, shape in shapes.items()}), reads


def test_every_kind_of_file(state):
    assert set(state) == set(STATE) and len(state) == len(STATE)
    for name, array in STATE.items():
        assert state.shape(name) == array.shape == state[name].shape
        np.testing.assert_array_equal(state[name], array)
        kind = array.dtype.kind
        assert state[name].dtype == (np.float32 if kind == "f" else array.dtype)


def test_names_and_shapes_do_not_read(monkeypatch, tmp_path):
    np.savez(tmp_path / "a.npz", **STATE)
    reads = []
    read_array = np.lib.format.read_array
    monkeypatch.setattr(
        np.lib.format, "read_array", lambda *a, **k: reads.append(1) or read_array(*a, **k)
    )
    state = read_checkpoint(tmp_path / "a.npz").state
    assert "w" in state and "v" not in state and len(list(state)) == 5
    assert state.shape("w") == (2, 3) and "a.npz, 5 names" in repr(state)
    assert not reads
    state["w"]
    state["w"]
    assert len(reads) == 2


def test_renamed_views_stay_lazy():
    state, reads = counted(**{"a.w": (2,), "a.b": (3,), "c": (4,)})
    view = state.renamed({"w": "a.w", "d": "c"})
    assert dict.fromkeys(view) == {"w": None, "d": None} and view.shape("d") == (4,)
    view = view.mapped(lambda name: None if name == "d" else f"x.{name}")
    assert list(view) == ["x.w"] and not reads
    view = view.replaced({"x.w": np.zeros(5), "new": jnp.ones(2)})
    assert view.shape("x.w") == (5,) and not reads
    np.testing.assert_array_equal(view["x.w"], np.zeros(5))
    assert not reads and view["new"].dtype == np.float32
    assert state["a.w"].sum() == 2 and reads == ["a.w"]
    with pytest.raises(ValueError, match="source: a.w and a.b both become x"):
        state.mapped(lambda name: "x")
    with pytest.raises(KeyError):
        state["w"]


def test_a_lazy_state_as_a_source_stays_lazy():
    state, reads = counted(**{"module.w": (2,), "module.b": (3,)})
    assert list(read_state(state)) == ["w", "b"] and not reads


def test_values_of_callers_are_not_copied_and_not_writable():
    mine = np.ones(3, np.float32)
    state = read_state({"w": mine})
    assert np.shares_memory(state["w"], mine)
    with pytest.raises(ValueError, match="read-only"):
        state["w"][0] = 2
    mine[0] = 3  # the caller's own array is as it was
    with pytest.raises(TypeError):
        state["w"] = mine


def test_values_of_jax_and_bfloat16():
    state = read_state({"jax": jnp.ones(2, jnp.bfloat16), "np": np.ones(2, ml_dtypes.bfloat16)})
    assert state["jax"].dtype == state["np"].dtype == np.float32


def test_an_array_that_is_not_as_announced():
    state = LazyState({"w": Stored((2,), "float32", lambda: np.ones(3))}, "a.npz")
    with pytest.raises(ValueError, match=r"a.npz: w: cannot be read \(shape \(3,\), announced"):
        state["w"]


def test_torch_arrays_are_mapped_and_made_float32_on_access(tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch to write .pth files")
    parameter = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    torch.save({"w": parameter, "v": torch.ones(2, 3).T}, tmp_path / "a.pth")
    state = read_state(tmp_path / "a.pth")
    assert state.stored["w"].dtype == "bfloat16" and state.shape("v") == (3, 2)
    assert state.stored["w"].read().dtype.name == "bfloat16"
    assert state["w"].dtype == np.float32 and state["v"].shape == (3, 2)
    assert not np.shares_memory(state["w"], state["w"])

"""Directories as the Hugging Face hub has them: whole, in shards, damaged and unsafe."""

import json

import numpy as np
import pytest

from vit_jax_xfer.pretrained.read_files import read_checkpoint, read_state

STATE = {f"embeddings.{name}": np.full((2, 3), i, np.float32) for i, name in enumerate("abcd")}
INDEX = "model.safetensors.index.json"


@pytest.fixture
def save():
    return pytest.importorskip("safetensors.numpy", reason="needs safetensors").save_file


@pytest.fixture
def shards(tmp_path, save):
    """A folder of two shards, and its index as a dict; write(index) puts it there."""
    files = dict(zip(STATE, ("one", "one", "two", "two"), strict=True))
    files = {name: f"model-{file}.safetensors" for name, file in files.items()}
    for file in set(files.values()):
        save({name: STATE[name] for name in STATE if files[name] == file}, tmp_path / file)
    write_index(tmp_path, files)
    return files


def write_index(folder, files, name=INDEX):
    (folder / name).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": files}))


def same(state):
    assert set(state) == set(STATE)
    for name, array in STATE.items():
        np.testing.assert_array_equal(state[name], array)


def fails(folder, match, error=ValueError):
    with pytest.raises(error, match=match) as caught:
        read_checkpoint(folder)
    assert "\n" not in str(caught.value)


def test_one_file_and_its_configuration(tmp_path, save):
    save(STATE, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.5]}')
    found = read_checkpoint(str(tmp_path))
    same(found.state)
    assert found.config == {"model_type": "vit"} and found.preprocessor == {"image_mean": [0.5]}
    assert found.where == str(tmp_path)


def test_safetensors_come_before_torch(tmp_path, save):
    save(STATE, tmp_path / "model.safetensors")
    (tmp_path / "pytorch_model.bin").write_bytes(b"never opened")
    same(read_state(tmp_path))


def test_shards(tmp_path, shards):
    found = read_checkpoint(tmp_path)
    same(found.state)
    assert found.config is None and found.state.shape("embeddings.d") == (2, 3)


def test_torch_files(tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch to write .bin files")
    tensors = {name: torch.from_numpy(array.copy()) for name, array in STATE.items()}
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    same(read_state(tmp_path))


def test_torch_shards(tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch to write .bin files")
    for name, array in STATE.items():
        torch.save({name: torch.from_numpy(array.copy())}, tmp_path / f"{name}.bin")
    files = {name: f"{name}.bin" for name in STATE}
    write_index(tmp_path, files, "pytorch_model.bin.index.json")
    same(read_state(tmp_path))


def test_the_only_file_there(tmp_path):
    np.savez(tmp_path / "anything.npz", **STATE)
    (tmp_path / "README.md").write_text("…")
    same(read_state(tmp_path))
    np.savez(tmp_path / "other.npz", **STATE)
    fails(tmp_path, "several weights files; pass one of anything.npz, other.npz")


def test_nothing_there(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    fails(tmp_path, "no weights here; looked for model.safetensors, .*index.json.* in .npz")


def test_a_download_that_is_not_finished(tmp_path):
    (tmp_path / "model.safetensors").symlink_to("../blobs/0123")
    np.savez(tmp_path / "other.npz", **STATE)
    fails(tmp_path, "model.safetensors: no such file", FileNotFoundError)


def test_arrays_stored_once_under_several_names(tmp_path, save, shards):
    # As safetensors.torch.save_model writes shared ones: in a file's metadata, or in the index's.
    again = {"embeddings.e": "embeddings.a", "embeddings.f": "embeddings.c", "format": "pt"}
    index = {"metadata": {"total_size": 1, **again}, "weight_map": shards}
    (tmp_path / INDEX).write_text(json.dumps(index))
    save(STATE, tmp_path / "whole.safetensors", metadata=again)
    for source in (tmp_path, tmp_path / "whole.safetensors"):
        found = read_state(source)
        assert set(found) == {*STATE, "embeddings.e", "embeddings.f"}
        np.testing.assert_array_equal(found["embeddings.e"], STATE["embeddings.a"])
        np.testing.assert_array_equal(found["embeddings.f"], STATE["embeddings.c"])


def test_a_missing_shard(tmp_path, shards):
    (tmp_path / "model-two.safetensors").unlink()
    fails(tmp_path, "model-two.safetensors: no such file, but model.saf", FileNotFoundError)


def test_shards_and_index_that_disagree(tmp_path, shards):
    write_index(tmp_path, {**shards, "embeddings.e": "model-two.safetensors"})
    fails(tmp_path, "model-two.safetensors: lacks embeddings.e, which model.safetensors.index")
    write_index(tmp_path, {name: shards[name] for name in list(shards)[:3]})
    fails(tmp_path, "model-two.safetensors: holds embeddings.d, which .* does not list")


@pytest.mark.parametrize(
    "file",
    ["../out.safetensors", "/etc/a.safetensors", "a/../../b.safetensors", "C:\\a.bin", "..\\a", ""],
)
def test_unsafe_shards_are_not_opened(tmp_path, shards, file):
    write_index(tmp_path, {**shards, "embeddings.e": file})
    fails(tmp_path, "is not inside the folder, so it is not opened")


@pytest.mark.parametrize("content", ["{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}'])
def test_an_index_without_a_map(tmp_path, content):
    (tmp_path / INDEX).write_text(content)
    fails(tmp_path, "index.json: no weight_map")


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", INDEX])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b'{"a": ', "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"[1, 2]", "a JSON list, expected an object"),
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1", "is a Git LFS pointer"),
    ],
)
def test_damaged_json(tmp_path, shards, name, content, what):
    (tmp_path / name).write_bytes(content)
    fails(tmp_path, f"{name}: .*{what}")

"""Addresses are refused wherever a path of this machine is meant."""

import pathlib

import pytest

import vit_jax_xfer as vjx
from tests.runs import tiny_config
from vit_jax_xfer.local_paths import local_path, named_path
from vit_jax_xfer.tasks.build import build_task


@pytest.mark.parametrize("address", ["gs://bucket/x", "s3://b/x", "https://a/x", "gs:/bucket/x"])
def test_an_address_is_refused_by_its_field(address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"^out: {address} is no folder.*mount the bucket"):
        local_path(address, "out")
    with pytest.raises(ValueError, match=address):
        vjx.load_pretrained(address)
    with pytest.raises(ValueError, match=f"task.teacher.*{address}"):
        build_task(tiny_config("attention_copy", task__teacher=address), (8, 8, 3), 10)
    model = vjx.create_model("vit_micro_patch2", num_classes=3)
    with pytest.raises(ValueError, match=address):
        vjx.save(address, model, {})
    assert list(tmp_path.iterdir()) == []


def test_other_paths_are_taken(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_path("~/a:b//c", "out") == tmp_path / "a:b/c"
    assert local_path(pathlib.Path("C:/x"), "out") == pathlib.Path("C:/x")


def test_paths_with_names(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert named_path("first=runs/a") == ("first", "runs/a")
    for path in ("runs/lr=0.1/model", "model", "=x"):
        assert named_path(path) == (path, path)
    (tmp_path / "lr=0.1").mkdir()
    assert named_path("lr=0.1") == ("lr=0.1", "lr=0.1")

"""Weights by name: what is fetched of a repository, what is said, and how each refusal reads.

A hub of this machine's stands for huggingface.co, and huggingface_hub itself talks to it.
"""

import json

import jax
import numpy as np
import pytest

import vit_jax_xfer as vjx
from tests.pretrained.fake_hub import FakeHub, serving
from tests.runs import tiny_config
from vit_jax_xfer.convert import main as convert
from vit_jax_xfer.pretrained import hub as module
from vit_jax_xfer.pretrained.hub import HubAddress, hub_address, local_source
from vit_jax_xfer.pretrained.loading_notes import LoadingNote
from vit_jax_xfer.pretrained.publish import to_publisher_names
from vit_jax_xfer.pretrained.saved_models import save_file, write_safetensors
from vit_jax_xfer.tasks.build import build_task
from vit_jax_xfer.tasks.teachers import load_weights

WEIGHTS = "model.safetensors"
CONFIG = {"config.json": b"{}", "preprocessor_config.json": b"{ }"}
INDEX = json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}).encode()
# What a repository has, and what of it is a model's.
REPOSITORIES = {
    "org/usual": (
        {WEIGHTS: b"x", "pytorch_model.bin": b"x", "tokenizer.json": b"{}", **CONFIG},
        {WEIGHTS, *CONFIG},
    ),
    "org/torch": ({"pytorch_model.bin": b"x", "README.md": b""}, {"pytorch_model.bin"}),
    "org/shards": (
        {
            "model.safetensors.index.json": INDEX,
            "one.safetensors": b"1",
            "two.safetensors": b"2",
            "three.safetensors": b"3",
        },
        {"model.safetensors.index.json", "one.safetensors", "two.safetensors"},
    ),
    "org/open_clip": (
        {
            "open_clip_model.safetensors": b"x",
            "open_clip.bin": b"x",
            "open_clip_config.json": b"{}",
        },
        {"open_clip_model.safetensors", "open_clip_config.json"},
    ),
    "org/names": ({"best.safetensors": b"x", "best.pth": b"y"}, {"best.safetensors"}),
    "org/ours": (
        {"model.json": b"{}", "variables/d/0": b"0", "variables/m": b"1"},
        {"model.json", "variables/d/0", "variables/m"},
    ),
    "timm/vit_tiny.tag": ({WEIGHTS: b"x", "config.json": b"{}"}, {WEIGHTS, "config.json"}),
}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The hub, with an empty cache and a process that has fetched nothing."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="needs the extra hf")
    repositories = {name: dict(files) for name, (files, _) in REPOSITORIES.items()}
    with serving(FakeHub(repositories)) as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.address)
        template = served.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.chdir(tmp_path)
        module._fetched.cache_clear()
        yield served
        module._fetched.cache_clear()


@pytest.fixture
def teacher(tmp_path, hub):
    """The tiny model that org/vit has, as timm names its parameters."""
    model = vjx.create_model(
        "vit_tiny_patch16", image_size=32, width=16, depth=1, num_heads=2, num_classes=3
    )
    shapes = jax.eval_shape(model.init_variables, jax.random.key(0))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype("f4"), shapes)
    write_safetensors(
        tmp_path / "vit.safetensors", to_publisher_names(variables, "supervised", "timm")
    )
    config = json.dumps({"num_attention_heads": 2}).encode()
    weights = (tmp_path / "vit.safetensors").read_bytes()
    hub.repositories["org/vit"] = {WEIGHTS: weights, "config.json": config}
    save_file(tmp_path / "ours.safetensors", model, variables)
    hub.repositories["org/file"] = {"a.safetensors": (tmp_path / "ours.safetensors").read_bytes()}
    return variables


def here(folder):
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def refused(source, match, error=ValueError):
    with pytest.raises(error, match=match) as caught:
        local_source(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("hf:facebook/dinov2-base", HubAddress("facebook/dinov2-base")),
        ("hf-hub:timm/vit.mae", HubAddress("timm/vit.mae")),
        ("hf://a/b/", HubAddress("a/b")),
        ("timm/vit_16_224.in21k", HubAddress("timm/vit_16_224.in21k")),
        ("hf:a/b@v1", HubAddress("a/b", "v1")),
        ("hf:a/b@refs/pr/3/x.pth", HubAddress("a/b", "refs/pr/3", "x.pth")),
        ("hf:a/b/in/x.pth", HubAddress("a/b", None, "in/x.pth")),
        ("hf:gpt2", HubAddress("gpt2")),
        ("a/b", None),
        ("runs/mae/model", None),
        ("timm/x.pth", None),
        ("timm/runs/model", None),
    ],
)  # fmt: skip
def test_addresses(text, address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub_address(text) == address
    assert address is None or hub_address(str(address)) == address


@pytest.mark.parametrize("text", ["hf:", "hf:/a", "hf:a/b@", "hf:a b", "hf:a/b/../../x"])
def test_no_address(text):
    with pytest.raises(ValueError, match=f"^{text}: (expected hf:ORG/NAME|.* leads out)"):
        hub_address(text)


def test_a_folder_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "timm" / "vit").mkdir(parents=True)
    assert local_source("timm/vit").samefile(tmp_path / "timm" / "vit")


@pytest.mark.parametrize("name", REPOSITORIES)
def test_a_models_files_are_fetched_once_and_the_commit_is_said(name, hub):
    source = name if name.startswith("timm/") else f"hf:{name}"
    with pytest.warns(LoadingNote, match=f"^hf:{name} is hf:{name}@{hub.commit(name)}: "):
        folder = local_source(source)
    assert here(folder) == REPOSITORIES[name][1] == set(hub.asked)
    hub.asked.clear()
    assert local_source(source) == folder
    module._fetched.cache_clear()  # another process
    assert local_source(source) == folder and hub.asked == []


def test_revisions_and_parts(hub):
    commit = hub.commit("org/usual")
    for revision in ("v1", "refs/pr/3", commit):
        assert local_source(f"hf:org/usual@{revision}").name == commit
    file = local_source("hf:org/usual@v1/pytorch_model.bin")
    assert file.read_bytes() == b"x"
    hub.repositories["org/nested"] = {"tower/model.safetensors": b"t", "model.safetensors": b"m"}
    assert here(local_source("hf:org/nested/tower")) == {"model.safetensors"}


def test_what_the_hub_refuses(hub):
    hub.gated = ("org/usual",)
    hub.repositories["org/two"] = {"a.pth": b"", "b.pth": b""}
    hub.repositories["org/none"] = {"README.md": b""}
    refused("hf:org/usual", r"^hf:org/usual: is gated: ask for access on https://.*hf auth login")
    refused("hf:org/nothing", "^hf:org/nothing: the hub has no such repository, or it is private")
    refused("hf:org/torch@v9", "^hf:org/torch@v9: the hub has no revision v9")
    refused("hf:org/a--b", "^hf:org/a--b: is no name that the hub has")
    refused("hf:org/two", "several weights files, a.pth, b.pth; pass one, as hf:org/two/a.pth")
    refused("hf:org/none", "no weights there; looked for model.safetensors.*it has README.md")
    refused("hf:org/torch/x.pth", "^hf:org/torch/x.pth: no weights there")


@pytest.mark.parametrize("way", ["offline", "unreachable", "broken"])
def test_without_the_hub(way, hub, monkeypatch):
    from huggingface_hub import constants

    folder = local_source("hf:org/usual")
    module._fetched.cache_clear()
    if way == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    elif way == "unreachable":
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    hub.broken = way == "broken"
    why = "HF_HUB_OFFLINE is set" if way == "offline" else "the hub can't be reached"
    copy = f"{why}.* from the cache, hf:org/usual@{hub.commit('org/usual')}"
    with pytest.warns(LoadingNote, match=copy):
        assert local_source("hf:org/usual") == folder
    refused("hf:org/torch", f"^hf:org/torch: {why}.* has no copy; download it where there is a")
    refused("hf:org/usual/pytorch_model.bin", f"{why}.* lacks it")


def test_without_huggingface_hub(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    module._fetched.cache_clear()
    refused("hf:org/usual", r"needs `pip install vit_jax_xfer\[hf\]`", ImportError)
    with pytest.raises(ValueError, match=r"^task.teacher: hf:org/usual: needs `pip"):
        build_task(tiny_config("attention_copy", task__teacher="hf:org/usual"), (8, 8, 3), 10)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("facebook/dinov2-base", "hub is passed as hf:facebook/dinov2-base"),
        ("vit_base_patch16_224.mae", "hf:timm/vit_base_patch16_224.mae"),
        ("https://x.org/a.pth", "source: https://x.org/a.pth is an address.*download it"),
        ("https://huggingface.co/a/b", "pass hf:a/b, which downloads it"),
        ("https://huggingface.co/a/b/resolve/main/x.pth?download=true", "pass hf:a/b/x.pth,"),
        ("https://huggingface.co/a/b/blob/v1/in/x.pth", "pass hf:a/b@v1/in/x.pth,"),
    ],
)
def test_how_to_pass_what_is_no_path(source, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = ValueError if source.startswith("https") else FileNotFoundError
    refused(source, says, error)
    with pytest.raises(error, match=says):
        vjx.load_pretrained(source)


@pytest.mark.parametrize("path", ["x/y/none.pth", "none.npz", "/a/b", "./none"])
def test_paths_that_are_not_there_stay_paths(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(local_source(path)) in (path, path.removeprefix("./"))


def test_every_way_in_takes_it(teacher, hub, tmp_path, capsys):
    model, variables = vjx.load_pretrained("hf:org/vit")
    assert model.num_heads == 2  # as only its config.json says
    jax.tree.map(np.testing.assert_array_equal, variables, teacher)
    _, ours = vjx.load_pretrained("hf:org/file/a.safetensors")
    jax.tree.map(np.testing.assert_array_equal, ours, teacher)

    assert convert(["hf:org/vit", str(tmp_path / "out.safetensors")]) == 0
    assert "hf:org/vit\n" in capsys.readouterr().out
    hub.asked.clear()
    assert convert(["hf:org/usual", str(tmp_path / "out.safetensors")]) == 1  # before it is fetched
    assert hub.asked == [] and "exists" in capsys.readouterr().err

    _, loaded = load_weights("task.teacher", "hf:org/vit")
    jax.tree.map(np.testing.assert_array_equal, loaded, teacher)
    with pytest.raises(ValueError, match="^init_from: hf:org/nothing: the hub has no such"):
        load_weights("init_from", "hf:org/nothing")

"""Class names in a publisher's config.json: read where they fit, else left out and said."""

import json
import warnings

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

import vit_jax_xfer as vjx
from tests.pretrained.timm_names import state_dict
from vit_jax_xfer.convert import main as convert
from vit_jax_xfer.evaluate.classification.open_classifier import open_classifier
from vit_jax_xfer.predict import predict
from vit_jax_xfer.pretrained.loading_notes import LoadingNote
from vit_jax_xfer.pretrained.published_names import published_names

NAMES = ("ant", "bee", "cat")
BY_ID = {str(number): name for number, name in enumerate(NAMES)}
TIMM = {
    "architecture": "vit_tiny_patch16_224",
    "model_args": {
        "embed_dim": 32, "depth": 1, "num_heads": 4, "img_size": [32, 32], "num_classes": 3,
    },
}  # fmt: skip


def folder(path, **config):
    """A folder of timm's with three classes."""
    save_file(state_dict(), path / "model.safetensors")
    (path / "config.json").write_text(json.dumps({**TIMM, **config}))
    return path


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({"label_names": list(NAMES)}, NAMES),
        ({"label_names": BY_ID}, NAMES),
        ({"id2label": BY_ID}, NAMES),
        ({"id2label": BY_ID, "label2id": {name: int(i) for i, name in BY_ID.items()}}, NAMES),
        ({"id2label": BY_ID, "label2id": {name: i for i, name in BY_ID.items()}}, NAMES),
        ({"label2id": {"bee": 1, "cat": 2, "ant": 0}}, NAMES),
        # timm's names are what its descriptions describe.
        ({"label_names": list(NAMES), "label_descriptions": {"ant": "an insect"}}, NAMES),
        ({"label_names": list(NAMES), "id2label": {"0": "x"}}, NAMES),
        ({}, None),
        (None, None),
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}}, None),
        ({"label_names": ["LABEL_0", "LABEL_1", "LABEL_2"]}, None),
        ({"id2label": {"0": "0", "1": "1", "2": "2"}}, None),
        # In another order they are names.
        ({"id2label": {"0": "0", "1": "10", "2": "2"}}, ("0", "10", "2")),
        ({"id2label": {"0": "LABEL_0", "1": "bee", "2": "LABEL_2"}}, ("LABEL_0", "bee", "LABEL_2")),
    ],
)
def test_names(config, names):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert published_names(config, 3) == names


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"label_names": {"0": "ant", "2": "cat"}}, "label_names has no name for 1 of 3 .* as 1;"),
        ({"id2label": {"1": "a", "2": "b", "3": "c"}}, "id2label has no name for 1 of 3 .* as 0;"),
        ({"id2label": {**BY_ID, "3": "dog"}}, "id2label names a class 3, and the weights have 3"),
        ({"id2label": {**BY_ID, "x": "dog"}}, "id2label names a class 'x'"),
        ({"id2label": {**BY_ID, "1": 7}}, "id2label is 7 for class 1, expected a name"),
        ({"label_names": ["ant", " ", "cat"]}, "label_names is ' ' for class 1"),
        ({"label2id": {"ant": 0, "bee": 0, "cat": 2}}, "label2id has no name for 1 of 3"),
        (
            {"id2label": BY_ID, "label2id": {"ant": 1, "bee": 0, "cat": 2}},
            "id2label says 'ant' is class 0, and label2id 1",
        ),
        ({"label_names": ["a (2)", "b", "a (2)"]}, None),
        ({"label_names": ["a", "a (0)", "a"]}, "has 'a' several times"),
    ],
)
def test_names_that_are_not_certain_are_left_out(config, said):
    if said is None:  # only the names that come of numbering are looked at
        with pytest.warns(LoadingNote, match="get their numbers"):
            assert published_names(config, 3) == ("a (2) (0)", "b", "a (2) (2)")
        return
    with pytest.warns(LoadingNote, match=rf"^config\.json: .*{said}"):
        assert published_names(config, 3) is None


def test_a_name_of_several_classes_gets_their_numbers():
    """As ImageNet's cranes, of which label2id has the last alone."""
    config = {
        "id2label": {"0": "crane", "1": "bee", "2": "crane"},
        "label2id": {"crane": 2, "bee": 1},
    }
    with pytest.warns(LoadingNote, match=r"numbers: 'crane \(0\)', 'crane \(2\)'$"):
        assert published_names(config, 3) == ("crane (0)", "bee", "crane (2)")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"label_names": ["ant"]}, "label_names has 1 names, but the weights have 3 classes"),
        ({"label_names": "ant"}, "label_names is 'ant', expected an object"),
        ({"id2label": list(NAMES)}, "id2label is .*, expected an object"),
    ],
)
def test_what_names_no_such_head_is_refused(config, said):
    with pytest.raises(ValueError, match=rf"^config\.json: {said}"):
        published_names(config, 3)


def test_a_folders_names_travel(tmp_path):
    source = folder(tmp_path, label_names=list(NAMES))
    model, variables = vjx.load_pretrained(source)
    assert model.class_names == NAMES
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for fields in ({"num_classes": 0}, {"class_names": None}):
            assert vjx.load_pretrained(source, **fields)[0].class_names is None
    own = vjx.load_pretrained(source, class_names=["x", "y", "z"])[0]
    assert own.class_names == ("x", "y", "z")
    with pytest.warns(LoadingNote, match="head of 3 classes is left out"):
        assert vjx.load_pretrained(source, num_classes=4)[0].class_names is None
    with pytest.raises(ValueError, match="class_names: got 1, and the model has 3 classes"):
        vjx.load_pretrained(source, class_names=("x",))
    vjx.save(tmp_path / "mine.npz", model, variables)
    with pytest.raises(ValueError, match="class_names: got 1, and the model has 3 classes"):
        vjx.load_pretrained(tmp_path / "mine.npz", class_names=("x",))


def test_commands_name_the_classes(tmp_path, capsys):
    source = folder(tmp_path, label_names=list(NAMES))
    assert convert([str(source), str(tmp_path / "out.safetensors")]) == 0
    assert "classes       ant, bee, cat\n" in capsys.readouterr().out
    assert vjx.load_pretrained(tmp_path / "out.safetensors")[0].class_names == NAMES
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "one.png")
    model, variables = open_classifier(str(source))
    (found,) = predict(model, variables, [tmp_path / "one.png"])
    assert {name for name, _ in found.classes} == set(NAMES)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([f"flower {i}" for i in range(10)], tuple(f"flower {i}" for i in range(10))),
        ([f"LABEL_{i}" for i in range(10)], None),
    ],
)
def test_transformers_folder(golden_case, tmp_path, labels, names):
    meta, _, state = golden_case("hf/vit")
    save_file(state, tmp_path / "model.safetensors")
    config = {**meta["config"], "id2label": {str(i): name for i, name in enumerate(labels)}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert vjx.load_pretrained(tmp_path)[0].class_names == names


def test_a_headless_network_has_no_classes(golden_case, tmp_path):
    """Whatever id2label holds, which transformers fills for it too."""
    meta, _, state = golden_case("hf/dinov2")
    save_file(state, tmp_path / "model.safetensors")
    config = {**meta["config"], "id2label": {"0": "cat", "1": "dog"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model, _ = vjx.load_pretrained(tmp_path)
    assert model.num_classes == 0 and model.class_names is None


def test_a_projection_has_no_classes(tmp_path):
    source = folder(tmp_path, id2label=BY_ID)
    save_file(state_dict(**{"head.bias": None}), source / "model.safetensors")
    model, _ = vjx.load_pretrained(source)
    assert (model.num_classes, model.head_bias, model.class_names) == (3, False, None)

"""predict: probabilities of a classifier's classes, by name, as text, JSON and CSV."""

import csv
import json
import re

import jax
import numpy as np
import pytest
from PIL import Image

import vit_jax_xfer as vjx
from vit_jax_xfer.models.preprocessing import Preprocessing
from vit_jax_xfer.predict import main, predict
from vit_jax_xfer.suites.imagenet_labels import class_names_of

FIELDS = {"image_size": 16, "patch_size": 8, "width": 16, "depth": 1, "num_heads": 2}
NAMES = ("cat", "dog", "owl")


@pytest.fixture(scope="module")
def network():
    model = vjx.VisionTransformer(
        **FIELDS, num_classes=3, class_names=NAMES, head_init_std=1.0,
        preprocessing=Preprocessing((0.5,) * 3, (0.25,) * 3, size=16),
    )  # fmt: skip
    return model, model.init_variables(jax.random.key(0))


@pytest.fixture
def photographs(tmp_path):
    """Five images of different sizes in a folder."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "predictions"  # whatever a folder is called
    folder.mkdir()
    for i in range(5):
        pixels = rng.integers(0, 256, (20 + i, 30, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def test_probabilities_are_the_softmax_of_the_logits(network, photographs):
    model, variables = network
    files = sorted(photographs.iterdir())
    found = predict(model, variables, files, top=2, batch_size=4)
    assert [one.file for one in found] == [str(file) for file in files]
    for file, one in zip(files, found, strict=True):
        shares = jax.nn.softmax(model.apply(variables, vjx.preprocess(model, file))[0])
        best = np.argsort(-np.asarray(shares))[:2]
        assert [name for name, _ in one.classes] == [NAMES[i] for i in best]
        np.testing.assert_allclose([share for _, share in one.classes], shares[best], atol=1e-6)


def test_a_few_images_are_no_whole_batch(photographs):
    """One photograph costs one pass, whatever the batch may be."""
    seen = []

    class Light:
        class_names, num_classes = NAMES[:2], 2
        preprocessing = Preprocessing((0.5,) * 3, (0.25,) * 3, size=16)

        def apply(self, variables, images):
            seen.append(images.shape)
            return jax.numpy.stack([-images.mean((1, 2, 3)), images.mean((1, 2, 3))], -1)

    assert len(predict(Light(), {}, sorted(photographs.iterdir())[:2])) == 2
    assert seen == [(2, 16, 16, 3)]


def test_names_of_classes(network):
    model, _ = network
    assert class_names_of(model) == NAMES
    assert class_names_of(model.clone(class_names=None)) == ("0", "1", "2")
    many = model.clone(class_names=None, num_classes=1000)
    assert class_names_of(many)[:2] == ("n01440764", "n01443537")
    with pytest.raises(ValueError, match="no head"):
        class_names_of(model.clone(num_classes=0, class_names=None))


def test_the_command(network, photographs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    vjx.save(tmp_path / "model.safetensors", *network, class_names=NAMES)
    command = [str(tmp_path / "model.safetensors"), str(photographs), "--top", "3"]
    assert main([*command, "--out", str(tmp_path / "found.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and lines[0].startswith(f"{photographs / '0.png'}: ")
    assert all(name in lines[0] for name in NAMES)
    (first, *_) = json.loads((tmp_path / "found.json").read_text())
    assert sum(one["probability"] for one in first["classes"]) == pytest.approx(1, abs=1e-5)
    # One that can't be read is left out and said.
    (photographs / "2.png").write_bytes(b"no image")
    assert main([*command, "--out", str(tmp_path / "found.csv")]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: cannot read image") and "2.png" in said.err
    with (tmp_path / "found.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 3 and rows[0]["rank"] == "1"
    assert rows[0]["class"] == first["classes"][0]["name"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--out", "found.txt"], "error: --out: found.txt ends in neither of .json, .csv"),
        ([], "error: MODEL: .*nowhere.safetensors: no such file"),
    ],
)
def test_the_command_says_what_is_wrong(change, message, photographs, capsys):
    assert main(["nowhere.safetensors", str(photographs), *change]) == 1
    assert re.search(message, capsys.readouterr().err)

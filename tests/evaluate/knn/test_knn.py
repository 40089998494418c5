"""Votes of nearest neighbours, and the command around them."""

import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

import vit_jax_xfer as vjx
from vit_jax_xfer.evaluate.knn.__main__ import _check_classes, main
from vit_jax_xfer.evaluate.knn.image_vectors import image_vectors
from vit_jax_xfer.evaluate.knn.neighbour_votes import neighbour_votes

RNG = np.random.default_rng(0)


def by_hand(features, labels, queries, k, temperature, classes):
    """DINO's sum, query by query."""
    votes = np.zeros((len(queries), classes))
    for row, query in enumerate(queries):
        cosines = [query @ one / np.linalg.norm(query) / np.linalg.norm(one) for one in features]
        for index in np.argsort(cosines)[::-1][:k]:
            votes[row, labels[index]] += np.exp((cosines[index] - max(cosines)) / temperature)
    return votes


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.07), (5, 1.0), (99, 0.5)])
def test_votes_are_dinos(k, temperature):
    features, queries = RNG.normal(size=(30, 4)), RNG.normal(size=(7, 4))
    labels = RNG.integers(3, size=30)
    votes = neighbour_votes(features, labels, queries, k, temperature, 4)
    wanted = by_hand(features, labels, queries, k, temperature, 4)
    np.testing.assert_allclose(votes, wanted, rtol=1e-4, atol=1e-7)
    assert not votes[:, 3].any()


def test_a_small_temperature_is_the_nearest_one():
    features = RNG.normal(size=(50, 8))
    labels = np.arange(50) % 5
    votes = neighbour_votes(features, labels, features, k=20, temperature=1e-3)
    np.testing.assert_array_equal(votes.argmax(axis=1), labels)
    # Though nothing is near, and exp(cosine / temperature) beyond what float32 holds.
    votes = neighbour_votes(features, labels, -features, k=20, temperature=1e-3)
    nearest = (features @ features.T / np.linalg.norm(features, axis=1)[:, None]).argmin(0)
    np.testing.assert_array_equal(votes.argmax(axis=1), labels[nearest])
    assert (votes.max(axis=1) >= 1).all()


def test_many_queries_go_part_by_part(monkeypatch):
    from vit_jax_xfer.evaluate.knn import neighbour_votes as module

    features, labels = RNG.normal(size=(10, 4)), np.arange(10) % 2
    whole = neighbour_votes(features, labels, features, 3)
    monkeypatch.setattr(module, "_AT_ONCE", 30)
    np.testing.assert_allclose(neighbour_votes(features, labels, features, 3), whole, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.zeros(3)}, "labels: expected 4 whole numbers"),
        ({"labels": np.array([0, 1, 2, -1])}, r"labels: from -1 to 2, expected 0 … 2"),
        ({"queries": np.zeros((2, 5))}, "queries: have 5 channels, and features 3"),
        ({"queries": np.zeros((0, 3))}, r"queries: expected shape \(N, C\)"),
        ({"features": np.full((4, 3), np.nan)}, "features: holds numbers that are not finite"),
        ({"k": 0}, "k: got 0, expected a whole number from 1 on"),
        ({"k": 2.5}, "k: got 2.5, expected a whole number from 1 on"),
        ({"temperature": 0.0}, "temperature: got 0.0, expected more than 0"),
        ({"temperature": np.nan}, "temperature: got nan"),
    ],
)
def test_what_is_wrong_is_named(change, message):
    given = {"features": np.ones((4, 3)), "labels": np.arange(4), "queries": np.ones((2, 3))}
    with pytest.raises(ValueError, match=message):
        neighbour_votes(**{**given, **change})


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny network of random weights, whose features tell colours."""
    model = vjx.create_model(
        "vit_tiny_patch16",
        image_size=16,
        patch_size=8,
        width=16,
        depth=1,
        num_heads=2,
        num_classes=0,
        preprocessing=vjx.Preprocessing((0.5,) * 3, (0.5,) * 3, size=16),
    )
    shapes = jax.eval_shape(model.init_variables, jax.random.key(0))
    variables = jax.tree.map(lambda x: RNG.normal(size=x.shape).astype("f4"), shapes)
    path = tmp_path_factory.mktemp("knn") / "model.safetensors"
    vjx.save(path, model, variables)
    return path, model, variables


@pytest.fixture(scope="module")
def flowers(tmp_path_factory):
    """Two classes of each split: red images and blue ones."""
    folder = tmp_path_factory.mktemp("flowers")
    for split, number in (("train", 6), ("test", 3)):
        for name, colour in (("blue", (0, 0, 200)), ("red", (200, 0, 0))):
            (folder / split / name).mkdir(parents=True)
            for i in range(number):
                pixels = np.clip(RNG.normal(colour, 20, size=(20, 24, 3)), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / split / name / f"{i}.png")
    return folder


@pytest.mark.parametrize("feature", ["cls", "avg", "pooled"])
def test_vectors_are_what_the_network_computes(feature, model, flowers):
    _, network, variables = model
    source = [{"image": np.asarray(Image.open(file))} for file in flowers.rglob("test/*/*.png")]
    found = image_vectors(network, variables, source, feature, batch=4)
    out = vjx.extract(network, variables, vjx.preprocess(network, [one["image"] for one in source]))
    wanted = {"cls": out.cls, "avg": out.patch_tokens.mean((1, 2)), "pooled": out.pooled}[feature]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_network_that_says_nothing_of_its_images_is_refused(model, flowers, tmp_path, capsys):
    _, network, variables = model
    silent = tmp_path / "silent.safetensors"
    vjx.save(silent, network.with_fields(preprocessing=None), variables)
    assert main(["--model", str(silent), "--data", f"folder:{flowers}"]) == 1
    said = "error: --model: the network doesn't say how its images are prepared; save it with a "
    assert said in capsys.readouterr().err


def test_the_command(model, flowers, tmp_path, capsys):
    out = tmp_path / "knn.json"
    flags = ["--model", str(model[0]), "--data", f"folder:{flowers}", "--out", str(out)]
    assert main([*flags, "--k", "1,4"]) == 0
    assert capsys.readouterr().out == "| k | top-1 % |\n|---|---|\n| 1 | 100.0 |\n| 4 | 100.0 |\n"
    written = json.loads(out.read_text())
    assert written["rows"] == [{"k": 1, "top1": 1.0}, {"k": 4, "top1": 1.0}]
    assert written["images"] == [12, 6]
    assert main(flags) == 1
    assert "--out: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--data", "folder:{flowers}/train"], "error: --data: "),
        (["--test", "none"], "error: --test: |error: --data: "),
        (["--model", "/nowhere.npz"], "error: --model: /nowhere.npz: no such file"),
        (["--size", "20"], "not a whole number of 8-pixel patches"),
    ],
)
def test_the_command_says_what_is_wrong(change, said, model, flowers, capsys):
    import re

    change = [one.format(flowers=flowers) for one in change]
    assert main(["--model", str(model[0]), "--data", f"folder:{flowers}", *change]) == 1
    error = capsys.readouterr().err
    assert re.search(said, error) and error.count("\n") == 1


def test_images_without_labels_are_no_hits():
    names = {"class_names": ("a", "b"), "num_classes": 2}
    train, test = (
        SimpleNamespace(**names, name=name, labels=lambda found=labels: np.array(found))
        for name, labels in (("train", [0, 1]), ("test", [1, -1]))
    )
    _check_classes(train, train)
    for pair in ((train, test), (test, train)):
        with pytest.raises(ValueError, match="test: 1 of 2 images have no label"):
            _check_classes(*pair)


@pytest.mark.parametrize("temperature", ["0", "nan", "-1", "inf", "warm"])
def test_temperatures_that_are_none(temperature, capsys):
    with pytest.raises(SystemExit):
        main(["--model", "gone", "--data", "digits", "--temperature", temperature])
    assert f"got '{temperature}', expected a number above 0" in capsys.readouterr().err

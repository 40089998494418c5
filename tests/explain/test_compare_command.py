"""The table of methods on a tiny network: its files, its figures, and what is refused."""

import csv
import json

import jax
import numpy as np
import pytest
from PIL import Image

import vit_jax_xfer as vjx
from vit_jax_xfer.evaluate.faithfulness import method_table
from vit_jax_xfer.evaluate.faithfulness.localisation import Counts
from vit_jax_xfer.evaluate.faithfulness.method_scores import MethodScores
from vit_jax_xfer.explain.compare.__main__ import main
from vit_jax_xfer.models.vit import VisionTransformer

MODEL = VisionTransformer(
    image_size=8,
    patch_size=4,
    width=8,
    depth=1,
    num_heads=2,
    mlp_dim=8,
    num_classes=2,
    class_names=("dog", "cat"),
    preprocessing=vjx.Preprocessing((0.5,) * 3, (0.25,) * 3, size=8),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network, labelled images, and masks of their objects."""
    folder = tmp_path_factory.mktemp("compare")
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.standard_normal(x.shape).astype(np.float32), shapes)
    vjx.save(folder / "model.npz", MODEL, variables)
    headless = MODEL.clone(num_classes=0, class_names=None)
    variables["params"].pop("head")
    vjx.save(folder / "headless.npz", headless, variables)
    for name in ("cat", "dog", "photos", "masks"):
        place = folder / (name if name in ("photos", "masks") else f"images/test/{name}")
        place.mkdir(parents=True)
        for i in range(4 if name in ("photos", "masks") else 2):
            pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
            if name == "masks":
                pixels = np.tri(8, dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{i}.png")
    return folder


def run(folder, *arguments, model="model.npz"):
    return main(["--model", f"{folder}/{model}", "--batch-size", "3", *arguments])


def test_labelled_images(folder, capsys):
    arguments = ["--data", f"folder:{folder}/images", "--target", "label", "--steps", "4"]
    arguments += ["--methods", "rollout,gradcam", "--groups", "4", "--out", f"{folder}/table"]
    assert run(folder, *arguments, "--set", "rollout.head_fusion=max") == 0
    found = json.loads((folder / "table.json").read_text())
    assert list(found["methods"]) == ["random", "edges", "rollout", "gradcam"]
    assert (found["images"], found["options"]) == (4, {"rollout": {"head_fusion": "max"}})
    figures = found["methods"]["gradcam"]["figures"]
    assert set(figures) == {
        *("deletion", "insertion", "positive", "negative", "abpc", "saco"),
        *("beats random by", "images a second"),
    }
    gain = found["methods"]["random"]["figures"]["deletion"] - figures["deletion"]
    assert figures["beats random by"] == pytest.approx(gain)
    assert found["methods"]["gradcam"]["standard_error"]["deletion"] > 0
    with (folder / "table.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert float(rows["gradcam"]["saco"]) == pytest.approx(figures["saco"])
    assert "| method | deletion ↓ | beats random by ↑ |" in (folder / "table.md").read_text()
    assert "| rollout |" in capsys.readouterr().out


def test_masks_and_whole_patches(folder, capsys):
    masks = f"masks:{folder}/photos:{folder}/masks"
    arguments = ["--masks", masks, "--methods", "raw_attention", "--figures", "deletion"]
    assert run(folder, *arguments, "--patches") == 0
    said = capsys.readouterr().out
    assert "| deletion ↓ | beats random by ↑ | pixel accuracy % ↑ | mIoU % ↑ | mAP % ↑ |" in said
    assert said.count("\n") == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--data, --masks, --boxes: give one of them"),
        (["--methods", "rolout"], "--methods: 'rolout' is none of"),
        (["--figures", "deletions"], "--figures: 'deletions' is none of deletion"),
        (["--set", "rollout=3"], "--set: got 'rollout=3', expected METHOD.OPTION=VALUE"),
        (["--size", "9"], "--image-size: "),
        (["--steps", "2"], "--steps: got 2, expected 3 or more"),
        (["--methods", "rollout", "--set", "smoothgrad.seed=1"], "--set: smoothgrad is none of"),
    ],
)
def test_the_command_says_what_is_wrong(folder, capsys, arguments, message):
    data = ["--data", f"folder:{folder}/images"] if arguments else []
    assert run(folder, *data, *arguments) == 1
    said = capsys.readouterr().err
    assert f"error: {message}" in said
    assert said.count("\n") == 1


def test_a_network_without_a_head_has_no_answer(folder, capsys):
    assert run(folder, "--data", f"folder:{folder}/images", model="headless.npz") == 1
    assert "error: --model: it has no head, and so no answer" in capsys.readouterr().err


def test_a_table_marks_the_best_and_which_way_that_is():
    counts = [Counts(np.array([3, 1]), np.array([3, 1]), 1.0, 1.0, True, 0.5)]
    scores = {
        "random": MethodScores({"deletion": [0.5, 0.7], "saco": [0.0, 0.1]}, [], 2.0, 8),
        "rollout": MethodScores({"deletion": [0.4, 0.4], "saco": [-0.2, 0.0]}, counts, 4.0, 8),
    }
    lines = method_table.as_markdown(method_table.rows(scores)).splitlines()
    assert lines[0] == (
        "| method | deletion ↓ | beats random by ↑ | saco ↑ | pixel accuracy % ↑ | mIoU % ↑ "
        "| mAP % ↑ | F1 % ↑ | pointing % ↑ | energy % ↑ | images a second |"
    )
    assert lines[2] == "| random | 0.600 |  | **0.050** |  |  |  |  |  |  | 4 |"
    assert lines[3].startswith("| rollout | **0.400** | **0.200** | -0.100 | **100.0** |")

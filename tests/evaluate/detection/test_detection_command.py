"""The command: figures by class names, broken images, results for COCO's tools, one-line errors."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from tests.data.object_sets import annotation, write_coco
from tests.runs import tiny_dense
from vit_jax_xfer import data
from vit_jax_xfer.data.outlines import run_lengths
from vit_jax_xfer.evaluate import dense_models
from vit_jax_xfer.evaluate.detection import detector_program
from vit_jax_xfer.evaluate.detection.__main__ import main
from vit_jax_xfer.evaluate.detection.found_objects import FoundObjects
from vit_jax_xfer.train import loop

NAMES = ("dog", "cat", "ant")  # the model's, of which the set has the last two
ENTRIES = [
    annotation(1, (5, 6, 20, 30), 3),
    annotation(2, (30, 2, 59, 39), 7),
    annotation(2, (2, 2, 22, 12), 3),
]


class Perfect:
    """A detector that knows the set, in place of a compiled one: what it gives on each image."""

    pipeline = "resize_pad(30)|normalize"
    misses = ()  # places whose objects it doesn't find

    def __init__(self, model, variables, size):
        self.given = model, size
        self.source = data.open_source(model.spec)

    def __call__(self, rows, masks, names):
        assert len(names) == len(rows["index"])
        found = []
        for place, original in zip(rows["index"], rows["original"], strict=True):
            objects = self.source.target(max(place, 0)).targets
            if place in self.misses:
                objects = objects.pick([])
            labels = np.array([2, 1])[objects.labels]
            outlines = tuple(run_lengths(one, original.tolist()) for one in objects.outlines)
            scores = np.linspace(0.9, 0.5, len(objects))
            found.append(FoundObjects(objects.boxes, scores, labels, outlines, tuple(original)))
        return found


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Runs the command on a set of three images, with flags."""
    spec = f"coco:{tmp_path / 'set'}"
    write_coco(tmp_path / "set", ENTRIES, images=3)
    model = SimpleNamespace(spec=spec, class_names=NAMES, num_classes=3, predicts="boxes")
    monkeypatch.setattr(dense_models, "open_dense_network", lambda *given, **more: (model, {}))
    monkeypatch.setattr(detector_program, "DetectorProgram", Perfect)
    monkeypatch.setattr(Perfect, "misses", ())

    def run(*flags, data=spec):
        given = ["model", "--data", data, "--split", "train", "--batch-size", "2"]
        return main([*given, *map(str, flags)])

    return run


def test_figures_and_results(command, tmp_path, capsys):
    out, results = tmp_path / "ap.json", tmp_path / "results.json"
    assert command("--out", out, "--results", results) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[1].startswith("boxes: AP 100.0  AP50 100.0  AP75 100.0  APs 100.0")
    assert "ARl –" in said.out.splitlines()[1] and "masks: AP 100.0" in said.out
    assert "VOC: AP50 100.0" in said.out and "lacks 1 of the model's classes: dog" in said.err
    written = json.loads(out.read_text())
    assert written["images"] == 3 and written["figures"]["mask_AP"] == 1
    assert written["figures"]["APl"] is None
    found = json.loads(results.read_text())
    assert [one["category_id"] for one in found] == [3, 7, 3] and found[0]["image_id"] == 1

    from pycocotools.coco import COCO

    truth = COCO(str(tmp_path / "set/annotations/instances_train2017.json"))
    assert len(truth.loadRes(found).anns) == 3


def test_what_is_missed_counts(command, monkeypatch, capsys):
    monkeypatch.setattr(Perfect, "misses", (0,))
    assert command() == 0
    # Of ants one of two is found, with nothing wrong before it: 51 of 101 recalls.
    assert f"AP {100 * (1 + 51 / 101) / 2:.1f}" in capsys.readouterr().out


def test_a_part_of_the_set(command, capsys):
    assert command("--limit", 1) == 0
    assert capsys.readouterr().out.startswith("1 images of coco:")


def test_images_that_cannot_be_read_are_in_no_figure(command, tmp_path, capsys):
    from PIL import Image

    # Of another size than the list says, which no look at a file's ends shows.
    Image.new("RGB", (9, 9)).save(tmp_path / "set/train2017/1.png")
    assert command() == 1
    said = capsys.readouterr()
    assert said.out.startswith("2 images of") and "AP 100.0" in said.out
    assert re.search(r"error: cannot read image .*1\.png: it has 9×9 pixels", said.err)


@pytest.mark.parametrize(
    ("flags", "more", "message"),
    [
        (["--split", "test"], {}, "error: --split: got 'test', for which"),
        ([], {"data": "folder:x"}, "error: --data: spec: folder 'x' does not exist"),
        (["--out", "/"], {}, "error: --out: / is a folder"),
    ],
)
def test_what_is_wrong_is_one_line(command, flags, more, message, capsys):
    assert command(*flags, **more) == 1
    err = capsys.readouterr().err
    assert re.search(message, err) and err.count("\n") == 1


def test_classes_that_the_model_lacks_are_refused(command, tmp_path, capsys):
    file = tmp_path / "set/annotations/instances_train2017.json"
    file.write_text(file.read_text().replace('"ant"', '"ants"'))
    assert command() == 1
    assert "its class 'ants' is none of the model's 3; the nearest" in capsys.readouterr().err


def test_a_runs_figures_are_the_commands(tmp_path, capsys):
    for split, images in (("train", 4), ("val", 3)):
        boxes = [(4 + 5 * i, 6, 30 + i, 30) for i in range(images)]
        found = [annotation(i + 1, box, 3 + 4 * (i % 2)) for i, box in enumerate(boxes)]
        write_coco(tmp_path / "set", found, images, f"instances_{split}2017")
    spec = f"coco:{tmp_path / 'set'}"
    fields = {"data__pipeline": "resize_pad(16)|flip|normalize", "data__max_boxes": 4, "steps": 120}
    fields |= {"model__pyramid_width": 8, "model__score_threshold": 0.0, "optim__lr": 4e-3}
    loop.run(tiny_dense("detection", spec, **fields), tmp_path / "run")
    out = tmp_path / "ap.json"
    command = [str(tmp_path / "run/model"), "--data", spec, "--out", str(out)]
    assert main(command) == 0
    written = json.loads(out.read_text())["figures"]
    metrics = json.loads((tmp_path / "run/result.json").read_text())["metrics"]
    assert written["AR100"] > 0
    known = {name: value for name, value in written.items() if value is not None}
    assert known == pytest.approx({name: metrics[name] for name in known}, abs=1e-4)
    assert set(known) == set(metrics)

"""detect: a picture for each photograph, COCO's format of all that was found, one-line errors."""

import json
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import vit_jax_xfer as vjx
from vit_jax_xfer.detect import as_coco, main
from vit_jax_xfer.evaluate import dense_models
from vit_jax_xfer.evaluate.detection import detector_program
from vit_jax_xfer.evaluate.detection.detector_program import DetectorProgram
from vit_jax_xfer.evaluate.detection.found_objects import FoundObjects
from vit_jax_xfer.models.dense.detections import Detections

NAMES = ("ant", "cat")


class OneCat:
    """In place of a compiled detector: the middle of each photograph is a cat."""

    pipeline = "resize_pad(32)|normalize"
    sizes = ()

    def __init__(self, model, variables, size):
        OneCat.sizes = []

    def __call__(self, rows):
        OneCat.sizes.append(rows["image"].shape)
        found = []
        for height, width in rows["original"]:
            box = np.array([(width / 4, height / 4, 3 * width / 4, 3 * height / 4)])
            shares = np.array([0.875])
            found.append(FoundObjects(box, shares, np.array([1]), None, (height, width)))
        return found


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for i in range(3):
        Image.new("RGB", (60, 40 + i), (90, 90, 90)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def stand_in(monkeypatch):
    model = SimpleNamespace(class_names=NAMES, num_classes=2, predicts="boxes")
    monkeypatch.setattr(dense_models, "open_dense_network", lambda *given, **more: (model, {}))
    monkeypatch.setattr(detector_program, "DetectorProgram", OneCat)


def test_pictures_and_json(stand_in, photographs, tmp_path, capsys):
    out = tmp_path / "out"
    command = [str(photographs), "--model", "m", "--out", str(out), "--batch-size", "2"]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{photographs / '0.png'}: cat 88 %" and len(lines) == 3
    assert OneCat.sizes == [(2, 32, 32, 3)] * 2  # the last one filled up
    assert sorted(path.name for path in out.iterdir()) == [
        *(f"{i}.png" for i in range(3)),
        "detections.json",
    ]
    picture = np.asarray(Image.open(out / "1.png"))
    assert picture.shape == (41, 60, 3) and (picture != 90).any()
    written = json.loads((out / "detections.json").read_text())
    assert [one["height"] for one in written["images"]] == [40, 41, 42]
    assert written["categories"] == [{"id": 1, "name": "ant"}, {"id": 2, "name": "cat"}]
    first = written["annotations"][0]
    assert first["bbox"] == [15, 10, 30, 20] and first["category_id"] == 2
    assert first["score"] == 0.875 and first["area"] == 600
    # A second time nothing is overwritten, but when asked for.
    assert main(command) == 1
    assert "exists already; --overwrite replaces it" in capsys.readouterr().err
    (photographs / "1.png").write_bytes(b"no image")
    assert main([*command, "--overwrite", "--threshold", "0.9"]) == 1
    said = capsys.readouterr()
    assert said.out.splitlines() == [f"{photographs / f'{i}.png'}: nothing" for i in (0, 2)]
    assert said.err.startswith("error: cannot read image") and "1.png" in said.err
    assert (np.asarray(Image.open(out / "0.png")) == 90).all()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--out", "{photos}/0.png"], "error: --out: .*0.png is a file; give a folder"),
        (["--model", "/nowhere.safetensors"], "error: --model: .*nowhere"),
    ],
)
def test_what_is_wrong_is_one_line(flags, message, photographs, tmp_path, capsys):
    flags = [flag.format(photos=photographs) for flag in flags]
    assert main([str(photographs), "--model", "m", "--out", str(tmp_path / "out"), *flags]) == 1
    err = capsys.readouterr().err
    assert re.search(message, err) and err.count("\n") == 1
    with pytest.raises(SystemExit):
        main([str(photographs), "--model", "m", "--threshold", "2"])


class MeanOfImage:
    """A model whose one detection is the content, scored by the mean of the image that it sees."""

    image_size, preprocessing = 32, None

    def apply(self, variables, images, content, method):
        assert method == "detect"
        box = jnp.stack([jnp.zeros(2), content[0, ::-1]]).reshape(1, 1, 4)
        one = jnp.ones((1, 1))
        return Detections(box, images.mean().reshape(1, 1), one.astype(int) - 1, one > 0)


def test_the_program_sees_normalised_images_and_gives_photographs(photographs):
    program = DetectorProgram(MeanOfImage(), {})
    assert program.pipeline.startswith("resize_pad(32, fill=(124, 116, 104))|normalize((0.485")
    prepared = dense_models.prepare_photograph(photographs / "0.png", program.pipeline)
    assert prepared.rows["content"].tolist() == [21, 32] and prepared.photo.shape == (40, 60, 3)
    rows = dense_models.stacked([prepared], 2)
    assert rows["image"].shape == (2, 32, 32, 3) and not rows["image"][1].any()
    (found,) = program(dense_models.stacked([prepared], 1))
    np.testing.assert_allclose(found.boxes, [(0, 0, 60, 40)])
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    border = (np.array([124, 116, 104]) / 255 - mean) / std
    expected = 21 / 32 * ((90 / 255 - mean) / std).mean() + 11 / 32 * border.mean()
    np.testing.assert_allclose(found.scores, [expected], atol=1e-5)


def test_a_real_detector(photographs, tmp_path, capsys):
    model = vjx.create_model(
        "mask_rcnn", backbone="vit_tiny_patch16", depth=1, width=8, num_heads=2, image_size=32,
        num_classes=2, class_names=NAMES, pyramid_width=8, region_hidden=8, proposals=8, regions=4,
        score_threshold=0.0, max_detections=3,
    )  # fmt: skip
    variables = model.init_variables(jax.random.key(0))
    vjx.save(tmp_path / "model", model, variables)
    command = [str(photographs), "--model", str(tmp_path / "model"), "--out", str(tmp_path / "out")]
    assert main([*command, "--threshold", "0"]) == 0
    written = json.loads((tmp_path / "out/detections.json").read_text())
    assert written["annotations"] and {"ant", "cat"} == {
        one["name"] for one in written["categories"]
    }
    for one in written["annotations"]:
        x, y, width, height = one["bbox"]
        assert 0 <= x <= x + width <= 60.001 and 0 <= y <= y + height <= 42.001
        assert one["segmentation"]["size"] == [39 + one["image_id"], 60]
    # A classifier is none.
    vit = vjx.VisionTransformer(image_size=16, patch_size=8, width=8, depth=1, num_heads=2,
                                num_classes=2)  # fmt: skip
    vjx.save(tmp_path / "vit.safetensors", vit, vit.init_variables(jax.random.key(0)))
    assert main([*command, "--overwrite", "--model", str(tmp_path / "vit.safetensors")]) == 1
    assert "predicts classes, expected a detector" in capsys.readouterr().err


def test_an_area_is_the_masks():
    """As in COCO's files, by which tools sort objects into sizes."""
    mask = pytest.importorskip("pycocotools.mask")
    inside = np.zeros((40, 60), np.uint8, order="F")
    inside[5:15, 10:20] = 1
    boxes, size = np.array([[10.0, 5.0, 30.0, 25.0]]), (40, 60)
    for outlines, area in (((mask.encode(inside),), 100), (None, 400)):
        found = FoundObjects(boxes, np.ones(1), np.zeros(1, np.int32), outlines, size)
        (one,) = as_coco([("a.png", found)], NAMES)["annotations"]
        assert one["area"] == area

"""CorLoc on images whose objects are known, on real ones, and the command around it."""

import dataclasses
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from known_extractors import KnownExtractor, bright_or_not, tiny_backbone_file
from PIL import Image

from vit_jax_xfer.evaluate.objects.__main__ import main
from vit_jax_xfer.evaluate.objects.boxed_images import BoxedImage
from vit_jax_xfer.evaluate.objects.coco_export import CocoExport, run_lengths
from vit_jax_xfer.evaluate.objects.drawing import RIGHT, TRUE, WRONG, Pictures, draw_discovery
from vit_jax_xfer.evaluate.objects.object_benchmark import ObjectBenchmark, open_objects
from vit_jax_xfer.evaluate.open_benchmark import open_benchmark
from vit_jax_xfer.features import cost_estimate

SQUARE = (24, 32, 72, 80)  # y0, x0, y1, x1 of 96 × 128 pixels


def bright_square(path, box=SQUARE, sides=(96, 128)):
    pixels = np.zeros((*sides, 3), np.uint8)
    pixels[box[0] : box[2], box[1] : box[3]] = 255
    Image.fromarray(pixels).save(path)
    return path


def images_with(tmp_path, *truths):
    return [
        BoxedImage(bright_square(tmp_path / f"{i}.png"), np.array(truth, float).reshape(-1, 4), i)
        for i, truth in enumerate(truths)
    ]


@pytest.mark.parametrize("enlarge", [1, 2])
def test_a_bright_square_is_found(tmp_path, enlarge):
    half = (24, 32, 48, 80)
    less = (24, 32, 45, 80)
    images = images_with(tmp_path, [SQUARE], [(0, 0, 9, 9), half], [less], [])
    extractor = KnownExtractor(bright_or_not, enlarge=enlarge)
    reports = []
    result = ObjectBenchmark(images, 64, 0.2)(extractor, lambda *done: reports.append(done))
    assert result.figures == {"CorLoc": pytest.approx(2 / 3)}
    assert result.skipped == {"images without objects": 1, "hard objects": 0 + 1 + 2 + 3}
    assert reports == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert {shape[1:] for shape in extractor.calls} == {(64 * enlarge, 64 * enlarge, 3)}


def test_true_boxes_are_rounded_towards_zero(tmp_path):
    # In 64 × 64 pixels what is found is 16 wide; 97.9 of 128 is 48.95 there, and 48 makes a half.
    file = bright_square(tmp_path / "a.png", (24, 32, 72, 64))
    for end, rate in ((97.9, 1.0), (98, 0.0)):
        images = [BoxedImage(file, np.array([(24, 32, 72, end)]))]
        found = ObjectBenchmark(images, 64, 0.2)(KnownExtractor(bright_or_not))
        assert found.figures["CorLoc"] == rate


def test_no_image_with_objects_is_nan(tmp_path):
    result = ObjectBenchmark(images_with(tmp_path, [], []), 64, 0.2)(KnownExtractor(bright_or_not))
    assert math.isnan(result.figures["CorLoc"])
    assert result.skipped["images without objects"] == 2


def test_cuts_are_timed_where_there_are_many(monkeypatch):
    """Before a command begins; a tenth of a second each here."""
    ticks = (float(n) / 10 for n in range(9))
    monkeypatch.setattr(cost_estimate, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    extractor = KnownExtractor(bright_or_not)
    monkeypatch.setattr(extractor, "channels", lambda size: 2, raising=False)
    few, many = (ObjectBenchmark([None] * n, 96, 0.2) for n in (10, 10**5))
    assert few.seconds_besides(extractor) == 0.0  # 12 × 12 cells: 20,736 pairs
    assert many.seconds_besides(extractor) == pytest.approx(1e4)


def test_what_can_not_be_read_or_cut_is_named(tmp_path):
    images = images_with(tmp_path, [SQUARE], [SQUARE])
    benchmark = ObjectBenchmark(images, 64, 0.2)
    with pytest.raises(ValueError, match="0.png: features: .* NaN"):
        benchmark(KnownExtractor(lambda means: np.full_like(means, np.nan)))
    with pytest.raises(ValueError, match="0.png: features: expected at least two cells"):
        benchmark(KnownExtractor(bright_or_not, patch=64))
    images[1].file.write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(ValueError, match="cannot read image .*1.png"):
        benchmark(KnownExtractor(bright_or_not))


def test_pictures(tmp_path):
    images = images_with(tmp_path, [SQUARE], [(0, 0, 10, 10)])
    extractors = [KnownExtractor(bright_or_not, name=name) for name in ("LiFT ×1", "LiFT ×2 a/b")]
    draw = Pictures(tmp_path / "out", extractors, images)
    for extractor in extractors:
        ObjectBenchmark(images, 64, 0.2, draw=draw)(extractor)
    files = sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "out").rglob("*.png"))
    assert files == ["out/LiFT_x1/0.png", "out/LiFT_x1/1.png", "out/LiFT_x2_a_b/0.png",
                     "out/LiFT_x2_a_b/1.png"]  # fmt: skip
    for number, colour in ((0, RIGHT), (1, WRONG)):
        picture = np.asarray(Image.open(tmp_path / f"out/LiFT_x1/{number}.png"))
        assert picture.shape == (96, 128, 3)
        y0, x0, y1, x1 = SQUARE
        for edge in (picture[y0 + 1, x0:x1], picture[y0:y1, x0 + 1], picture[y1 - 2, x0:x1]):
            assert (edge == colour).all()
        assert (picture[40:60, 45:70] == 255).all() and (picture[80:, 10:] < 60).all()
    assert (picture[1, :10] == TRUE).all()
    with pytest.raises(ValueError, match="--pictures: .*0.png exists already; --overwrite"):
        Pictures(tmp_path / "out", extractors, images)
    Pictures(tmp_path / "out", extractors, images, overwrite=True)


def test_what_was_found_as_coco(tmp_path):
    images = images_with(tmp_path, [SQUARE], [])
    extractors = [KnownExtractor(bright_or_not, name="LiFT ×1")]
    export = CocoExport(tmp_path / "coco", extractors, images)
    ObjectBenchmark(images, 64, 0.2, draw=export)(extractors[0])
    content = json.loads((tmp_path / "coco" / "LiFT_x1.json").read_text())
    assert [one["file_name"] for one in content["images"]] == ["0.png", "1.png"]
    found = content["annotations"][1]
    y0, x0, y1, x1 = SQUARE
    assert found["bbox"] == [x0, y0, x1 - x0, y1 - y0] and found["image_id"] == 2
    assert found["area"] == (y1 - y0) * (x1 - x0) and 0 < found["eigenvalue"] < 1
    coco = pytest.importorskip("pycocotools.mask")
    runs = coco.frPyObjects(found["segmentation"], 96, 128)
    expected = np.zeros((96, 128), np.uint8)
    expected[y0:y1, x0:x1] = 1
    np.testing.assert_array_equal(coco.decode(runs), expected)
    with pytest.raises(ValueError, match="--coco: .*LiFT_x1.json exists already; --overwrite"):
        CocoExport(tmp_path / "coco", extractors, images)


def test_what_was_found_goes_with_the_set_it_was_found_on(tmp_path):
    """COCO's ids have gaps, and names may have folders: both are the set's own."""
    images = [
        dataclasses.replace(one, number=number, listed=f"val/{one.file.name}")
        for one, number in zip(images_with(tmp_path, [SQUARE], []), (139, 285), strict=True)
    ]
    extractor = KnownExtractor(bright_or_not)
    export = CocoExport(tmp_path / "coco", [extractor], images)
    ObjectBenchmark(images, 64, 0.2, draw=export)(extractor)
    (file,) = (tmp_path / "coco").iterdir()
    content = json.loads(file.read_text())
    assert [(one["id"], one["file_name"]) for one in content["images"]] == [
        (139, "val/0.png"), (285, "val/1.png"),
    ]  # fmt: skip
    assert [one["image_id"] for one in content["annotations"]] == [139, 285]


def test_run_lengths_begin_with_what_is_not_there():
    assert run_lengths(np.array([[1, 0], [1, 1]], bool))["counts"] == [0, 2, 1, 1]
    assert run_lengths(np.zeros((2, 2), bool))["counts"] == [4]


def test_large_photographs_are_drawn_smaller():
    photo = np.full((1000, 2000, 3), 255, np.uint8)
    box = np.array([500, 1000, 1000, 2000])
    picture = draw_discovery(photo, np.eye(4, dtype=bool), box, box[None] - 500, True)
    assert picture.shape == (320, 640, 3)
    assert (picture[161:319, 321] == RIGHT).all() and (picture[1, 161:479] == TRUE).all()


def test_real_boxes(shared):
    benchmark = open_benchmark(f"objects:voc:{shared}/data/voc2012_boxes_100", 64, 20)
    assert len(benchmark.images) == 20 and benchmark.tau == 0.2
    # Colours in eight directions: not good, but not nothing.
    angles = np.arange(8) * np.pi / 4
    extractor = KnownExtractor(
        lambda means: np.cos(6 * means.mean(-1, keepdims=True) + angles), patch=4
    )
    first, second = benchmark(extractor), benchmark(extractor)
    assert first == second
    assert 0.05 < first.figures["CorLoc"] < 0.6
    assert first.skipped == {"images without objects": 0, "hard objects": 0}


def test_tau_is_a_cosine(shared):
    data = f"voc:{shared}/data/voc2012_boxes_100"
    assert open_objects(data, 64, tau=0.4).tau == 0.4
    for tau in (1.0, -2, float("nan")):
        with pytest.raises(ValueError, match="tau: got .* expected a cosine"):
            open_objects(data, 64, tau=tau)


def test_the_command(shared, tmp_path, capsys):
    data = f"voc:{shared}/data/voc2012_boxes_100"
    arguments = ["--data", data, "--model", tiny_backbone_file(tmp_path), "--size", "64"]
    arguments += ["--limit", "3", "--extractors", "plain,bilinear", "--steps", "1", "--no-hard"]
    out = tmp_path / "table.json"
    pictures = tmp_path / "pictures"
    assert main([*arguments, "--out", str(out), "--pictures", str(pictures)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| features | grid | CorLoc | skipped images without objects |")
    assert [line.split(" | ")[:2] for line in lines[2:]] == [
        ["| plain", "8×8"],
        ["| bilinear ×1", "16×16"],
    ]
    rows = json.loads(out.read_text())["rows"]
    assert [row["extractor"] for row in rows] == ["plain", "bilinear ×1"]
    assert len(list(pictures.rglob("*.png"))) == 6


@pytest.mark.parametrize(
    "change, message",
    [
        (["--data", "voc:/nowhere"], "error: --data: /nowhere: no such folder"),
        (["--tau", "3"], "error: --tau: got 3, expected a cosine"),
        (
            ["--size", "60"],
            "error: --image-size 60: plain: image_size: 60×60 pixels are not",
        ),
        (["--size", "4"], "4×4 pixels are not a whole number of 8-pixel patches"),
        (["--extractors", ""], "error: --extractors: none chosen"),
        (["--extractors", "nearest"], "error: --extractors: 'nearest' is none of plain"),
        (["--layer", "9"], "error: --layer: 9 is not a layer"),
        (["--stride", "3"], "error: --stride: 3 does not divide the patch size 8"),
        (["--stride", "4"], "error: --extractors: bilateral takes features of patches side by"),
        (["--lift", "gone"], "error: --lift: gone"),
        (["--family", "vgg"], "error: --"),
    ],
)
def test_the_command_says_what_is_wrong(shared, tmp_path, capsys, change, message):
    data = f"voc:{shared}/data/voc2012_boxes_100"
    arguments = ["--data", data, "--model", tiny_backbone_file(tmp_path), "--limit", "1"]
    assert main([*arguments, *change]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error

"""COCO's figures: the reference's on its own set, read by our source; what is NaN or refused."""

import json

import numpy as np
import pytest
from PIL import Image

from vit_jax_xfer.data import open_source
from vit_jax_xfer.evaluate.detection.coco_metrics import (
    FIGURES,
    coco_figures,
    coco_results,
    evaluate,
)
from vit_jax_xfer.evaluate.detection.detection_figures import figures_of, renumbered
from vit_jax_xfer.evaluate.detection.found_objects import FoundObjects, on_photographs


@pytest.fixture(scope="module")
def reference(shared, tmp_path_factory):
    """The reference's set as a source of ours, its detections, its figures."""
    folder, root = shared / "golden/dense/metrics/coco_ap", tmp_path_factory.mktemp("coco")
    content = json.loads((folder / "gt.json").read_text())
    (root / "images").mkdir()
    for image in content["images"]:
        image["file_name"] = f"{image['id']}.png"
        Image.new("RGB", (image["width"], image["height"])).save(
            root / "images" / image["file_name"]
        )
    for number, category in enumerate(content["categories"]):
        category.setdefault("name", str(number))
    (root / "gt.json").write_text(json.dumps(content))
    source = open_source(f"coco:{root / 'gt.json'}:{root / 'images'}")
    results = json.loads((folder / "dt.json").read_text())
    return source, found_of(results, source), np.load(folder / "io.npz"), results


def found_of(results, source):
    found = []
    for number, size in zip(source.numbers, source.sizes, strict=True):
        mine = [one for one in results if one["image_id"] == number]
        boxes = np.array([one["bbox"] for one in mine]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        classes = [source.category_ids.index(one["category_id"]) for one in mine]
        scores = np.array([one["score"] for one in mine])
        outlines = tuple(one["segmentation"] for one in mine)
        found.append(FoundObjects(boxes, scores, np.array(classes), outlines, tuple(size)))
    return found


@pytest.mark.parametrize(("kind", "masks"), [("bbox", False), ("segm", True)])
def test_figures_are_the_references(reference, kind, masks):
    source, found, arrays, _ = reference
    truth = [source.target(i) for i in range(len(source))]
    figures = coco_figures(found, truth, source.num_classes, masks)
    prefix = "mask_" if masks else ""
    assert list(figures) == [prefix + name for name in FIGURES]
    np.testing.assert_allclose(
        list(figures.values()), arrays[f"pycocotools_{kind}_stats"], atol=1e-9
    )
    evaluation = evaluate(found, truth, source.num_classes, masks)
    np.testing.assert_allclose(
        evaluation.eval["precision"][:, ::10, :, :, 2], arrays[f"{kind}_precision"], atol=1e-6
    )
    np.testing.assert_allclose(
        evaluation.eval["recall"][..., 2], arrays[f"{kind}_recall"], atol=1e-9
    )


def test_results_are_written_as_they_came(reference):
    source, found, _, results = reference
    written = coco_results(found, source.numbers, source.category_ids)
    assert len(written) == len(results)
    for one, other in zip(written, sorted(results, key=lambda one: one["image_id"]), strict=True):
        assert one["category_id"] == other["category_id"] and one["score"] == other["score"]
        np.testing.assert_allclose(one["bbox"], other["bbox"], atol=1e-3)
        assert one["segmentation"]["counts"] == other["segmentation"]["counts"]
    json.dumps(written)
    kept = coco_results(found, source.numbers, [-1, *source.category_ids[1:]])
    assert {one["category_id"] for one in kept} == set(source.category_ids[1:])


def rows_of(source, number=None, scale=0.5, masks=0):
    """What a perfect detector finds on half-size images, and a row of padding."""
    number = number or len(source)
    most = max(len(source.target(i).targets) for i in range(number))
    rows = {
        "boxes": np.zeros((number + 1, most, 4), np.float32),
        "scores": np.full((number + 1, most), 0.5, np.float32),
        "classes": np.full((number + 1, most), -1),
        "valid": np.zeros((number + 1, most), bool),
        "content": np.append(source.sizes[:number] * scale, [[0, 0]], 0),
        "original": np.append(source.sizes[:number], [[0, 0]], 0),
    }
    if masks:
        rows["masks"] = np.ones((number + 1, most, masks, masks), np.float32)
    for row in range(number):
        objects = source.target(row).targets
        rows["boxes"][row, : len(objects)] = objects.boxes * scale
        rows["classes"][row, : len(objects)] = objects.labels
        rows["valid"][row, : len(objects)] = True
    return rows


def figures_for(rows, source, classes, table=None):
    truth = [renumbered(source.target(i), table) for i in range(len(source))]
    return figures_of(on_photographs(rows)[: len(source)], truth, classes, False)


def test_perfect_detections_are_perfect(reference):
    source = reference[0]
    figures = figures_for(rows_of(source), source, source.num_classes)
    assert figures["AP"] == figures["AP50"] == figures["voc_AP50"] == 1
    # The set's classes are others of the model's.
    table = np.array([4, 0, 2])
    rows = rows_of(source)
    rows["classes"] = np.where(rows["valid"], table[rows["classes"]], -1)
    assert figures_for(rows, source, 5, table)["AP"] == 1
    assert figures_for(rows, source, 5)["AP"] < 0.5


def test_masks_are_pasted_into_photographs(reference):
    rows = rows_of(reference[0], 2, masks=4)
    rows["boxes"][0, 0] = (-4, 10, 20, 30)
    found = on_photographs(rows)[0]
    from pycocotools import mask as functions

    place = next(i for i, box in enumerate(found.boxes) if tuple(box) == (0, 20, 40, 60))
    pixels = functions.decode(found.outlines[place])
    assert pixels.shape == tuple(reference[0].sizes[0]) == found.size
    assert pixels[20:60, :40].mean() > 0.9 and pixels.sum() == pixels[18:62, :42].sum()
    assert on_photographs(rows, masks=False)[0].outlines is None


def test_nothing_found_and_nothing_there(reference):
    source = reference[0]
    rows = rows_of(source)
    rows["valid"][:] = False
    figures = figures_for(rows, source, source.num_classes)
    assert figures["AP"] == figures["voc_AP50"] == 0
    empty = [FoundObjects(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), None, (9, 9))]
    nothing = [source.target(0).pick(np.zeros(len(source.target(0)), bool))]
    assert all(np.isnan(value) for value in coco_figures(empty, nothing, 2).values())


def test_what_is_no_number_is_refused(reference):
    rows = rows_of(reference[0], 2)
    rows["scores"][0, 0] = np.nan
    with pytest.raises(ValueError, match="some detections are no numbers"):
        on_photographs(rows)
    with pytest.raises(ValueError, match="^a.jpg: boxes, scores: some detections are no numbers"):
        on_photographs(rows, names=["a.jpg", "b.jpg"])
    found = [FoundObjects(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), None, (9, 9))]
    with pytest.raises(ValueError, match="of 1 photographs, expected 2"):
        coco_figures(found, [None, None], 2)
    with pytest.raises(ValueError, match="have no masks"):
        coco_figures(found, [reference[0].target(0)], 3, masks=True)

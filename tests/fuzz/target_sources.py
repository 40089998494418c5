"""Sets with boxes, outlines or maps of classes that are bad: as sources that a run learns from."""

import json
import pathlib

import numpy as np
from PIL import Image

from tests.fuzz.layouts import SIZE, VOC
from tests.fuzz.mutations import mutated_bytes, mutated_json, mutated_text
from vit_jax_xfer.data import open_source, parse_pipeline
from vit_jax_xfer.data.broken_images import BrokenImage
from vit_jax_xfer.data.sources.source import Source, targets_of
from vit_jax_xfer.data.target_arrays import BOXES, LABEL_MAP, TargetForm

Rng = np.random.Generator
WIDTH, HEIGHT = SIZE

COCO = {
    "images": [
        {"id": n, "file_name": f"{n}.jpg", "width": WIDTH, "height": HEIGHT} for n in range(2)
    ],
    "categories": [{"id": 1, "name": "ant"}, {"id": 4, "name": "cat"}],
    "annotations": [
        {"id": 7, "image_id": 0, "bbox": [1, 2, 5.5, 4], "iscrowd": 0, "category_id": 1,
         "area": 11, "segmentation": [[1, 2, 6.5, 2, 6.5, 6], [1, 3, 2, 4, 1, 4]]},
        {"id": 8, "image_id": 1, "bbox": [0, 0, 20, 14], "iscrowd": 0, "category_id": 4,
         "segmentation": {"size": [HEIGHT, WIDTH], "counts": [30, 50, 200]}},
        {"id": 9, "image_id": 1, "bbox": [0, 0, 9, 9], "iscrowd": 1, "category_id": 4,
         "segmentation": {"size": [HEIGHT, WIDTH], "counts": "T1b000000000000000Wm5"}},
    ],
}  # fmt: skip
YOLO = "1 0.5 0.5 0.25 0.5\n0 0.1 0.1 0.9 0.1 0.5 0.75\n"
NAMES = "names:\n  0: ant\n  1: cat\n"


def coco_source(folder: pathlib.Path, rng: Rng) -> None:
    """Instances as JSON."""
    text = mutated_json(rng, COCO).encode("utf-8", "surrogatepass")
    data = mutated_bytes(rng, text) if rng.random() < 0.2 else text
    (folder / "instances.json").write_bytes(data)
    images = _images(folder / "images")
    _learn(open_source(f"coco:{folder / 'instances.json'}:{images}"), rng)


def voc_source(folder: pathlib.Path, rng: Rng) -> None:
    """An annotation as XML."""
    _images(folder / "JPEGImages")
    (folder / "Annotations").mkdir()
    for number in range(2):
        text = mutated_text(rng, VOC) if number else VOC
        (folder / "Annotations" / f"{number}.xml").write_bytes(text.encode(errors="replace"))
    _learn(open_source(f"voc:{folder}"), rng)


def yolo_source(folder: pathlib.Path, rng: Rng) -> None:
    """Texts, and the YAML of names and folders."""
    _images(folder / "images" / "a")
    (folder / "labels" / "a").mkdir(parents=True)
    for number in range(2):
        text = mutated_text(rng, YOLO) if number else YOLO
        (folder / "labels" / "a" / f"{number}.txt").write_bytes(text.encode(errors="replace"))
    about = f"path: .\ntrain: images/a\n{NAMES}"
    if rng.random() < 0.3:
        about = mutated_text(rng, about)
    (folder / "data.yaml").write_bytes(about.encode(errors="replace"))
    _learn(open_source(f"yolo:{folder / 'data.yaml'}"), rng)


def mask_source(folder: pathlib.Path, rng: Rng) -> None:
    """Maps of classes, and the names of these."""
    images = _images(folder / "images")
    (folder / "masks").mkdir()
    for number in range(2):
        file = folder / "masks" / f"{number}.png"
        ids = np.zeros((HEIGHT, WIDTH), np.uint8)
        ids[3:9, 4:12] = 1
        Image.fromarray(ids).save(file)
        if number:
            file.write_bytes(mutated_bytes(rng, file.read_bytes()))
    spec = f"masks:{images}:{folder / 'masks'}"
    if rng.random() < 0.5:
        text = mutated_text(rng, "0: sky\n1: sea\n")
        (folder / "names.txt").write_bytes(text.encode(errors="replace"))
        spec += f":{folder / 'names.txt'}"
    _learn(open_source(spec), rng)


def _learn(source: Source, rng: Rng) -> None:
    """What a run makes of each example is what it may be, or the image is broken by name."""
    json.dumps(source.class_names)
    kind = targets_of(source)
    side = 0 if kind == LABEL_MAP or source.without_outline else 4
    form = TargetForm(kind, max_boxes=2, mask_size=side)
    pipeline = parse_pipeline("lsj(16, 0.5, 2.0)|flip", form)
    for index in range(len(source)):
        try:
            found = pipeline(source[index], rng)
        except BrokenImage:
            continue
        assert found["image"].shape == (16, 16, 3)
        if kind == BOXES:
            boxes, there = found["boxes"], found["box_labels"] >= 0
            assert np.isfinite(boxes).all() and boxes.min() >= 0 and boxes.max() <= 16
            assert (boxes[there, 2:] > boxes[there, :2]).all()
            assert found["box_labels"].max() < source.num_classes
        else:
            known = found["label_map"] != 255
            assert found["label_map"][known].max(initial=0) < source.num_classes


def _images(folder: pathlib.Path) -> pathlib.Path:
    folder.mkdir(parents=True)
    for number in range(2):
        Image.new("RGB", SIZE).save(folder / f"{number}.jpg")
    return folder


TARGET_SOURCES = {
    "coco_source": coco_source,
    "voc_source": voc_source,
    "yolo_source": yolo_source,
    "mask_source": mask_source,
}

"""Data sets of dense tasks whose annotations are bad: COCO, VOC, SPair, WILLOW, DAVIS, masks."""

import io
import json
import pathlib
from typing import Any

import numpy as np
import scipy.io
from PIL import Image

from tests.fuzz.mutations import NAMES, mutated_bytes, mutated_json, mutated_text
from vit_jax_xfer.evaluate.correspondence.keypoint_layouts import open_pairs
from vit_jax_xfer.evaluate.objects.box_layouts import open_boxes
from vit_jax_xfer.evaluate.segmentation.labelled_images import survey
from vit_jax_xfer.evaluate.segmentation.mask_layouts import open_masks
from vit_jax_xfer.evaluate.videos.video_layouts import open_videos

Rng = np.random.Generator
SIZE = (20, 14)

COCO = {
    "images": [{"id": n, "file_name": f"{n}.jpg", "width": 20, "height": 14} for n in range(2)],
    "annotations": [
        {"id": 7, "image_id": 0, "bbox": [1, 2, 5.5, 4], "iscrowd": 0, "category_id": 1},
        {"id": 8, "image_id": 1, "bbox": [0, 0, 20, 14], "iscrowd": 1, "category_id": 2},
    ],
}
VOC = """<annotation><object><name>dog</name><truncated>0</truncated><difficult>1</difficult>
<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>15</xmax><ymax>9</ymax></bndbox></object></annotation>"""
SPAIR = {
    "src_imname": "0.jpg",
    "trg_imname": "1.jpg",
    "src_imsize": [20, 14, 3],
    "trg_imsize": [20, 14, 3],
    "trg_bndbox": [2, 3, 12, 13],
    "category": "cat",
    "src_kps": [[1, 2], [11.5, 12.5], None],
    "trg_kps": [[19, 13], [4, 5], [6, 7]],
    "mirror": 0,
}


def coco(folder: pathlib.Path, rng: Rng) -> None:
    """Instances as JSON, and a list of names."""
    images = _images(folder / "images")
    (folder / "instances.json").write_bytes(_json(rng, COCO))
    spec = f"coco:{folder / 'instances.json'}:{images}"
    if rng.random() < 0.3:
        (folder / "names.txt").write_text(mutated_text(rng, "images/0.jpg\nimages/1.jpg\n"))
        spec += f":{folder / 'names.txt'}"
    opened = open_boxes(spec)
    _inside(images, [one.file for one in opened.images])
    assert all(np.isfinite(one.boxes).all() for one in opened.images)


def voc(folder: pathlib.Path, rng: Rng) -> None:
    """An annotation as XML, and a list of names."""
    _images(folder / "JPEGImages")
    (folder / "Annotations").mkdir()
    for number in range(2):
        text = mutated_text(rng, VOC) if number or rng.random() < 0.5 else VOC
        data = mutated_bytes(rng, text.encode()) if rng.random() < 0.3 else text.encode()
        (folder / "Annotations" / f"{number}.xml").write_bytes(data)
    spec = f"voc:{folder}"
    if rng.random() < 0.5:
        (folder / "ImageSets" / "Main").mkdir(parents=True)
        listed = mutated_text(rng, "0\n1\n")
        (folder / "ImageSets" / "Main" / "val.txt").write_text(listed)
        spec += ":val"
    opened = open_boxes(spec, hard=bool(rng.random() < 0.5))
    _inside(folder, [one.file for one in opened.images])


def spair(folder: pathlib.Path, rng: Rng) -> None:
    """A pair's annotation as JSON."""
    _images(folder / "JPEGImages" / "cat")
    (folder / "PairAnnotation" / "test").mkdir(parents=True)
    (folder / "PairAnnotation" / "test" / "0.json").write_bytes(_json(rng, SPAIR))
    _, pairs = open_pairs(f"spair:{folder}")
    _inside(folder, [file for pair in pairs for file in (pair.source, pair.target)])


def willow(folder: pathlib.Path, rng: Rng) -> None:
    """Keypoints in MATLAB's files, and a list of pairs."""
    for number in range(2):
        file = folder / "Duck" / f"{number}.png"
        file.parent.mkdir(exist_ok=True)
        Image.new("RGB", SIZE).save(file)
        written = io.BytesIO()
        points = np.arange(20.0).reshape(2, 10) / 2 + 1
        scipy.io.savemat(written, {"pts_coord": points}, do_compression=bool(rng.integers(2)))
        data = written.getvalue()
        bad = mutated_bytes(rng, data) if number else data
        file.with_suffix(".mat").write_bytes(bad)
    if rng.random() < 0.3:
        listed = "source,target\nDuck/0.png,Duck/1.png\n"
        (folder / "test_pairs.csv").write_text(mutated_text(rng, listed))
    open_pairs(f"willow:{folder}")


def davis(folder: pathlib.Path, rng: Rng) -> None:
    """Masks, frames and the list of videos."""
    for kind, ending in (("JPEGImages", "jpg"), ("Annotations", "png")):
        place = folder / kind / "480p" / "cow"
        place.mkdir(parents=True)
        for number in range(3):
            _mask().save(place / f"{number:05}.{ending}")
    spoiled = ("JPEGImages/480p/cow/00001.jpg", "Annotations/480p/cow/00000.png")
    for name in spoiled:
        if rng.random() < 0.5:
            (folder / name).write_bytes(mutated_bytes(rng, (folder / name).read_bytes()))
    (folder / "ImageSets" / "2017").mkdir(parents=True)
    listed = "cow\n" if rng.random() < 0.5 else mutated_text(rng, "cow\ncow\n")
    (folder / "ImageSets" / "2017" / "val.txt").write_text(listed)
    _, videos = open_videos(f"davis2017:{folder}")
    for video in videos:
        _inside(folder, [*video.frames, *video.masks])
        assert video.truth().dtype == np.uint8


def masks(folder: pathlib.Path, rng: Rng) -> None:
    """Masks of classes."""
    images = _images(folder / "images", 5)
    (folder / "masks").mkdir()
    for number in range(5):
        file = folder / "masks" / f"{number}.png"
        _mask().save(file)
        if number == 2:
            file.write_bytes(mutated_bytes(rng, file.read_bytes()))
    opened = open_masks(f"masks:{images}:{folder / 'masks'}")
    survey([*opened.train, *opened.val], 8, opened.ignore)


def _images(folder: pathlib.Path, count: int = 2) -> pathlib.Path:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", SIZE).save(folder / f"{number}.jpg")
    return folder


def _mask() -> Image.Image:
    mask = np.zeros(SIZE[::-1], np.uint8)
    mask[3:9, 4:12] = 1
    return Image.fromarray(mask)


def _json(rng: Rng, value: Any) -> bytes:
    text = mutated_json(rng, value)
    if rng.random() < 0.1:
        text = json.dumps(value).replace('"0.jpg"', json.dumps(str(rng.choice(NAMES))))
    data = text.encode("utf-8", "surrogatepass")
    return mutated_bytes(rng, data) if rng.random() < 0.2 else data


def _inside(folder: pathlib.Path, files: list[pathlib.Path]) -> None:
    root = folder.resolve()
    for file in files:
        assert file.resolve().is_relative_to(root), f"{file} is outside of {folder}"


LAYOUTS = {
    "coco": coco,
    "voc": voc,
    "spair": spair,
    "willow": willow,
    "davis": davis,
    "masks": masks,
}

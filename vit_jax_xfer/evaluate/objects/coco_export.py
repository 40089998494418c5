"""What TokenCut found as COCO's JSON: a box and a mask for each image."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vit_jax_xfer.evaluate.folder_name import folder_name
from vit_jax_xfer.evaluate.objects.boxed_images import BoxedImage
from vit_jax_xfer.evaluate.objects.object_benchmark import FoundObject
from vit_jax_xfer.features.feature_extractor import FeatureExtractor
from vit_jax_xfer.whole_files import write_whole

_CATEGORY = {"id": 1, "name": "object"}


class CocoExport:
    """Collects objects as they are found and writes DIR/EXTRACTOR.json.

    images: the data set's; their ids and names are its own where it has some, as COCO's have, so
    that both go together; else ids count from 1. Each annotation has bbox (x, y, width, height) in
    the photograph's pixels, segmentation as run lengths, area of the mask, and eigenvalue, that of
    the cut: the smaller, the clearer. ValueError, before anything is written, where a file exists
    already.
    """

    def __init__(
        self,
        folder: Path,
        extractors: Sequence[FeatureExtractor],
        images: Sequence[BoxedImage],
        overwrite: bool = False,
    ) -> None:
        self._ids = {
            image: place if image.number is None else image.number
            for place, image in enumerate(images, start=1)
        }
        self._paths = {one.name: folder / f"{folder_name(one.name)}.json" for one in extractors}
        there = next((path for path in self._paths.values() if path.exists()), None)
        if there is not None and not overwrite:
            raise ValueError(f"--coco: {there} exists already; --overwrite replaces it")
        self._found: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {}

    def __call__(self, extractor: FeatureExtractor, found: FoundObject) -> None:
        done = self._found.setdefault(extractor.name, [])
        done.append((self._image(found), self._annotation(len(done) + 1, found)))
        if len(done) == len(self._ids):
            images, annotations = zip(*done, strict=True)
            content = {"images": images, "categories": [_CATEGORY], "annotations": annotations}
            path = self._paths[extractor.name]
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(content) + "\n")
            done.clear()

    def _image(self, found: FoundObject) -> dict[str, Any]:
        height, width = found.photo.shape[:2]
        number = self._ids[found.image]
        name = found.image.listed or found.image.file.name
        return {"id": number, "file_name": name, "height": height, "width": width}

    def _annotation(self, number: int, found: FoundObject) -> dict[str, Any]:
        mask = found.places.spread(found.discovery.mask, found.photo.shape[:2])
        y0, x0, y1, x1 = (round(float(edge), 2) for edge in found.box)
        return {
            "id": number,
            "image_id": self._ids[found.image],
            "category_id": _CATEGORY["id"],
            "bbox": [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)],
            "segmentation": run_lengths(mask),
            "area": int(mask.sum()),
            "iscrowd": 0,
            "eigenvalue": found.discovery.eigenvalue,
        }


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """A mask (H, W) bool as COCO's run lengths without compression: down the columns, 0 first."""
    flat = np.asarray(mask, bool).ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return {"counts": [0, *counts] if flat[0] else counts, "size": list(mask.shape)}

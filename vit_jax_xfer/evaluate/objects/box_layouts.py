"""Data sets of images with boxes: the folders of PASCAL VOC, and COCO's JSON.

Nothing is evaluated before all annotations were read and all image files were looked at.
"""

import re
from pathlib import Path

from vit_jax_xfer.evaluate.objects.boxed_images import BoxedImages
from vit_jax_xfer.evaluate.objects.coco import open_coco
from vit_jax_xfer.evaluate.objects.voc import open_voc

_ACCEPTED = "voc:PATH, voc:PATH:SPLIT, coco:JSON:IMAGES or coco:JSON:IMAGES:NAMES"


def open_boxes(spec: str, hard: bool = True) -> BoxedImages:
    """Opens what a text names.

    voc:PATH[:SPLIT]: a folder with Annotations/*.xml and JPEGImages, or one with a single such
    folder in it, as VOCdevkit; of a split only what ImageSets/Main/SPLIT.txt lists, without one
    all. coco:JSON:IMAGES[:NAMES]: instances as COCO writes them and the folder of the images; of a
    text file with a name a line, as COCO20k's, only those. hard: False drops VOC's objects that are
    marked truncated or difficult. ValueError naming the file for all that is wrong.
    """
    layout, _, rest = spec.partition(":")
    if layout == "voc" and rest:
        # A path may have a colon itself.
        whole = Path(rest).expanduser().is_dir() or ":" not in rest
        path, split = (rest, "") if whole else _last(rest)
        return open_voc(Path(path).expanduser(), split, hard)
    if layout == "coco" and (parts := re.fullmatch(r"(.+?\.json):(.+)", rest)):
        if not hard:
            raise ValueError("--no-hard: COCO marks no objects as truncated or difficult")
        images, names = parts[2], ""
        if not Path(images).expanduser().is_dir() and ":" in images:
            images, names = _last(images)
        file, folder, listed = (Path(one).expanduser() for one in (parts[1], images, names))
        return open_coco(file, folder, listed if names else None)
    raise ValueError(f"data: got {spec!r}, expected {_ACCEPTED}")


def _last(text: str) -> tuple[str, str]:
    before, _, after = text.rpartition(":")
    return before, after

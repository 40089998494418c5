"""Small data sets of objects, written as their layouts say."""

import json

import numpy as np
from PIL import Image

GREY = 90


def write_photograph(path, height=40, width=60, squares=()):
    """A grey picture with a white box at each of `squares`, xyxy in whole pixels."""
    pixels = np.full((height, width, 3), GREY, np.uint8)
    for x0, y0, x1, y1 in squares:
        pixels[y0:y1, x0:x1] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def corners(x0, y0, x1, y1):
    """A box's polygon as COCO has it."""
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def annotation(image, box, category=7, **more):
    """An object of COCO's with a box xyxy, its outline that box."""
    x0, y0, x1, y1 = box
    fields = {"image_id": image, "category_id": category, "bbox": [x0, y0, x1 - x0, y1 - y0]}
    fields |= {"segmentation": [corners(*box)], "area": (x1 - x0) * (y1 - y0), "iscrowd": 0}
    return fields | more


def write_coco(root, annotations, images=2, name="instances_train2017", **image_fields):
    """coco:ROOT with `images` pictures, each with a white box where its objects are.

    Categories are 3 "ant" and 7 "cat". Returns the JSON's path.
    """
    folder = root / name.removeprefix("instances_")
    listed = []
    for number in range(1, images + 1):
        squares = [
            (round(x), round(y), round(x + w), round(y + h))
            for x, y, w, h in (
                one["bbox"]
                for one in annotations
                if one["image_id"] == number and not one["iscrowd"]
            )
            if min(x, y, w, h) >= 0
        ]
        write_photograph(folder / f"{number}.png", squares=squares)
        fields = {"id": number, "file_name": f"{number}.png", "height": 40, "width": 60}
        listed.append(fields | image_fields)
    file = root / "annotations" / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "images": listed,
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "ant"}],
        "annotations": [{"id": i, **one} for i, one in enumerate(annotations)],
    }
    file.write_text(json.dumps(content))
    return file

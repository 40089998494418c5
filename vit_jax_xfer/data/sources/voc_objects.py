"""PASCAL VOC's objects and its maps of classes, as sources to learn from."""

from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from vit_jax_xfer.data.sources.decode import image_size
from vit_jax_xfer.data.sources.label_map_source import LabelMapSource, make_label_map_source
from vit_jax_xfer.data.sources.object_source import (
    ListedPhotograph,
    ObjectSource,
    check_split,
    make_object_source,
)
from vit_jax_xfer.data.sources.upright_photo import orientation, stored_size
from vit_jax_xfer.data.sources.voc_layout import (
    CLASSES,
    all_names,
    box_of_object,
    devkit_folder,
    file_of,
    fits,
    image_file,
    is_marked,
    read_annotation,
    size_of,
    split_names,
)

_BACKGROUND = "background"


def open_voc_objects(path: str, split: str) -> ObjectSource:
    """Annotations/*.xml and JPEGImages of a folder, or of a VOCdevkit with one year.

    split: a list of ImageSets/Main, "train", "validation" ("val"), "trainval", "test"; "train" or
    "all" of a folder without lists. Classes are VOC's twenty, whatever a split has; others where an
    annotation names one. "difficult" objects are hard ones, which figures leave out. ValueError.
    """
    try:
        root = devkit_folder(Path(path).expanduser(), "Annotations")
        names = _listed(root, "Main", split)
        if names is None:
            names = all_names(root / "Annotations", ".xml")
        annotations = [file_of(root / "Annotations", name, ".xml") for name in names]
        read = [(file, read_annotation(file)) for file in annotations]
        classes = _classes(read)
        photographs = [
            _photograph(image_file(root / "JPEGImages", file.stem), file, one, classes)
            for file, one in read
        ]
    except ValueError as error:
        raise _named_field(error) from None
    return make_object_source(photographs, classes, f"voc:{path}/{split}")


def open_voc_masks(path: str, split: str) -> LabelMapSource:
    """SegmentationClass and JPEGImages: 21 classes with the background, 255 is no class.

    split: a list of ImageSets/Segmentation, as of `open_voc_objects`.
    """
    try:
        root = devkit_folder(Path(path).expanduser(), "SegmentationClass")
        names = _listed(root, "Segmentation", split)
        if names is None:
            names = all_names(root / "SegmentationClass", ".png")
        pairs = [
            (
                image_file(root / "JPEGImages", name),
                file_of(root / "SegmentationClass", name, ".png"),
            )
            for name in names
        ]
    except ValueError as error:
        raise _named_field(error) from None
    classes = dict(enumerate((_BACKGROUND, *CLASSES)))
    return make_label_map_source(pairs, classes, {255}, f"voc_masks:{path}/{split}")


def _listed(root: Path, task: str, split: str) -> list[str] | None:
    """The names of a split; None where the folder has no lists at all."""
    if not (root / "ImageSets" / task).is_dir():
        check_split(split, ("train", "all"), f"{root}, without ImageSets/{task},")
        return None
    return split_names(root, task, {"validation": "val"}.get(split, split))


def _named_field(error: ValueError) -> ValueError:
    return error if str(error).startswith("split:") else ValueError(f"spec: {error}")


def _classes(read: list[tuple[Path, Element]]) -> tuple[str, ...]:
    """VOC's, or those that are there, sorted, where one is none of VOC's."""
    found = {_class_of(file, one) for file, root in read for one in root.findall("object")}
    return CLASSES if found <= set(CLASSES) else tuple(sorted(found))


def _class_of(file: Path, one: Element) -> str:
    name = one.findtext("name", "").strip()
    if not name:
        raise ValueError(f"{file}: an object has no name")
    return name


def _photograph(
    image: Path, file: Path, annotation: Element, classes: tuple[str, ...]
) -> ListedPhotograph:
    objects = annotation.findall("object")
    boxes = [box_of_object(file, one) for one in objects]
    listed = ListedPhotograph(image, _size(image, annotation, boxes), boxes, number=file.stem)
    for one in objects:
        listed.labels.append(classes.index(_class_of(file, one)))
        listed.hard.append(is_marked(one, "difficult"))
        listed.crowd.append(False)
    return listed


def _size(image: Path, annotation: Element, boxes: list[list[float]]) -> tuple[int, int]:
    """(height, width) that boxes are for: an image of another size then counts as broken."""
    told = size_of(annotation)
    if told is None:
        return stored_size(image)[::-1]
    stored = image_size(image)
    edges = np.array(boxes, np.float64).reshape(-1, 4)
    turned = told != stored and orientation(image) > 1  # which reads the file once more
    return (stored if fits(told, stored, edges, turned) else told)[::-1]

"""Where images come from: `open_source` turns a spec such as "folder:/data/birds" into a Source."""

import functools

from vit_jax_xfer.data.sources.classes import pick_classes
from vit_jax_xfer.data.sources.coco_instances import open_coco_instances
from vit_jax_xfer.data.sources.digits import open_digits
from vit_jax_xfer.data.sources.folder import open_folder
from vit_jax_xfer.data.sources.inaturalist import YEARS, open_inaturalist
from vit_jax_xfer.data.sources.label_map_source import open_ade20k, open_mask_folders
from vit_jax_xfer.data.sources.npz import open_npz
from vit_jax_xfer.data.sources.source import (
    Source,
    pick_per_class,
    pick_range,
    pick_stratified,
)
from vit_jax_xfer.data.sources.split import is_stratified, split_name, split_range
from vit_jax_xfer.data.sources.tfds import open_tfds
from vit_jax_xfer.data.sources.voc_objects import open_voc_masks, open_voc_objects
from vit_jax_xfer.data.sources.yolo_labels import open_yolo

__all__ = ["Source", "choose_examples", "open_source"]

_OPENERS = {
    **{"digits": open_digits, "folder": open_folder, "npz": open_npz},
    **{f"inaturalist{year}": functools.partial(open_inaturalist, year=year) for year in YEARS},
    **{"coco": open_coco_instances, "voc": open_voc_objects, "yolo": open_yolo},
    **{"masks": open_mask_folders, "voc_masks": open_voc_masks, "ade20k": open_ade20k},
}


def open_source(
    spec: str,
    split: str = "train",
    *,
    classes: str = "",
    per_class: int | None = None,
    subset_seed: int = 0,
    data_dir: str | None = None,
) -> Source:
    """Opens "digits", "folder:PATH", "npz:FILE", "tfds:NAME" or "tfds:NAME/CONFIG".

    And "inaturalist2017:PATH", 2018, 2019, 2021 (see `open_inaturalist`). With boxes, and perhaps
    outlines, of objects: "coco:ROOT" or "coco:JSON:IMAGES", "voc:PATH", "yolo:DATA.yaml" or
    "yolo:IMAGES:LABELS:CLASSES"; with maps of classes: "ade20k:PATH", "voc_masks:PATH",
    "masks:IMAGES:MASKS" or "masks:IMAGES:MASKS:CLASSES".

    split: a name with an optional range, "train", "train[:50%]", "test[100:200]" (for tfds: any
    split string of its own); of images that lie class by class a range is taken from one fixed
    shuffle (`pick_range`). "train[:80%,stratified]" and "train[80%:,stratified]" share out each
    class (`stratified_range`), of tfds too. classes: "" for all, "imagenet100/1" to
    "imagenet100/5", a text file with a class name a line, or "cat,dog"; their sorted names are then
    the classes and labels (`pick_classes`). per_class: keep so many images of each of these, chosen
    by `subset_seed`.
    data_dir: where tfds looks; other kinds refuse it.
    Returns a Source: `source[i]` is {"image": uint8 (h, w, 3), "label": int}, -1 = unlabelled.
    Raises ValueError naming the argument; broken image files are reported here.
    """
    kind, _, path = spec.partition(":")
    if kind == "tfds":
        source = open_tfds(path, split_name(split) if is_stratified(split) else split, data_dir)
    elif kind not in _OPENERS:
        raise ValueError(
            f"spec: got {spec!r}, expected 'digits', 'folder:PATH', 'npz:FILE', 'tfds:NAME', "
            "'tfds:NAME/CONFIG', 'inaturalist2018:PATH' (2017, 2019, 2021), or with boxes "
            "'coco:ROOT', 'coco:JSON:IMAGES', 'voc:PATH', 'yolo:DATA.yaml', or with masks "
            "'ade20k:PATH', 'voc_masks:PATH', 'masks:IMAGES:MASKS'"
        )
    elif data_dir is not None:
        raise ValueError(f"data_dir: got {data_dir!r}, but only tfds sources take it, not {kind}")
    else:
        source = _OPENERS[kind](path, split_name(split))
        indices = None if is_stratified(split) else split_range(split, len(source))
        if indices is not None:
            source = pick_range(source, indices, f"{spec}/{split}")
    if is_stratified(split):
        source = pick_stratified(source, split, f"{spec}/{split}")
    return choose_examples(source, classes=classes, per_class=per_class, subset_seed=subset_seed)


def choose_examples(
    source: Source,
    *,
    classes: str = "",
    some_classes: bool = False,
    per_class: int | None = None,
    subset_seed: int = 0,
) -> Source:
    """Some of a source's examples, as the arguments of `open_source` say.

    some_classes: the source need not have all of `classes`.
    """
    if classes:
        source = pick_classes(source, classes, some_classes)
    if per_class is not None:
        source = pick_per_class(source, per_class, subset_seed)
    return source

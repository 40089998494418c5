"""Data sets of semantic segmentation: PASCAL VOC's, the COCO subset at hand, any folders of masks.

Everingham et al., "The PASCAL Visual Object Classes Challenge: A Retrospective", IJCV 2015.
"""

from collections.abc import Collection
from pathlib import Path

from vit_jax_xfer.data.sources.paired_folders import TRAIN, VAL, find_masks, split_folder
from vit_jax_xfer.data.sources.voc_layout import (
    devkit_folder,
    file_of,
    image_file,
    split_names,
)
from vit_jax_xfer.evaluate.segmentation.labelled_images import (
    LabelledImage,
    LabelledImages,
    check_pairs,
)

_ACCEPTED = "voc:PATH, coco128:PATH or masks:IMAGES:MASKS"
_SCORED = 4  # of images without such folders every so manyth is scored


def open_masks(spec: str, ignore: Collection[int] | None = None) -> LabelledImages:
    """Opens what a text names.

    voc:PATH: SegmentationClass and ImageSets/Segmentation/{train,val}.txt; ignores 255.
    coco128:PATH: images/ and semantic_segmentation/masks/, each with train2017 and val2017;
    ignores 0. masks:IMAGES:MASKS: two folders with files of the same names but for the suffix,
    masks as PNG or, all of them, TIFF, BMP or PNM; with sub-folders train (training,
    train2017) and val (validation, val2017) in both, or else every fourth mask by name is scored
    and the others train; ignores 255.
    ignore: these ids instead. ValueError naming the file for all that is wrong.
    """
    layout, _, rest = spec.partition(":")
    if layout == "voc" and rest:
        return _voc(Path(rest).expanduser(), _ids(ignore, 255))
    if layout == "coco128" and rest:
        root = Path(rest).expanduser()
        folders = root / "images", root / "semantic_segmentation" / "masks"
        return _folders(*folders, _ids(ignore, 0))
    if layout == "masks" and ":" in rest:
        images, masks = (Path(one).expanduser() for one in rest.split(":", 1))
        return _folders(images, masks, _ids(ignore, 255))
    raise ValueError(f"data: got {spec!r}, expected {_ACCEPTED}")


def _ids(given: Collection[int] | None, usual: int) -> frozenset[int]:
    return frozenset((usual,) if given is None else given)


def _voc(path: Path, ignore: frozenset[int]) -> LabelledImages:
    root = devkit_folder(path, "SegmentationClass")
    parts = []
    for split in ("train", "val"):
        names = split_names(root, "Segmentation", split)
        images = [
            LabelledImage(
                image_file(root / "JPEGImages", name),
                file_of(root / "SegmentationClass", name, ".png"),
            )
            for name in names
        ]
        check_pairs(root / "ImageSets" / "Segmentation" / f"{split}.txt", images)
        parts.append(tuple(images))
    return LabelledImages(*parts, ignore)


def _folders(images: Path, masks: Path, ignore: frozenset[int]) -> LabelledImages:
    for folder in (images, masks):
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder")
    splits = [(split_folder(images, names), split_folder(masks, names)) for names in (TRAIN, VAL)]
    if all(folder for pair in splits for folder in pair):
        (train, first), (val, second) = (_pairs(*pair) for pair in splits)
        return LabelledImages(train, val, ignore, first + second)
    both, unused = _pairs(images, masks)
    if len(both) < _SCORED:
        raise ValueError(
            f"{masks}: has {len(both)} masks and no folders train and val; expected {_SCORED} or "
            "more, of which some train and some are scored"
        )
    val = both[_SCORED - 1 :: _SCORED]
    train = tuple(one for i, one in enumerate(both) if i % _SCORED != _SCORED - 1)
    return LabelledImages(train, val, ignore, unused)


def _pairs(images: Path, masks: Path) -> tuple[tuple[LabelledImage, ...], int]:
    """Masks with their images, by name, and how many images have no mask."""
    found = find_masks(images, masks)
    pairs = tuple(LabelledImage(*pair) for pair in found.files)
    check_pairs(masks, pairs)
    return pairs, len(found.unused)

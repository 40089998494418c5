"""Photographs with the places of their objects: masks and boxes of the data sets at hand.

ImageNet-Segmentation: Guillaumin et al., "ImageNet Auto-Annotation with Segmentation Propagation",
IJCV 2014, 4,276 photographs in gtsegs_ijcv.mat.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vit_jax_xfer.data.sources.upright_photo import read_photograph
from vit_jax_xfer.evaluate.faithfulness.localisation import IGNORED
from vit_jax_xfer.evaluate.objects.box_layouts import open_boxes
from vit_jax_xfer.evaluate.segmentation.labelled_images import read_ids, shrunk
from vit_jax_xfer.evaluate.segmentation.mask_layouts import open_masks

_LAST_THING = 90  # COCO's ids: things up to it, stuff above
_FIRST_BYTES = b"\x89HDF\r\n\x1a\n"


@dataclasses.dataclass(frozen=True, eq=False)
class ObjectMasks:
    """read(i) → a photograph uint8 (H, W, 3) and its mask (H, W) int8: 1 on objects, 0 off, -1
    where it isn't known. named: what errors call an image. left_out: how many of the set have no
    object."""

    name: str
    read: Callable[[int], tuple[np.ndarray, np.ndarray]]
    named: Callable[[int], str]
    indices: tuple[int, ...]
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.indices)

    def name_of(self, index: int) -> str:
        """What errors call an image."""
        return self.named(self.indices[index])

    def squashed(self, index: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """The photograph as it is, and the mask at size × size pixels by the nearest."""
        photo, mask = self.read(self.indices[index])
        return photo, shrunk(mask, size)


def open_object_masks(spec: str, limit: int | None = None, size: int = 224) -> ObjectMasks:
    """Opens the masks that a text names, those of the scored split; see `open_masks`.

    imagenet:FILE.mat, ImageNet-Segmentation, needs h5py. voc:PATH: all objects, 255 isn't known.
    coco128:PATH: COCO's things, of its masks of things and stuff; 0 isn't known.
    masks:IMAGES:MASKS: every id but 0 is an object, 255 isn't known. Images without an object at
    size × size pixels are left out. limit: so many images at most. ValueError naming the file for
    all that is wrong.
    """
    layout, _, path = spec.partition(":")
    if layout == "imagenet" and path:
        number, read = _imagenet(Path(path).expanduser())
        named = f"{path}: image {{}}".format
    else:
        images = open_masks(spec).val
        number = len(images)

        def named(index: int) -> str:
            return str(images[index].image)

        def read(index: int) -> tuple[np.ndarray, np.ndarray]:
            one = images[index]
            return read_photograph(one.image), _objects(read_ids(one), layout)

    return _with_objects(spec, number, read, named, limit, size)


def open_object_boxes(spec: str, limit: int | None = None, size: int = 224) -> ObjectMasks:
    """The same of boxes, `open_boxes` says of which: 1 in any of them, 0 outside."""
    images = open_boxes(spec).images

    def read(index: int) -> tuple[np.ndarray, np.ndarray]:
        one = images[index]
        photo = read_photograph(one.file)
        mask = np.zeros(photo.shape[:2], np.int8)
        for y0, x0, y1, x1 in np.round(one.boxes).astype(int):
            mask[max(y0, 0) : y1, max(x0, 0) : x1] = 1
        return photo, mask

    def named(index: int) -> str:
        return str(images[index].file)

    return _with_objects(spec, len(images), read, named, limit, size)


def _with_objects(
    name: str,
    number: int,
    read: Callable[[int], tuple[np.ndarray, np.ndarray]],
    named: Callable[[int], str],
    limit: int | None,
    size: int,
) -> ObjectMasks:
    found: list[int] = []
    seen = 0
    while seen < number and (limit is None or len(found) < limit):
        if (shrunk(read(seen)[1], size) == 1).any():
            found.append(seen)
        seen += 1
    if not found:
        raise ValueError(
            f"{name}: none of its {number} images has an object at {size} pixels (0 is none, and "
            "255 isn't known)"
        )
    return ObjectMasks(name, read, named, tuple(found), seen - len(found))


def _objects(ids: np.ndarray, layout: str) -> np.ndarray:
    """Class ids (H, W) as 1, 0 and -1."""
    ids = ids.astype(np.int64)
    if layout == "coco128":
        things = (ids > 0) & (ids <= _LAST_THING)
        return np.where(ids == 0, IGNORED, things).astype(np.int8)
    return np.where(ids == 255, IGNORED, ids > 0).astype(np.int8)


def _imagenet(file: Path) -> tuple[int, Callable[[int], tuple[np.ndarray, np.ndarray]]]:
    """How many images a file of MATLAB 7.3 has, and what reads one of them.

    value/img and value/gt refer to arrays (3, W, H) and, once more by reference, (W, H).
    """
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    with file.open("rb") as opened:
        # MATLAB puts 512 bytes of its own before those of HDF5.
        if _FIRST_BYTES not in (opened.read(8), (opened.seek(512), opened.read(8))[1]):
            raise ValueError(f"{file}: no MATLAB file of version 7.3; expected gtsegs_ijcv.mat")
    try:
        import h5py
    except ImportError:
        raise ImportError("imagenet: needs h5py, the extra imagenet-segmentation") from None
    try:
        content = h5py.File(file, "r")
        images, masks = (np.ravel(content[f"value/{name}"][()]) for name in ("img", "gt"))
    except (OSError, KeyError) as error:
        raise ValueError(f"{file}: has no value/img and value/gt: {error}") from None
    if len(images) != len(masks):
        raise ValueError(f"{file}: {len(images)} images and {len(masks)} masks")

    def array(reference: Any) -> np.ndarray:
        found = content[reference][()]
        return array(np.ravel(found)[0]) if found.dtype == object else found.T

    def read(index: int) -> tuple[np.ndarray, np.ndarray]:
        try:
            photo, mask = array(images[index]), array(masks[index])
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise ValueError(f"{file}: image {index}: {error}") from None
        photo = np.stack([photo] * 3, axis=-1) if photo.ndim == 2 else photo
        fits = photo.dtype == np.uint8 and photo.shape == (*mask.shape, 3)
        if not fits or not np.isin(mask, (0, 1)).all():
            raise ValueError(
                f"{file}: image {index}: {photo.dtype} {photo.shape} with a mask {mask.shape}; "
                "expected bytes (H, W, 3) and 0 and 1"
            )
        return photo, mask.astype(np.int8)

    return len(images), read

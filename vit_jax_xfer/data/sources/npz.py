"""Image arrays in one .npz file, with MedMNIST's names: train_images, train_labels, …"""

import math
import pathlib
import zipfile

import numpy as np

from vit_jax_xfer.data.sources.arrays import ArraySource

# Of images packed by deflate: a thousandfold is what zeros alone give, and bombs.
_MOST_PACKED = 100
_ALWAYS_ALLOWED = 2**28  # bytes


def open_npz(path: str, split: str) -> ArraySource:
    """Opens the arrays `{split}_images` and `{split}_labels` of the file `path`.

    Images: uint8 (N, h, w), (N, h, w, 1) or (N, h, w, 3). Labels: integers (N,) or (N, 1); without
    them every label is -1 and there are no classes. Names come from an optional array
    `class_names`, of text or of UTF-8 bytes, else they are "0", "1", … up to the greatest label of
    any split, so that splits agree on the number of classes. Pickled arrays are refused. Raises
    ValueError.
    """
    place = pathlib.Path(path).expanduser()
    if not place.is_file():
        raise ValueError(f"spec: npz file {path!r} does not exist")
    try:
        with np.load(place, allow_pickle=False) as file:
            _check_sizes(file.zip, path)
            return _read(file, path, split)
    # zipfile, zlib and NumPy raise nearly anything on broken files, ValueError too.
    except Exception as error:
        if isinstance(error, ValueError) and path in str(error):
            raise
        reason = str(error).split("\n")[0]
        raise ValueError(f"spec: {path!r} is not a readable .npz file ({reason})") from error


def _check_sizes(archive: zipfile.ZipFile, path: str) -> None:
    """ValueError for arrays that are larger than a file of its size holds, before one is read."""
    for entry in archive.infolist():
        if entry.file_size > max(_ALWAYS_ALLOWED, _MOST_PACKED * entry.compress_size):
            raise ValueError(
                f"spec: {path!r}: {entry.filename} would unpack {entry.compress_size:,} bytes to "
                f"{entry.file_size:,}, expected {_MOST_PACKED} times as many at most"
            )
        if not entry.filename.endswith(".npy"):
            continue
        with archive.open(entry) as file:
            version = np.lib.format.read_magic(file)
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else (np.lib.format.read_array_header_2_0)
            )
            shape, _, dtype = read(file)
        declared = math.prod(shape) * dtype.itemsize
        if declared > entry.file_size and not dtype.hasobject:
            raise ValueError(
                f"spec: {path!r}: {entry.filename} declares an array of {declared:,} bytes and "
                f"has {entry.file_size:,}"
            )


def _read(file: np.lib.npyio.NpzFile, path: str, split: str) -> ArraySource:
    splits = sorted(key.removesuffix("_images") for key in file if key.endswith("_images"))
    if split not in splits:
        found = ", ".join(splits) or f"none (its arrays: {', '.join(file) or 'none'})"
        raise ValueError(f"split: got {split!r}, but {path} has {found}")
    images = _check_images(file[f"{split}_images"], f"{path}: {split}_images")
    name = f"npz:{path}/{split}"
    if f"{split}_labels" not in file:
        return ArraySource(images, np.full(len(images), -1), (), name)
    labels = {
        key: _check_labels(file[key], f"{path}: {key}") for key in file if key.endswith("_labels")
    }
    own = labels[f"{split}_labels"]
    if len(own) != len(images):
        raise ValueError(f"{path}: {split} has {len(images)} images but {len(own)} labels")
    greatest = max(int(values.max(initial=-1)) for values in labels.values())
    return ArraySource(images, own, _class_names(file, greatest + 1, path), name)


def _class_names(file: np.lib.npyio.NpzFile, used: int, path: str) -> tuple[str, ...]:
    if "class_names" not in file:
        return tuple(str(label) for label in range(used))
    found = file["class_names"].tolist()
    names = tuple(name.decode() if isinstance(name, bytes) else str(name) for name in found)
    if len(names) < used:
        raise ValueError(f"{path}: {len(names)} class_names, but labels reach {used - 1}")
    return names


def _check_images(images: np.ndarray, what: str) -> np.ndarray:
    grey = images.ndim == 3 or (images.ndim == 4 and images.shape[-1] == 1)
    colour = images.ndim == 4 and images.shape[-1] == 3
    if images.dtype != np.uint8 or not (grey or colour):
        raise ValueError(
            f"{what}: got {images.dtype} {images.shape}, expected uint8 (N, h, w) or (N, h, w, 1|3)"
        )
    if not len(images):
        raise ValueError(f"{what}: holds no images")
    return images


def _check_labels(labels: np.ndarray, what: str) -> np.ndarray:
    flat = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if flat.ndim != 1 or not np.issubdtype(flat.dtype, np.integer):
        raise ValueError(
            f"{what}: got {labels.dtype} {labels.shape}, expected integers (N,) or (N, 1)"
        )
    if flat.min(initial=0) < 0:
        raise ValueError(f"{what}: got a label {flat.min()}, expected 0 or greater")
    return flat.astype(np.int64)

"""Trees of arrays that JAX's libraries wrote: Flax's msgpack files, Orbax's and T5X's folders.

Orbax and T5X keep each array as zarr, apart or inside of OCDBT, TensorStore's own container; both
are opened by TensorStore, and stay in their folder until they are asked for.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vit_jax_xfer.pretrained.array_trees import leaves, nested
from vit_jax_xfer.pretrained.lazy_arrays import Stored, one_line_errors

# As in weight_files.py: weights hardly pack, and chunks that aren't there read as zeros.
_MOST_PACKED = 100
_ALWAYS_UNPACKED = 2**28
_STEP = re.compile(r"(?:checkpoint_)?(\d+)")


def is_flax_checkpoint(path: Path) -> bool:
    """Whether a file is called as flax.training.checkpoints calls its own: checkpoint_100."""
    return re.fullmatch(r"checkpoint_\d+(?:\.\d+)?", path.name) is not None


def open_msgpack(path: Path) -> Any:
    """A tree that flax.serialization.to_bytes wrote, read whole."""
    from flax.serialization import msgpack_restore

    return msgpack_restore(path.read_bytes())


def is_tree_folder(folder: Path) -> bool:
    """Whether a folder is one that Orbax or T5X wrote, with arrays in it or in folders of items."""
    return _has_arrays(folder) or any(map(_has_arrays, _folders(folder)))


def open_tree_folder(folder: Path) -> Mapping[str, Any]:
    """The tree in a folder of Orbax or T5X: arrays unread, items by their names.

    ValueError in one line for one that is damaged.
    """
    with one_line_errors(str(folder)):
        if not _has_arrays(folder):
            items = {item.name: open_tree_folder(item) for item in _folders(folder)}
            # What a manager calls an item that has no name.
            return items["default"] if list(items) == ["default"] else items
        if (folder / "_METADATA").is_file():
            tree = nested(_orbax_arrays(folder))
        else:
            tree = nested(_zarr_arrays(folder))
        _check_size(folder, tree)
        return tree


def steps_in(folder: Path) -> list[Path]:
    """The steps in the folder of a run, oldest first: 100/ of Orbax, checkpoint_100 of Flax."""
    steps = (_STEP.fullmatch(path.name) for path in folder.iterdir())
    found = sorted((int(step[1]), step[0]) for step in steps if step)
    paths = [folder / name for _, name in found]
    return [path for path in paths if path.is_file() or is_tree_folder(path)]


def _has_arrays(folder: Path) -> bool:
    return (folder / "_METADATA").is_file() or any(folder.glob("*/.zarray"))


def _folders(folder: Path) -> list[Path]:
    """Those of items; a run's steps are no parts of one tree."""
    found = (path for path in folder.iterdir() if path.is_dir() and _has_arrays(path))
    return sorted(path for path in found if not _STEP.fullmatch(path.name))


def _orbax_arrays(folder: Path) -> Iterator[tuple[tuple[str, ...], Stored]]:
    """The arrays that Orbax's own description lists."""
    described = json.loads((folder / "_METADATA").read_bytes())
    driver = "zarr3" if described.get("use_zarr3") else "zarr"
    for one in described["tree_metadata"].values():
        if one["value_metadata"]["value_type"] in ("None", "Dict", "List", "NamedTuple"):
            continue  # empty places
        keys = tuple(str(key["key"]) for key in one["key_metadata"])
        if any("/" in key or "\\" in key for key in keys):
            raise ValueError(f"the name {'.'.join(keys)!r} leads into folders")
        name = ".".join(keys)
        store: dict[str, Any] = {"driver": "file", "path": f"{folder.absolute() / name}/"}
        if described.get("use_ocdbt"):
            # Not as an address, in which "%", "#", "?" and "|" of a folder's name mean something.
            base = {"driver": "file", "path": f"{folder.absolute()}/"}
            store = {"driver": "ocdbt", "base": base, "path": f"{name}/"}
        yield keys, _stored(driver, store)


def _zarr_arrays(folder: Path) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each array in a folder of its own, called "target.encoder.scale"; small ones as msgpack."""
    beside = folder / "checkpoint"
    if beside.is_file():
        for name, value in leaves(open_msgpack(beside)):
            if hasattr(value, "dtype"):
                yield tuple(name.split("/")), value
    for array in sorted(folder.glob("*/.zarray")):
        store = {"driver": "file", "path": f"{array.parent.absolute()}/"}
        yield tuple(array.parent.name.split(".")), _stored("zarr", store)


def _stored(driver: str, store: Mapping[str, Any]) -> Stored:
    import tensorstore

    array = tensorstore.open({"driver": driver, "kvstore": store}, open=True, read=True).result()
    return Stored(tuple(array.shape), array.dtype.name, lambda: array.read().result())


def _check_size(folder: Path, tree: Mapping[str, Any]) -> None:
    import numpy as np

    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    asked = sum(8 * int(np.prod(one.shape, dtype=object)) for _, one in leaves(tree))
    if asked > max(_ALWAYS_UNPACKED, _MOST_PACKED * size):
        raise ValueError(f"{size:,} bytes that would unpack to {asked:,}")

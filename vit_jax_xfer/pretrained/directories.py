"""Model directories of the Hugging Face hub: one weights file or shards, beside JSON files."""

import json
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from vit_jax_xfer.pretrained.damage import one_line_errors, refuse_other_content
from vit_jax_xfer.pretrained.readers import ENDINGS, is_weights_file, open_weights

# In the order in which they are looked for.
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def open_directory(folder: Path) -> Mapping[str, Any]:
    """What the folder's weights file holds, or all shards of its index together, arrays unread.

    Without any of WEIGHTS, the only weights file there. ValueError when there is none or a choice,
    and when index and shards disagree; FileNotFoundError for a missing shard.
    """
    for name in WEIGHTS:
        path = folder / name
        # An entry that is there but leads nowhere, as in an unfinished download, must not be
        # passed over for another one.
        if path.exists() or path.is_symlink():
            return _open_shards(path) if name.endswith(".json") else open_weights(path)
    files = sorted(path for path in folder.iterdir() if is_weights_file(path))
    if len(files) == 1:
        return open_weights(files[0])
    if files:
        names = ", ".join(path.name for path in files)
        raise ValueError(f"{folder}: holds several weights files; pass one of {names}")
    raise ValueError(
        f"{folder}: no weights here; looked for {', '.join(WEIGHTS)} and for files that end in "
        f"{', '.join(ENDINGS)}"
    )


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, None where there is no such file. ValueError when it is something else."""
    if not path.exists():
        return None
    refuse_other_content(path)
    with one_line_errors(str(path)):
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict):
            raise ValueError(f"a JSON {type(content).__name__}, expected an object")
    return content


def _open_shards(index: Path) -> dict[str, Any]:
    """{name: array} over all shards that an index file lists."""
    files = (read_json(index) or {}).get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(file, str) for file in files.values()):
        raise ValueError(f"{index}: no weight_map of names and files")
    arrays: dict[str, Any] = {}
    for file in sorted(set(files.values())):
        path = index.parent / _safe(file, index)
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file, but {index.name} lists it")
        shard = open_weights(path)
        listed = {name for name in files if files[name] == file}
        # A name that only one of them has would be missing or unused in silence.
        absent, extra = sorted(listed - set(shard)), sorted(set(shard) - listed)
        if absent:
            raise ValueError(f"{path}: lacks {_brief(absent)}, which {index.name} puts there")
        if extra:
            raise ValueError(f"{path}: holds {_brief(extra)}, which {index.name} does not list")
        arrays.update(shard)
    return arrays


def _safe(file: str, index: Path) -> str:
    """A shard's name as it is. ValueError when it leads out of the folder."""
    path = PureWindowsPath(file)  # knows the separators, roots and drives of every system
    if path.drive or path.root or ".." in path.parts or not path.parts:
        raise ValueError(f"{index}: shard {file!r} is not inside the folder, so it is not opened")
    return file


def _brief(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

"""Paths that people give: of this machine's file system, or refused."""

import os
import pathlib
import re

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|(gs|s3|https?|file):/|hf(-hub)?:")
# Endings of files in which others keep networks, arrays and tables: no folder is called so.
FILE_ENDINGS = (
    ".safetensors", ".npz", ".npy", ".pth", ".pt", ".bin", ".ckpt", ".h5", ".msgpack", ".onnx",
    ".gguf", ".tflite", ".pb", ".pkl", ".mat", ".csv", ".json", ".tar", ".zip",
)  # fmt: skip


def local_path(path: str | os.PathLike[str], field: str) -> pathlib.Path:
    """A path with "~" expanded. ValueError, naming the field, for an address such as gs://….

    pathlib takes that for a folder "gs:" here, and one slash away. So too for what is no path, and
    for an empty one, which pathlib takes for the folder that one is in.
    """
    text = path_text(path, field)
    if _ADDRESS.match(text):
        raise ValueError(
            f"{field}: {text} is no folder; nor a file of this machine, and no other is read or "
            "written: mount the bucket (as gcsfuse does), or download it, and pass the path"
        )
    return pathlib.Path(text).expanduser()


def path_text(path: str | os.PathLike[str], field: str) -> str:
    """A path, or an address, as a text. ValueError, naming the field, for anything else."""
    try:
        text = os.fsdecode(path)
    except TypeError:
        raise ValueError(f"{field}: got {path!r}, expected a path") from None
    if not text:
        raise ValueError(f"{field}: got an empty text, expected a path")
    return text


def named_path(text: str) -> tuple[str, str]:
    """(name, path) of NAME=PATH, and of a PATH the same twice, in which there may be a "=" too."""
    name, equals, path = text.partition("=")
    named = equals and name and "/" not in name and not pathlib.Path(text).exists()
    return (name, path) if named else (text, text)

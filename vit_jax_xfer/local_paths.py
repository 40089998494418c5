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

    pathlib takes that for a folder "gs:" here, and one slash away.
    """
    text = os.fspath(path)
    if _ADDRESS.match(text):
        raise ValueError(
            f"{field}: {text} is no folder; nor a file of this machine, and no other is read or "
            "written: mount the bucket (as gcsfuse does), or download it, and pass the path"
        )
    return pathlib.Path(text).expanduser()


def named_path(text: str) -> tuple[str, str]:
    """(name, path) of NAME=PATH, and of a PATH the same twice, in which there may be a "=" too."""
    name, equals, path = text.partition("=")
    named = equals and name and "/" not in name and not pathlib.Path(text).exists()
    return (name, path) if named else (text, text)

"""Folders of what an evaluation draws or writes, one for each way to have features."""

import re


def folder_name(way: str) -> str:
    """A way's name, "LiFT ×1", as one that every file system takes: "LiFT_x1"."""
    return re.sub(r"[^\w.+-]+", "_", way.replace("×", "x")).strip("_.")

"""Folders of what an evaluation draws or writes, one for each feature extractor."""

import re


def folder_name(extractor: str) -> str:
    """An extractor's name, "LiFT ×1", as one that every file system takes: "LiFT_x1"."""
    return re.sub(r"[^\w.+-]+", "_", extractor.replace("×", "x")).strip("_.")

"""timm, open_clip and transformers as oracles; a test is skipped where they aren't installed."""

import functools
import importlib.util
from types import ModuleType

import pytest


@functools.cache
def _with_torchvision() -> None:
    """torchvision can be imported where its compiled operators are absent."""
    torch = pytest.importorskip("torch", reason="needs torch")
    if importlib.util.find_spec("torchvision") is None or hasattr(torch.ops.torchvision, "nms"):
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _with_torchvision.kept = library
    torch.set_num_threads(1)


def library(name: str) -> ModuleType:
    """A library that CI needn't have, by name."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"needs {name} and torch")
    _with_torchvision()
    return importlib.import_module(name)

"""Imports by the names of version 0.1 still work, and say what the new name is."""

import importlib
import sys

import pytest

from vit_jax_xfer.moved import MOVED, RENAMED


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_gives_the_module_of_now(old):
    sys.modules.pop(f"vit_jax_xfer.{old}", None)
    with pytest.warns(FutureWarning, match=f"is now vit_jax_xfer.{MOVED[old]}"):
        module = importlib.import_module(f"vit_jax_xfer.{old}")
    assert module is importlib.import_module(f"vit_jax_xfer.{MOVED[old]}")
    assert module.__spec__.name == f"vit_jax_xfer.{MOVED[old]}"


@pytest.mark.parametrize("old", RENAMED)
def test_what_has_another_name_in_it_is_there_by_the_old_one(old):
    sys.modules.pop(f"vit_jax_xfer.{old}", None)
    said = ", ".join(f"{before} is {now}" for before, now in RENAMED[old].items())
    with pytest.warns(FutureWarning, match=f", {said}$"):
        module = importlib.import_module(f"vit_jax_xfer.{old}")
    for before, now in RENAMED[old].items():
        assert getattr(module, before) is getattr(module, now)


def test_what_never_was_is_still_an_import_error():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("vit_jax_xfer.models.never")

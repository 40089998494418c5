"""Namespaces give each of their names, and take no module for one."""

import importlib
import pathlib

import pytest

import vit_jax_xfer as vjx

NAMESPACES = ("analysis", "augment", "dense", "detection", "explain")


def assert_public_alone(space):
    """A tab completes nothing else than public names."""
    assert {one for one in dir(space) if not one.startswith("__")} == set(space.__all__)


@pytest.mark.parametrize("name", NAMESPACES)
def test_a_namespace_gives_its_names(name):
    space = getattr(vjx, name)
    assert set(space.__all__) == set(space._WHERE) <= set(dir(space))
    for one in space.__all__:
        module = importlib.import_module(space._WHERE[one])
        assert getattr(space, one) is getattr(module, one)
    assert_public_alone(space)
    with pytest.raises(AttributeError, match=f"{name}' has no attribute 'nothing'"):
        _ = space.nothing


def test_the_package_shows_public_names_alone():
    assert_public_alone(vjx)
    assert "__version__" in dir(vjx)


@pytest.mark.parametrize("name", NAMESPACES)
def test_no_file_of_a_package_has_the_name_of_what_it_gives(name):
    # Python would put the module where the name stands.
    space = getattr(vjx, name)
    files = {
        file.stem
        for folder in getattr(space, "__path__", ())
        for file in pathlib.Path(folder).glob("*.py")
    }
    assert files & set(space.__all__) == set()

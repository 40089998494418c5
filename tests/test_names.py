"""One name for each file and each class of the package, whatever room it is in."""

import ast
import collections
import pathlib

import vit_jax_xfer

PACKAGE = pathlib.Path(vit_jax_xfer.__file__).parent
FILES = [file for file in PACKAGE.rglob("*.py") if not file.stem.startswith("__")]


def singular(name: str) -> str:
    """A plural and its singular are one name to whoever looks for a file."""
    return name.removesuffix("s")


def test_no_two_files_have_one_name():
    found = collections.Counter(singular(file.stem) for file in FILES)
    assert [name for name, number in found.items() if number > 1] == []


def test_no_two_classes_have_one_name():
    places = collections.defaultdict(list)
    for file in FILES:
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(file.relative_to(PACKAGE)))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}

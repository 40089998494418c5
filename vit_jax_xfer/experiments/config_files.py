"""Config files by path or by short name: `attention_distill:digits`, from any directory.

The configs of this project are configs/ of a checkout, and the same files inside an installed
package.
"""

import difflib
import functools
import pathlib
from importlib import util
from types import ModuleType

from ml_collections import ConfigDict

_PACKAGE = pathlib.Path(__file__).parents[1]


def config_folder() -> pathlib.Path:
    """Where this project's own configs lie."""
    # The package's first: beside an installed one, "configs" may be anybody's.
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def config_names() -> list[str]:
    """The short names that there are, sorted."""
    return sorted(path.stem for path in config_folder().glob("*.py"))


def find_config(name: str) -> pathlib.Path:
    """The file of a config: a path of one, else a short name, with or without configs/ and .py.

    ValueError, with the short names that there are, the nearest first.
    """
    path = pathlib.Path(name).expanduser()
    if path.is_file():
        return path
    known = config_names()
    short = path.stem if path.suffix == ".py" else path.name
    if short in known and str(path.parent) in (".", "configs"):
        return config_folder() / f"{short}.py"
    nearest = sorted(known, key=lambda one: -difflib.SequenceMatcher(None, short, one).ratio())
    raise ValueError(f"{name}: no such file; the configs' short names are {', '.join(nearest)}")


def split_config(name: str) -> tuple[str, str | None]:
    """ "scratch:digits,labels=5" → ("scratch", "digits,labels=5"); None without an argument."""
    file, colon, argument = name.partition(":")
    return file, argument if colon else None


def load_config(name: str, argument: str = "") -> ConfigDict:
    """A config as `--config=NAME:ARGUMENT` gives it; `name` may hold the argument itself.

    ValueError for a config that is not there, and for an argument that it has no meaning for.
    """
    file, own = split_config(name)
    if own and argument:
        raise ValueError(f"config {name!r}: it has an argument already, beside {argument!r}")
    from vit_jax_xfer.config import check_complete  # heavy, and this file is in every command

    config = _module(find_config(file).absolute()).get_config(own or argument)
    check_complete(config)
    return config


@functools.cache
def _module(path: pathlib.Path) -> ModuleType:
    spec = util.spec_from_file_location(path.stem, path)
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

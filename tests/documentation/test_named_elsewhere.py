"""Names on pages whose list is another file's: extras, variables of the notebook, networks."""

import configparser
import json
import re

from tests.documentation.pages import ROOT, inline_code, pages, prose

# For those who change the project, and one that nothing needs any more.
_NOT_FOR_USERS = {"docs", "oracles", "real-teacher", "test", "torch"}


def _extras() -> set[str]:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return set(setup["options.extras_require"])


def test_extras_that_are_named_exist_and_all_are_listed():
    files = [*pages(), *(ROOT / "vit_jax_xfer").rglob("*.py")]
    named = re.compile(r"(?:vit_jax_xfer|['\"` ]\.)\[([a-z][\w,-]*)\]['\"`]")
    lists = [found for file in files for found in named.findall(file.read_text())]
    assert {name for one in lists for name in one.split(",")} <= _extras()
    table = set(re.findall(r"`\.\[([\w-]+)\]`", (ROOT / "docs/start.md").read_text()))
    assert _extras() - _NOT_FOR_USERS <= table


def test_variables_of_the_notebook_are_there():
    cells = json.loads((ROOT / "launch/colab.ipynb").read_text())["cells"]
    text = "".join("".join(cell["source"]) for cell in cells)
    told = inline_code(ROOT / "docs/howto/colab.md")
    part = prose(ROOT / "launch/README.md").partition("## Colab")[2].partition("\n## ")[0]
    names = {
        code for code in [*told, *re.findall(r"`([^`]+)`", part)] if re.fullmatch(r"[A-Z_]+", code)
    }
    assert {"FOLDER", "PACKAGE"} <= names
    assert {name for name in names if not re.search(rf"^{name} = |\"{name}\"", text, re.M)} == set()

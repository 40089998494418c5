"""Names on pages whose list is elsewhere: extras, variables of the notebook, parts, networks."""

import configparser
import fnmatch
import json
import re

import vit_jax_xfer as vjx
from tests.documentation.pages import ROOT, blocks, inline_code, pages, prose
from vit_jax_xfer.models.timm_architectures import ARCHITECTURES

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


def test_the_designs_tree_has_every_part_and_no_other():
    (tree,) = (block for block in blocks(ROOT / "docs/design.md") if block.language == "text")
    words = set(re.findall(r"\w+", tree.text))
    package = [
        part.stem for part in (ROOT / "vit_jax_xfer").iterdir() if part.suffix in ("", ".py")
    ]
    parts = [part for part in package if not part.startswith("_") and part != "launch_scripts"]
    assert {*parts, "configs", "launch", "benchmarks", "docs", "tests"} - words == set()
    files = {file.name for room in ("vit_jax_xfer", "docs") for file in (ROOT / room).rglob("*.py")}
    assert set(re.findall(r"\w+\.py\b", tree.text)) <= files


def test_names_of_networks_on_the_page_of_teachers_are_create_models():
    """Those of the families' third column, with braces and stars written out."""
    page = (ROOT / "docs/teachers.md").read_text()
    table = page.partition("| family | files,")[2].partition("\n\n")[0]
    cells = [row.split(" | ")[2] for row in table.splitlines()[2:]]
    names = [
        name for cell in cells for code in re.findall(r"`([^`]+)`", cell) for name in _each(code)
    ]
    assert len(names) >= 60
    known = {*vjx.list_models(), *ARCHITECTURES}
    assert [name for name in names if not fnmatch.filter(known, name)] == []


def _each(name: str) -> list[str]:
    """ "a_{b,c}_d" → "a_b_d", "a_c_d"; "…" stands for anything."""
    found = re.search(r"\{([^{}]*)\}", name)
    if not found:
        return [name.replace("…", "*")]
    return [one for part in found[1].split(",") for one in _each(name.replace(found[0], part, 1))]

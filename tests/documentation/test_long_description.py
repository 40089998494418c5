"""README on PyPI: nothing there leads to a file that isn't beside it."""

import re
import runpy

from tests.documentation.pages import ROOT

SETUP = runpy.run_path(str(ROOT / "setup.py"), run_name="setup")
TEXT = "![A map](docs/a.jpg) of [start](docs/start.md#x), [jax](https://jax.dev), [below](#below)"


def test_links_go_by_the_repositorys_address():
    found = SETUP["long_description"](TEXT, "https://host/me/repo/")
    assert "![A map](https://host/me/repo/raw/HEAD/docs/a.jpg)" in found
    assert "[start](https://host/me/repo/blob/HEAD/docs/start.md#x)" in found
    assert found.endswith("[jax](https://jax.dev), [below](#below)")


def test_without_an_address_pictures_are_left_out_and_words_stay():
    found = SETUP["long_description"](TEXT, "")
    assert found == " of start, [jax](https://jax.dev), [below](#below)"


def test_no_relative_link_is_left_in_this_readme():
    found = SETUP["published_readme"](ROOT)
    assert "vit-jax-xfer" in found
    targets = re.findall(r"\]\(([^)]*)\)", found)
    assert all(target.startswith(("https://", "http://", "#")) for target in targets), targets
    assert re.search(r"\]\(docs/", (ROOT / "README.md").read_text())  # of which there are some

"""docs/site_pages.py: what the site has beside the files of docs/."""

import importlib.util
import re

import pytest

import vit_jax_xfer as vjx
from tests.documentation.pages import ROOT
from vit_jax_xfer.data import operations
from vit_jax_xfer.front_door import COMMANDS


@pytest.fixture(scope="module")
def site():
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "docs/site_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_operation_is_listed(site):
    page = site.operations_page()
    assert re.findall(r"^\| `(\w+)\(.*`  ?\| \S", page, re.M) == operations.names()


def test_every_field_is_listed(site):
    from vit_jax_xfer.config import field_names
    from vit_jax_xfer.experiments.config_files import load_config

    page = site.fields_page()
    listed = set(re.findall(r"^\| `([\w.]+)` \| `", page, re.M))
    for name in ("scratch", "attention_distill", "lift", "detection"):
        fields = set(field_names(load_config(name)))
        whole = {field for field in fields if any(one.startswith(f"{field}.") for one in fields)}
        own = {one for one in fields - whole if not one.startswith("model.")}
        assert own - {"task.name"} <= listed
    assert "| `optim.lr` | `1e-3` | the peak |" in page
    assert "| `optim.warmup_epochs` | `None` |" in page


def test_every_command_is_listed_with_its_help(site, monkeypatch):
    monkeypatch.setattr(
        "vit_jax_xfer.front_door.main", lambda given: print("usage of", *given) or 0
    )
    page = site.commands_page()
    for words in COMMANDS:
        assert f"## {words}\n" in page and f"usage of {words} --help" in page


def test_every_public_name_is_in_the_reference(site):
    namespaces = {"": vjx, **{name: getattr(vjx, name) for name in ("dense", "detection")}}
    for name, namespace in namespaces.items():
        page = site.MADE[f"reference/{name or 'vjx'}.md"]()
        for public in set(namespace.__all__) - {"analysis", "augment", "dense", "detection"}:
            if public != "explain":
                assert re.search(rf"[.`]{public}`?$", page, re.M), public


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page(site):
    listed = set(re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M))
    files = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert listed == files | set(site.FILES.values()) | site.MADE.keys()


def test_links_that_leave_docs_lead_to_pages(site):
    text = "[a](../../launch/README.md#b) [c](../lift.md) [d](../../LICENSE) [e](https://x.y)"
    assert site.to_site(text, "docs/howto/pod.md", "howto/pod.md") == (
        "[a](../launch.md#b) [c](../lift.md) d [e](https://x.y)"
    )
    text = "![p](docs/pictures/idea.svg) [s](docs/start.md) [c](CONTRIBUTING.md)"
    assert site.to_site(text, "README.md", "index.md") == (
        "![p](pictures/idea.svg) [s](start.md) [c](contributing.md)"
    )

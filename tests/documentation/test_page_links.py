"""Every link and every named page of README and docs/ leads somewhere, without a network."""

import re

import pytest

from tests.documentation.pages import ROOT, anchors, inline_code, links, pages, prose


def name_of(page) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_links_lead_to_files_and_headings(page):
    broken = []
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            assert link.startswith(("https://", "mailto:")), f"{link}: not by https"
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or not target.is_relative_to(ROOT):
            broken.append(link)
        elif anchor and anchor not in anchors(target):
            broken.append(f"{link}: headings are {', '.join(sorted(anchors(target)))}")
    assert broken == []


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_named_files_are_there(page):
    """What a sentence calls docs/x.md, configs/x.py or tests/x.py, in backticks or bare."""
    if page.name == "CHANGELOG.md":
        return  # it tells of files that were
    named = re.compile(r"(?:docs|configs|launch|tests|benchmarks|vit_jax_xfer)/[\w./-]+\.[a-z]+\b")
    text = " ".join([prose(page), *inline_code(page)])
    missing = {file for file in named.findall(text) if not (ROOT / file).exists()}
    assert missing == set()


def test_every_page_of_docs_is_linked_from_another():
    """So that a reader on GitHub finds it; of the site that is the navigation's part."""
    linked = set()
    for page in pages():
        for link in links(page):
            path = link.partition("#")[0]
            target = (page.parent / path).resolve()
            if path and target != page:
                linked.add(target)
    lost = [page for page in pages() if page.is_relative_to(ROOT / "docs") and page not in linked]
    assert lost == []


def test_what_is_no_link_is_told(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A *b*: `c`!\n[x](y.md#z)\n```sh\n[no](link)\n```\n`[no](link)` ![p](q.png)\n"
    )
    assert links(page) == ["y.md#z", "q.png"]
    assert anchors(page) == {"a-b-c"}

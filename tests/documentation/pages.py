"""README and the pages of docs/, as tests read them: links, headings, blocks, command lines."""

import functools
import pathlib
import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple

from vit_jax_xfer.front_door import COMMANDS

ROOT = pathlib.Path(__file__).parents[2]

# A block below this comment is run as it stands (test_marked_blocks.py). What follows a command's
# name in it is added to that command, so that it takes seconds, with semicolons between:
# <!-- runs: train --config.steps=2; compare --seeds=1 -->
_MARK = re.compile(r"<!-- runs(?::\s*(?P<more>.*?))? -->\s*$")
_FENCE = re.compile(r"^( *)```([\w-]*)\n(.*?)^\1```", re.M | re.S)
_HEADING = re.compile(r"^#{1,6} +(.*?) *#*$", re.M)
_LINK = re.compile(r"(?<!`)\]\(\s*<?([^)>\s]+)>?(?:\s+\"[^\"]*\")?\)")
_INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)", re.S)
_PACKAGE = "vit_jax_xfer"


class Block(NamedTuple):
    """A fenced block of a page."""

    page: pathlib.Path
    line: int
    language: str
    text: str
    runs: bool  # whether it is marked so
    more: dict[str, str]  # {a command of the front door: arguments that its mark adds}

    @property
    def name(self) -> str:
        """Where it stands, as the id of a test."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


class Command(NamedTuple):
    """A call of a Python module, or of this project's front door, in a block or in a sentence."""

    place: str
    module: str
    arguments: tuple[str, ...]
    whole: bool  # whether nothing in it is left to the reader or to the shell


def pages() -> list[pathlib.Path]:
    """The files that are checked."""
    others = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "launch/README.md")
    found = [ROOT / name for name in others if (ROOT / name).exists()]
    return found + sorted((ROOT / "docs").rglob("*.md"))


@functools.cache
def prose(page: pathlib.Path) -> str:
    """A page without its blocks."""
    return _FENCE.sub("", page.read_text())


def links(page: pathlib.Path) -> list[str]:
    """What the page links to, pictures too."""
    return _LINK.findall(_INLINE.sub("", prose(page)))


@functools.cache
def anchors(page: pathlib.Path) -> frozenset[str]:
    """The anchors of a page's headings, as GitHub and Python-Markdown both make them."""
    found = set()
    for heading in _HEADING.findall(prose(page)):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        letters = re.sub(r"[^\w\s-]", "", plain.lower()).strip()
        found.add(re.sub(r"[-\s]+", "-", letters))
    return frozenset(found)


@functools.cache
def blocks(page: pathlib.Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text, found = page.read_text(), []
    for match in _FENCE.finditer(text):
        before = text[: match.start()]
        mark = _MARK.search(before.rstrip())
        body = re.sub(rf"^{match[1]}", "", match[3], flags=re.M)
        added = ((mark["more"] or "") if mark else "").split(";")
        more = dict(one.strip().split(" ", 1) for one in added if one.strip())
        line = before.count("\n") + 1
        found.append(Block(page, line, match[2], body, mark is not None, more))
    return found


def shell_blocks(page: pathlib.Path) -> list[Block]:
    """Those of its blocks that a shell reads."""
    return [block for block in blocks(page) if block.language in ("sh", "bash")]


def python_blocks(page: pathlib.Path) -> list[Block]:
    """Those of its blocks that Python reads."""
    return [block for block in blocks(page) if block.language in ("python", "py")]


def inline_code(page: pathlib.Path) -> list[str]:
    """What stands between single backticks in its sentences, on one line each."""
    return [" ".join(code.split()) for code in _INLINE.findall(prose(page))]


def commands(page: pathlib.Path) -> Iterator[Command]:
    """Every command of the page that begins a Python module, or is this project's own."""
    for block in shell_blocks(page):
        for line in logical_lines(block.text):
            yield from commands_in(line, block.name)
    for code in inline_code(page):
        if "python -m " in code or code.startswith("vit-jax-xfer "):
            # A sentence names what matters to it alone.
            for command in commands_in(code, f"{page.relative_to(ROOT)}: `{code}`"):
                yield command._replace(whole=False)


def logical_lines(text: str) -> list[str]:
    """A shell's lines: ended by no backslash, and with no quote open."""
    found, open_line = [], ""
    for line in text.splitlines():
        open_line += line
        if open_line.endswith("\\"):
            open_line = open_line[:-1]
            continue
        try:
            shlex.split(open_line, comments=True)
        except ValueError:
            open_line += "\n"
            continue
        found.append(open_line)
        open_line = ""
    return found


def commands_in(line: str, place: str) -> Iterator[Command]:
    """Those of one line, which pipes, semicolons and braces divide."""
    reader = shlex.shlex(line, posix=True, punctuation_chars=";&|()<>")
    reader.whitespace_split, reader.commenters = True, "#"
    part: list[str] = []
    for token in [*reader, ";"]:
        if token.strip(";&|()<>{}"):
            part.append(token)
            continue
        yield from _command_of(part, place)
        part = []


def _command_of(tokens: list[str], place: str) -> Iterator[Command]:
    if "-m" in tokens[1:-1] and "python" in tokens[tokens.index("-m") - 1]:
        start = tokens.index("-m") + 1
        module = tokens[start]
    elif any(token.endswith("vit-jax-xfer") for token in tokens):
        start = next(i for i, token in enumerate(tokens) if token.endswith("vit-jax-xfer"))
        module = _PACKAGE
    else:
        return
    arguments = tuple(tokens[start + 1 :])
    left = any(sign in word for word in arguments for sign in ("$", "…", "..."))
    if module == _PACKAGE and arguments and not arguments[0].startswith("-"):
        words = next((n for n in (2, 1) if " ".join(arguments[:n]) in COMMANDS), 0)
        assert words, f"{place}: vit-jax-xfer has no command {' '.join(arguments[:2])!r}"
        module = f"{_PACKAGE}.{COMMANDS[' '.join(arguments[:words])].module}"
        arguments = arguments[words:]
    if not any(sign in module for sign in ("$", "…")) and not module.endswith("."):
        yield Command(place, module, arguments, not left)

"""What the site has beside the files of docs/: pages from elsewhere, and pages that are made.

README.md is the site's home. Links between pages are written as they work in a checkout; here those
that leave docs/ are turned to the page that the file became, or to plain text where it is none.
"""

import contextlib
import importlib
import inspect
import io
import os
import pathlib
import posixpath
import re
from collections.abc import Callable
from typing import Any

ROOT = pathlib.Path(__file__).parent.parent
# Files of the checkout that are pages: {file: page}.
FILES = {
    "README.md": "index.md",
    "launch/README.md": "launch.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")


def operations_page() -> str:
    """Every operation of pipelines, from the table in which they are registered."""
    from vit_jax_xfer.data import operations, transforms  # noqa: F401 - it registers

    rows = []
    for name in operations.names():
        kind = operations.find(name)
        signature = inspect.signature(kind).replace(return_annotation=inspect.Signature.empty)
        rows.append(f"| `{name}{_cell(str(signature))}` | {_cell(_first(kind))} |")
    return "\n".join(
        [
            "# Operations of pipelines",
            "",
            "A pipeline is a text of steps: `resize(256)|center_crop(224)|normalize`.",
            "These are all steps there are, with their arguments. One of yours is a class",
            "under `@register` (`vit_jax_xfer/data/operations.py`).",
            "",
            "| operation | what it does |",
            "|---|---|",
            *rows,
            "",
        ]
    )


def fields_page() -> str:
    """Every field of a config, with its default and the comment beside or above it in config.py."""
    from vit_jax_xfer import config
    from vit_jax_xfer.tasks.build import TASKS
    from vit_jax_xfer.tasks.flat_settings import flat_types, to_flat

    source, comment, rows = inspect.getsource(config.default_config), "", []
    for line in source.splitlines():
        text = line.strip()
        field = re.match(r"config\.([\w.]+) = (.+?)(?:  # (.*))?$", text)
        if field and (field[2] not in _SECTIONS or "." in field[1]):
            about = " ".join(filter(None, (comment, field[3])))
            rows.append(f"| `{field[1]}` | `{_cell(_default(field[2]))}` | {_cell(about)} |")
        # A comment is its field's, until the next field or a blank line.
        comment = f"{comment} {text[2:]}".strip() if text.startswith("# ") else ""
    parts = ["# Fields of a config", "", "`--config.FIELD=VALUE` sets one.", ""]
    parts += ["| field | default | |", "|---|---|---|", *rows, ""]
    parts += ["`model.name` is a network, and `model.…` its fields: those of the class that", ""]
    parts[-2] += " `vjx.create_model` returns."
    for name, task in TASKS.items():
        settings = flat_types(task.settings_type)
        parts += [f"## task.name = {name}", "", _first(task), ""]
        given = to_flat(task.settings_type())
        parts += ["| field | default |", "|---|---|"]
        parts += [f"| `task.{field}` | `{given[field]!r}` |" for field in settings] + [""]
    return "\n".join(parts)


def commands_page() -> str:
    """Every command with what `--help` says."""
    from vit_jax_xfer.front_door import COMMANDS, main

    parts = ["# Commands", "", "`vit-jax-xfer NAME`, or `python -m vit_jax_xfer NAME`.", ""]
    for words, command in COMMANDS.items():
        with (
            contextlib.redirect_stdout(io.StringIO()) as out,
            contextlib.redirect_stderr(out),
            contextlib.suppress(SystemExit),
            _columns(90),
        ):
            main([*words.split(), "--help"])
        text = out.getvalue().strip()
        parts += [f"## {words}", "", f"{command.does}.", "", "```text", text, "```", ""]
    return "\n".join(parts)


def reference_page(module: str, names: list[str], title: str, about: str) -> str:
    """The docstrings of public names."""
    parts = [f"# {title}", "", about, ""]
    for name in names:
        found = getattr(importlib.import_module(module), name)
        where = inspect.getmodule(found)
        if callable(found) and where is not None:
            parts += [f"::: {where.__name__}.{found.__name__}", ""]
        else:
            parts += [f"## `{name}`", "", _constant(found), ""]
    return "\n".join(parts)


# {page: what makes it}
MADE: dict[str, Callable[[], str]] = {
    "reference/operations.md": operations_page,
    "reference/fields.md": fields_page,
    "reference/commands.md": commands_page,
}
_NAMESPACES = {
    "": ("vjx", "Models, weights, transfer: the names of `import vit_jax_xfer as vjx`."),
    "dense": ("vjx.dense", "Dense features, LiFT, and the tasks that show what they are worth."),
    "explain": ("vjx.explain", "What an answer rests on, and whether that is right."),
    "analysis": ("vjx.analysis", "What attention is like, and how far two networks are apart."),
    "augment": ("vjx.augment", "The recipes' operations, on given draws."),
    "detection": ("vjx.detection", "Boxes and regions, as functions on arrays."),
}


def _namespace_page(name: str) -> str:
    title, about = _NAMESPACES[name]
    module = f"vit_jax_xfer.{name}".rstrip(".")
    public = importlib.import_module(module).__all__
    names = [one for one in public if one not in _NAMESPACES]
    return reference_page(module, names, title, about)


for _name in _NAMESPACES:
    MADE[f"reference/{_name or 'vjx'}.md"] = lambda name=_name: _namespace_page(name)


def to_site(text: str, source: str, page: str) -> str:
    """A file's text as a page: its links lead from there to pages.

    source: the file, from the checkout's root. page: the page, from docs/.
    """

    def turn(match: re.Match) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1]))
        if target.startswith("docs/"):
            target = target.removeprefix("docs/")
        elif target in FILES:
            target = FILES[target]
        else:
            return f"](#{_NOWHERE})"
        here = posixpath.relpath(target, posixpath.dirname(page) or ".")
        return f"]({here}{match[2] or ''})"

    turned = _LINK.sub(turn, text)
    return re.sub(rf"\[([^]]*)\]\(#{_NOWHERE}\)", r"\1", turned)


def on_files(files: Any, config: Any) -> Any:
    """mkdocs' hook: puts the other pages beside the files of docs/."""
    from mkdocs.structure.files import File

    for source, page in FILES.items():
        text = to_site((ROOT / source).read_text(), source, page)
        files.append(File.generated(config, page, content=text))
    for page, make in MADE.items():
        files.append(File.generated(config, page, content=make()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """mkdocs' hook: links of docs/ that leave it."""
    made = page.file.src_uri in MADE or page.file.src_uri in FILES.values()
    return markdown if made else to_site(markdown, f"docs/{page.file.src_uri}", page.file.src_uri)


_NOWHERE = "no-page"
# What a section of a config is set to.
_SECTIONS = ("ConfigDict()", "task_config(task, **settings)", "model_config(model, **fields)")


@contextlib.contextmanager
def _columns(number: int):
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(number)
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def _first(documented: Any) -> str:
    """The first paragraph of a docstring."""
    return inspect.getdoc(documented).split("\n\n")[0]


def _cell(text: str) -> str:
    """A text as it stands in a table's cell."""
    return text.replace("\n", " ").replace("|", "\\|")


def _default(code: str) -> str:
    """What a field is set to, as a user writes it."""
    if code.startswith("placeholder("):
        return "None"
    if code == "ConfigDict()":
        return "{}"
    return re.sub(r"^FieldReference\((.*), field_type=object\)$", r"\1", code)


def _constant(value: Any) -> str:
    if isinstance(value, (tuple, list, frozenset, set)) or hasattr(value, "keys"):
        return ", ".join(f"`{one}`" for one in value)
    return f"`{value!r}`"

"""Files that name a data set's classes by id: lines of text, YOLO's YAML, ADE20K's table."""

import re
from pathlib import Path
from typing import Any

from vit_jax_xfer.data.sources.named_files import read_text

_LARGEST = 2**20  # bytes


def read_class_file(file: Path) -> dict[int, str]:
    """Names by id.

    A .yaml file has them under `names` or `classes`, as a list from 0 on or by id. A text has a
    name a line, ids from 0 on; or "id: name" in each; or columns with tabs under a head, of which
    the first is the id and the last the name (ADE20K's objectInfo150.txt, of whose several names
    the first counts). ValueError naming the file and line.
    """
    try:
        if is_yaml(file):
            names = _from_entries(read_yaml(file))
        else:
            names = _from_lines(read_text(file, _LARGEST).splitlines())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"spec: class names {file}: {reason}") from None
    return _checked(file, names)


def names_in(file: Path, entries: dict[str, Any]) -> dict[int, str]:
    """`read_class_file` of a YAML whose entries are read."""
    try:
        names = _from_entries(entries)
    except ValueError as error:
        raise ValueError(f"spec: class names {file}: {error}") from None
    return _checked(file, names)


def _checked(file: Path, names: dict[int, str]) -> dict[int, str]:
    if not names:
        raise ValueError(f"spec: class names {file}: there are none")
    if not all(0 <= number < 2**16 for number in names):
        raise ValueError(f"spec: class names {file}: ids are {min(names)} to {max(names)}")
    twice = {name for name in names.values() if list(names.values()).count(name) > 1}
    if twice:
        raise ValueError(f"spec: class names {file}: {sorted(twice)[0]!r} is there twice")
    return names


def is_yaml(file: Path) -> bool:
    """Whether a file is a YAML by its name."""
    return file.suffix.lower() in (".yaml", ".yml")


def read_yaml(file: Path) -> dict[str, Any]:
    """A YAML's entries. OSError, and ValueError where it is none, or not made of entries."""
    import yaml

    text = read_text(file, _LARGEST)
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(f"it is no YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict):
        raise ValueError("it has no entries; expected YOLO's YAML with names")
    return content


def _from_entries(content: dict[str, Any]) -> dict[int, str]:
    found = content.get("names", content.get("classes"))
    if isinstance(found, list):
        found = dict(enumerate(found))
    if not isinstance(found, dict) or not all(type(number) is int for number in found):
        raise ValueError("it has no entry 'names' with a list, or names by whole numbers")
    return {number: str(name) for number, name in found.items()}


def _from_lines(lines: list[str]) -> dict[int, str]:
    rows = [line.rstrip() for line in lines if line.strip()]
    if rows and "\t" in rows[0]:
        return _from_columns(rows[1:])
    numbered = [re.fullmatch(r"\s*(\d+)\s*:\s*(.+)", row) for row in rows]
    if not any(numbered):
        return {number: row.strip() for number, row in enumerate(rows)}
    names: dict[int, str] = {}
    for row, match in zip(rows, numbered, strict=True):
        if match is None or int(match[1]) in names:
            raise ValueError(f"line {row!r}: expected an id that wasn't there, a colon, a name")
        names[int(match[1])] = match[2].strip()
    return names


def _from_columns(rows: list[str]) -> dict[int, str]:
    names: dict[int, str] = {}
    for row in rows:
        columns = row.split("\t")
        if not columns[0].strip().isdecimal() or int(columns[0]) in names:
            raise ValueError(f"line {row!r}: expected an id that wasn't there, tabs, a name")
        names[int(columns[0])] = columns[-1].split(",")[0].strip()
    return names

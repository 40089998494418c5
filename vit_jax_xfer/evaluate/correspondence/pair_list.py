"""Lists of pairs of photographs, as people and programs write CSVs, with or without a header."""

import csv
import io
from pathlib import Path, PureWindowsPath

from vit_jax_xfer.data.sources.named_files import read_text

# Where commas are decimal, programs write ";" between cells.
_SEPARATORS = (",", "\t", ";")


def read_pair_list(file: Path) -> list[tuple[int, list[str]]]:
    """(number, cells) of the lines that aren't blank, cells without blanks around them.

    The header, where there is one, is still among them. Cells are parted by commas, tabs or
    semicolons, by what the first line shows. ValueError naming the file where it is no text.
    """
    try:
        text = read_text(file)
        first = next(filter(str.strip, text.splitlines()), "")
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=_separator(first)))
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{file}: {error}") from None
    found = [(number, [cell.strip() for cell in row]) for number, row in enumerate(rows, start=1)]
    return [(number, row) for number, row in found if any(row)]


def name_in_list(cell: str) -> PureWindowsPath:
    """A file that a list names; it knows the separators of every system."""
    return PureWindowsPath(cell)


def _separator(line: str) -> str:
    """The first by which a line's first cell holds none of the others."""
    for one in _SEPARATORS:
        cell, found, _ = line.partition(one)
        if found and not any(other in cell for other in _SEPARATORS):
            return one
    return ","

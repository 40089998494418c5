"""A way of naming a ViT, as a table of pairs that reads both ways.

A dialect renames a file to the common names (common.py) and back. In a pair, `{i}` stands for a
block's number and `*` for the rest of the name; where several of theirs mean one common name, the
first is what publishers' files carry and what is written.
"""

import dataclasses
import functools
import re
from collections.abc import Iterable

Pairs = tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Dialect:
    """One way of naming.

    name: what `convert --names` takes.
    signature: names (templates) of which a file in this dialect has at least one.
    pairs: (theirs, common). prefixes: what a whole model puts before its names, none included.
    prefer: marks of the common names that this dialect translates, for export.
    ignored: regular expressions of names that files carry to no use (buffers).
    """

    name: str
    signature: tuple[str, ...]
    pairs: Pairs
    prefixes: tuple[str, ...] = ("",)
    prefer: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    def speaks(self, names: Iterable[str]) -> bool:
        """Whether a file with these names is written in this dialect."""
        patterns = [_pattern(template) for template in self.signature]
        return any(p.fullmatch(self._bare(name)) for name in names for p in patterns)

    def to_common(self, name: str) -> str:
        """The common name of one of theirs; a name that no pair covers stays as it is."""
        return _translate(self._bare(name), self.pairs, 0, 1) or name

    def from_common(self, name: str) -> str:
        """Their name of a common one, the first of several; without a pair, as it is."""
        return _translate(name, self.pairs, 1, 0) or name

    def knows(self, name: str) -> bool:
        """Whether there is a name for a common one."""
        return _translate(name, self.pairs, 1, 0) is not None

    def _bare(self, name: str) -> str:
        for prefix in self.prefixes:
            if prefix and name.startswith(prefix):
                return name[len(prefix) :]
        return name


def _translate(name: str, pairs: Pairs, source: int, target: int) -> str | None:
    for pair in pairs:
        match = _pattern(pair[source]).fullmatch(name)
        if match is not None:
            found = match.groupdict()
            result = pair[target].replace("{i}", found.get("i") or "")
            return result.replace("*", found.get("rest") or "")
    return None


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    text = re.escape(template).replace(r"\{i\}", r"(?P<i>\d+)").replace(r"\*", "(?P<rest>.+)")
    return re.compile(text)


def in_blocks(block: str, pairs: Iterable[tuple[str, str]]) -> Pairs:
    return tuple((f"{block}.{theirs}.*", f"blocks.{{i}}.{common}.*") for theirs, common in pairs)

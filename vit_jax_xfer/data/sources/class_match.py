"""Two sets' classes, matched by name: a class is its name, whatever its number in a folder."""

import dataclasses
import difflib
import json
import pathlib
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np

from vit_jax_xfer.data.sources.named_files import read_text
from vit_jax_xfer.data.sources.source import OfSource, Source
from vit_jax_xfer.suites.imagenet_labels import names_beside


@dataclasses.dataclass(frozen=True)
class ClassMatch:
    """Where a set's classes stand among a model's.

    table: int32 (n,), the model's number of each class of the set. lacking: the model's classes
    that the set has not. numbers: whether both sides' names are only numbers from 0 on.
    """

    table: np.ndarray
    lacking: tuple[str, ...]
    numbers: bool

    def __call__(self, labels: np.ndarray) -> np.ndarray:
        """The set's labels, integers of any shape, as the model's. ValueError for one below 0."""
        if labels.min(initial=0) < 0:
            raise ValueError("an image without a label among those that are scored by theirs")
        return self.table[labels]

    def present(self, num_classes: int) -> np.ndarray:
        """(num_classes,) bool: which of the model's outputs are classes of the set."""
        return np.isin(np.arange(num_classes), self.table)


def match_classes(own: Sequence[str], wanted: Sequence[str]) -> ClassMatch:
    """Matches a set's class names `own` to a model's, `wanted`.

    Several of the set's may have one name, and are then one class of the model's. A model of
    ImageNet's classes in words is matched by WordNet's names too (names_beside), and letters with
    accents whichever of their two codes a system wrote. ValueError that names a class which the
    model has not, with the nearest that it has, and one that it has twice, unless both sides have
    the same names in the same order.
    """
    wanted = names_beside(wanted, own)
    if list(own) == list(wanted):
        return ClassMatch(np.arange(len(own), dtype=np.int32), (), are_numbers(own))
    own, wanted = (
        [unicodedata.normalize("NFC", name) for name in names] for names in (own, wanted)
    )
    places = {name: number for number, name in enumerate(wanted)}
    if len(places) < len(wanted):
        twice = next(name for name in wanted if wanted.count(name) > 1)
        raise ValueError(f"two of the model's classes are called {twice!r}; rename one")
    unknown = [name for name in own if name not in places]
    if unknown:
        near = difflib.get_close_matches(unknown[0], wanted, n=3, cutoff=0.0)
        more = f" (and {len(unknown) - 1} more are not)" if len(unknown) > 1 else ""
        raise ValueError(
            f"its class {unknown[0]!r} is none of the model's {len(wanted)}{more}; the nearest are "
            f"{', '.join(map(repr, near))}"
        )
    table = np.array([places[name] for name in own], np.int32)
    lacking = tuple(name for name in wanted if name not in set(own))
    return ClassMatch(table, lacking, are_numbers(own) and are_numbers(wanted))


def are_numbers(names: Sequence[str]) -> bool:
    """Whether names are "0", "1", … in order: what a set without names has."""
    return list(names) == [str(number) for number in range(len(names))]


@dataclasses.dataclass
class RenamedClasses(OfSource):
    """A source whose classes have other names; nothing else differs."""

    source: Source
    class_names: tuple[str, ...]

    @property
    def name(self) -> str:
        """The parent's."""
        return self.source.name

    @property
    def num_classes(self) -> int:
        """The parent's."""
        return self.source.num_classes

    @property
    def left_out(self) -> tuple[str, ...]:
        """The parent's."""
        return self.source.left_out

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict:
        return self.source[index]

    def labels(self) -> np.ndarray:
        """The parent's."""
        return self.source.labels()


def rename_classes(source: Source, class_map: str | Mapping[str, str]) -> RenamedClasses:
    """The source with its classes renamed by a map; those that the map has not keep their names.

    class_map: see `read_class_map`. ValueError where it has none of the source's classes.
    """
    renamed = read_class_map(class_map)
    if not any(name in renamed for name in source.class_names):
        raise ValueError(
            f"class_map: it renames {', '.join(map(repr, list(renamed)[:3]))}, …, and none of "
            f"these is a class of {source.name}; it goes from the set's names to the model's"
        )
    return RenamedClasses(source, tuple(renamed.get(name, name) for name in source.class_names))


def read_class_map(class_map: str | Mapping[str, str]) -> dict[str, str]:
    """{name in the set: name of the model's class}.

    A dict, one written out as JSON, or a path: of a .json file that holds such an object, or of a
    UTF-8 text file with a line for each, both names with a tab between. ValueError for what is
    none of these.
    """
    if isinstance(class_map, Mapping):
        return dict(class_map)
    inline = class_map.lstrip().startswith("{")
    text = class_map if inline else _read(class_map)
    if not inline and not class_map.lower().endswith(".json"):
        return _pairs(class_map, text)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"class_map: {class_map!r} is no JSON ({error})") from None
    values = found.values() if isinstance(found, dict) else [None]
    if not all(isinstance(value, str) for value in values):
        raise ValueError(f"class_map: {class_map!r} is no JSON object from names to names")
    return found


def _pairs(path: str, text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        names = [name.strip() for name in line.split("\t")]
        if len(names) != 2 or not all(names) or names[0] in found:
            raise ValueError(
                f"class_map: line {number} of {path!r} is {line!r}, expected a name of the set's, "
                "which stands there once, a tab, and a name of the model's"
            )
        found[names[0]] = names[1]
    return found


def _read(path: str) -> str:
    try:
        return read_text(pathlib.Path(path).expanduser())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(
            f"class_map: got {path!r}, expected a .json file, a text file with two names a line "
            f"and a tab between ({reason}), or a JSON object"
        ) from error

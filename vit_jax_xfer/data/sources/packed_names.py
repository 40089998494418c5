"""Very many names of files, packed: a list of strings takes four times the memory."""

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np

from vit_jax_xfer.data.shared_arrays import shared


class PackedNames(Sequence[str]):
    """A sequence of strings, as their bytes one after the other and where each ends.

    30 bytes a name of ImageNet-21k and 4 of its place, which workers map (data/shared_arrays.py).
    """

    def __init__(self, groups: Iterable[Sequence[str]]):
        """groups: the names in order, some at a time, as one folder after the other has them."""
        packed, lengths = bytearray(), [np.zeros(1, np.int64)]
        for names in groups:
            encoded = [name.encode("utf-8", "surrogateescape") for name in names]
            packed += b"".join(encoded)
            lengths.append(np.fromiter(map(len, encoded), np.int64, len(encoded)))
        ends = np.cumsum(np.concatenate(lengths))
        self._ends = shared(ends.astype(np.uint32) if ends[-1] < 2**32 else ends)
        self._bytes = shared(np.frombuffer(packed, np.uint8))

    @property
    def nbytes(self) -> int:
        """Of all names and their places."""
        return self._ends.nbytes + self._bytes.nbytes

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self))[index]  # raises IndexError, and counts from the end below 0
        start, end = int(self._ends[place]), int(self._ends[place + 1])
        return self._bytes[start:end].tobytes().decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:3])) + (", …" if len(self) > 3 else "")
        return f"PackedNames([{shown}], {len(self)} names)"

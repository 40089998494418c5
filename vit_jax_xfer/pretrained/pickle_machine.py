"""What a pickle says, without doing any of it: the opcodes that torch.save and numpy write.

Python's own unpickler calls what a file names. This one builds dicts, lists, tuples, sets, numbers,
strings and bytes; what a name may build besides is in a table that the caller passes, and all else
becomes an `Unbuilt`, which is never called and forgets what it is given.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vit_jax_xfer.pretrained.lazy_arrays import RefusedFile, Unbuilt

# A one-byte opcode can make an object of a hundred bytes, so that the file alone is no bound.
_MOST_STEPS = 4_000_000
# Nothing is ever called, but a file that asks for one of these was made to harm, and is not read.
_HARMFUL = (
    *("builtins", "os", "posix", "nt", "sys", "subprocess", "importlib", "runpy"),
    *("shutil", "socket", "ctypes", "pty", "pickle"),
)
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}


class Builder:
    """What a name in a pickle stands for here. build: from the arguments there to a value."""

    __slots__ = ("build", "name")

    def __init__(self, name: str, build: Callable[..., Any]) -> None:
        self.name = name
        self.build = build


class Attributes(dict):
    """An object that is nothing but its attributes, such as an argparse.Namespace."""


class PickleMachine:
    """Reads one pickle of bytes (or an mmap) from `position`; `load` gives its value.

    builders: {"module.name": what its arguments become}, for what is called in a pickle.
    persistent: what a persistent id becomes; torch's storages are such.
    `position` is behind the pickle when `load` is through. ValueError on what is no such pickle.
    """

    def __init__(
        self,
        data: Any,
        builders: Mapping[str, Callable[..., Any]],
        persistent: Callable[[Any], Any],
        position: int = 0,
    ) -> None:
        self.data = data
        self.position = position
        self._builders = builders
        self._persistent = persistent
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def load(self) -> Any:
        """The pickle's value. RefusedFile for a call of what could do harm, naming it."""
        for _ in range(_MOST_STEPS):
            opcode = self._take(1)
            if opcode == b".":
                return self._stack.pop()
            step = _STEPS.get(opcode)
            if step is None:
                raise ValueError(f"opcode {opcode!r} at byte {self.position - 1} is unknown")
            step(self)
        raise ValueError(f"a pickle of more than {_MOST_STEPS:,} steps")

    def _take(self, length: int) -> bytes:
        """The next bytes, no more of which are asked for than there are."""
        end = self.position + length
        if not self.position <= end <= len(self.data):
            raise ValueError(f"truncated in a pickle, at byte {self.position}")
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def _number(self, layout: struct.Struct) -> Any:
        return layout.unpack(self._take(layout.size))[0]

    def _line(self) -> str:
        end = self.data.find(b"\n", self.position)
        if end < 0:
            raise ValueError(f"truncated in a pickle, at byte {self.position}")
        return self._take(end + 1 - self.position)[:-1].decode("utf-8")

    def _since_mark(self) -> list[Any]:
        mark = self._marks.pop()
        items = self._stack[mark:]
        del self._stack[mark:]
        return items

    def _tuple(self, length: int) -> None:
        if len(self._stack) < length:
            raise ValueError("a pickle that takes more than it has")
        self._stack[-length:] = [tuple(self._stack[-length:])]

    def _remember(self, number: int) -> None:
        self._memo[number] = self._stack[-1]

    def _global(self, module: str, name: str) -> None:
        full = f"{_PYTHON_2.get(module, module)}.{name}"
        build = self._builders.get(full)
        self._stack.append(Unbuilt(full) if build is None else Builder(full, build))

    def _global_on_stack(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._global(str(module), str(name))

    def _call(self, *, keywords: bool = False) -> None:
        if keywords:
            self._stack.pop()
        arguments = self._stack.pop()
        what = self._stack[-1]
        if isinstance(what, Builder):
            self._stack[-1] = what.build(*arguments)
        elif not isinstance(what, Unbuilt):
            raise ValueError(f"a pickle that calls a {type(what).__name__}")
        elif what.name.split(".")[0] in _HARMFUL:
            raise RefusedFile(
                f"holds pickled objects other than arrays ({what.name}), which are never "
                "unpickled; save the state dict alone"
            )
        else:
            self._stack[-1] = Unbuilt(what.name)

    def _set_state(self) -> None:
        state = self._stack.pop()
        built = self._stack[-1]
        if hasattr(built, "set_state"):
            built.set_state(state)
        elif isinstance(built, Attributes) and isinstance(state, Mapping):
            self._put(_pairs(state))

    def _add(self, items: Sequence[Any]) -> None:
        built = self._stack[-1]
        if isinstance(built, list):
            built.extend(items)
        elif isinstance(built, set):
            built.update(map(hashable, items))
        elif not isinstance(built, Unbuilt):
            raise ValueError(f"a pickle that appends to a {type(built).__name__}")

    def _put(self, pairs: Sequence[Any]) -> None:
        built = self._stack[-1]
        if isinstance(built, dict):
            built.update(zip(map(hashable, pairs[::2]), pairs[1::2], strict=True))
        elif not isinstance(built, Unbuilt):
            raise ValueError(f"a pickle that puts items into a {type(built).__name__}")

    def _pop(self, length: int) -> list[Any]:
        items = self._stack[-length:]
        del self._stack[-length:]
        return items


def hashable(value: Any) -> Any:
    """A value that may be a key: a plain one, or a tuple of them. ValueError for others.

    Nested tuples of one another take forever to hash, and so do tables of numbers chosen to meet.
    """
    for one in value if isinstance(value, tuple) else (value,):
        if isinstance(one, int) and not -(2**63) <= one < 2**64:
            raise ValueError("a pickle with a key of more than 64 bits")
        if not isinstance(one, str | bytes | int | float | Unbuilt | None):
            raise ValueError(f"a pickle with a {type(one).__name__} as a key")
    return value


def _pairs(mapping: Mapping[Any, Any]) -> list[Any]:
    return [one for pair in mapping.items() for one in pair]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _python_2_text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _whole(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


Step = Callable[[PickleMachine], Any]


def _pushes(value: Any) -> Step:
    return lambda machine: machine._stack.append(value)


def _makes(kind: type) -> Step:
    return lambda machine: machine._stack.append(kind())


def _reads(layout: str) -> Step:
    number = struct.Struct(layout)
    return lambda machine: machine._stack.append(machine._number(number))


def _reads_many(layout: str, decode: Callable[[bytes], Any]) -> Step:
    """Bytes after their length."""
    number = struct.Struct(layout)
    return lambda machine: machine._stack.append(decode(machine._take(machine._number(number))))


def _remembers(layout: str) -> Step:
    number = struct.Struct(layout)
    return lambda machine: machine._remember(machine._number(number))


def _recalls(layout: str) -> Step:
    number = struct.Struct(layout)
    return lambda machine: machine._stack.append(machine._memo[machine._number(number)])


# By the names in Python's pickletools, which says what each does.
_STEPS: dict[bytes, Step] = {
    b"\x80": lambda machine: machine._take(1),  # PROTO
    b"\x95": lambda machine: machine._take(8),  # FRAME
    b"N": _pushes(None),
    b"\x88": _pushes(True),
    b"\x89": _pushes(False),
    b")": _pushes(()),
    b"]": _makes(list),
    b"}": _makes(dict),
    b"\x8f": _makes(set),
    b"J": _reads("<i"),  # BININT, BININT1, BININT2, BINFLOAT, LONG1
    b"K": _reads("<B"),
    b"M": _reads("<H"),
    b"G": _reads(">d"),
    b"\x8a": _reads_many("<B", _whole),
    b"X": _reads_many("<I", _text),  # BINUNICODE, SHORT_BINUNICODE, BINUNICODE8
    b"\x8c": _reads_many("<B", _text),
    b"\x8d": _reads_many("<Q", _text),
    b"U": _reads_many("<B", _python_2_text),  # SHORT_BINSTRING, BINSTRING
    b"T": _reads_many("<i", _python_2_text),
    b"C": _reads_many("<B", bytes),  # SHORT_BINBYTES, BINBYTES, BINBYTES8, BYTEARRAY8
    b"B": _reads_many("<I", bytes),
    b"\x8e": _reads_many("<Q", bytes),
    b"\x96": _reads_many("<Q", bytes),
    b"(": lambda machine: machine._marks.append(len(machine._stack)),  # MARK
    b"t": lambda machine: machine._stack.append(tuple(machine._since_mark())),  # TUPLE, TUPLE1…3
    b"\x85": lambda machine: machine._tuple(1),
    b"\x86": lambda machine: machine._tuple(2),
    b"\x87": lambda machine: machine._tuple(3),
    b"q": _remembers("<B"),  # BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
    b"r": _remembers("<I"),
    b"\x94": lambda machine: machine._remember(len(machine._memo)),
    b"h": _recalls("<B"),
    b"j": _recalls("<I"),
    b"a": lambda machine: machine._add(machine._pop(1)),  # APPEND, APPENDS, ADDITEMS
    b"e": lambda machine: machine._add(machine._since_mark()),
    b"\x90": lambda machine: machine._add(machine._since_mark()),
    b"\x91": lambda machine: machine._stack.append(  # FROZENSET
        frozenset(map(hashable, machine._since_mark()))
    ),
    b"s": lambda machine: machine._put(machine._pop(2)),  # SETITEM, SETITEMS
    b"u": lambda machine: machine._put(machine._since_mark()),
    b"c": lambda machine: machine._global(machine._line(), machine._line()),  # GLOBAL
    b"\x93": lambda machine: machine._global_on_stack(),
    b"R": lambda machine: machine._call(),  # REDUCE, NEWOBJ, NEWOBJ_EX
    b"\x81": lambda machine: machine._call(),
    b"\x92": lambda machine: machine._call(keywords=True),
    b"b": lambda machine: machine._set_state(),  # BUILD
    b"Q": lambda machine: machine._stack.append(  # BINPERSID
        machine._persistent(machine._stack.pop())
    ),
}

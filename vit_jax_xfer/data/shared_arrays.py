"""Arrays that worker processes map instead of getting copies of.

A source of many images holds large arrays: names, labels, indices. `shared` lays one into a
nameless piece of memory; whatever is handed to workers goes as bytes beside descriptors of such
memory, so that fourteen million names lie in memory once, however many workers read them and
however often an evaluation starts new ones.
"""

import array
import contextlib
import mmap
import os
import pickle
import socket
import tempfile
import weakref
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import IO, Any

import numpy as np

_LARGE = 2**20  # bytes; smaller arrays go with the rest, for each shared one is an open file
_PAGE = mmap.PAGESIZE
_MOST = 200  # descriptors in one message, of 253 that Linux takes

# The memory of each array of `shared` that is alive, by the address of its bytes.
_files: dict[int, IO[bytes]] = {}


def shared(given: np.ndarray) -> np.ndarray:
    """The same array, read-only, in memory that workers map. Small ones stay as they are."""
    if given.nbytes < _LARGE or _address(given) in _files:
        return given
    file = nameless_file(given.nbytes)
    found = np.ndarray(given.shape, given.dtype, mmap.mmap(file.fileno(), given.nbytes))
    found[...] = given
    found.flags.writeable = False
    place = _address(found)
    _files[place] = file
    weakref.finalize(found, _forget, place)
    return found


def nameless_file(size: int) -> IO[bytes]:
    """An open file without a name, in memory where the system has that."""
    if hasattr(os, "memfd_create"):
        file = os.fdopen(os.memfd_create("vit_jax_xfer"), "r+b")
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    file.truncate(size)
    return file


class Handed:
    """Anything that cloudpickle takes, as bytes and as the memory of its large arrays.

    What lies in no memory of `shared` yet is copied into one more, for all workers together.
    """

    def __init__(self, thing: Any):
        import cloudpickle  # by value, what the caller's script defines

        self._files: list[IO[bytes]] = []
        self._places: list[tuple[int, int, int]] = []  # of each array: file, offset, bytes
        loose: list[memoryview] = []

        def taken(buffer: pickle.PickleBuffer) -> bool:
            """Whether a buffer goes with the rest, as pickle asks."""
            raw = buffer.raw()
            if raw.nbytes < _LARGE or len(self._files) >= _MOST:
                return True
            file = _files.get(_address(np.frombuffer(raw, np.uint8)))
            if file is None:
                loose.append(raw)
                self._places.append((-1, len(loose) - 1, raw.nbytes))
            else:
                self._places.append((self._number(file), 0, raw.nbytes))
            return False

        pickled = cloudpickle.dumps(thing, protocol=5, buffer_callback=taken)
        self._own = self._written(loose)
        self.task = pickle.dumps((pickled, self._places, len(self._files)))

    def _number(self, file: IO[bytes]) -> int:
        if file not in self._files:
            self._files.append(file)
        return self._files.index(file)

    def _written(self, loose: Sequence[memoryview]) -> IO[bytes] | None:
        if not loose:
            return None
        offsets = np.cumsum([0, *(-(-view.nbytes // _PAGE) * _PAGE for view in loose)]).tolist()
        file = nameless_file(offsets[-1])
        with mmap.mmap(file.fileno(), offsets[-1]) as mapped:
            for offset, view in zip(offsets, loose, strict=False):
                mapped[offset : offset + view.nbytes] = view
        number = self._number(file)
        self._places = [
            (number, offsets[place], size) if at < 0 else (at, place, size)
            for at, place, size in self._places
        ]
        return file

    def send(self, connection: Connection) -> None:
        """Hands it to a process at the other end of a socket. OSError where that is gone."""
        connection.send_bytes(self.task)
        if self._files:
            with _socket_of(connection) as sock:
                descriptors = array.array("i", [file.fileno() for file in self._files])
                sock.sendmsg(
                    [b"f"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors.tobytes())]
                )

    def close(self) -> None:
        """Lets go of the memory that no array of `shared` holds."""
        if self._own is not None:
            self._own.close()


def received(connection: Connection) -> Any:
    """What `Handed.send` gave. Its large arrays are mapped: writing to one copies those pages."""
    pickled, places, count = pickle.loads(connection.recv_bytes())
    descriptors: list[int] = []
    if count:
        with _socket_of(connection) as sock:
            _, descriptors, _, _ = socket.recv_fds(sock, 1, count)
        if len(descriptors) < count:
            raise EOFError
    mapped = []
    for descriptor in descriptors:
        mapped.append(mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE))
        os.close(descriptor)
    views = [memoryview(mapped[at])[offset : offset + size] for at, offset, size in places]
    return pickle.loads(pickled, buffers=views)


@contextlib.contextmanager
def _socket_of(connection: Connection) -> Any:
    """A connection's socket; the connection stays open."""
    with socket.socket(fileno=os.dup(connection.fileno())) as sock:
        yield sock


def _address(given: np.ndarray) -> int:
    return given.__array_interface__["data"][0]


def _forget(place: int) -> None:
    _files.pop(place).close()

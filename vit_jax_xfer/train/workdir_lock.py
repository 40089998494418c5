"""One run at a time in a work folder, and one folder for all hosts of a run.

The lock is a file `run.lock` in the folder that says who holds it. It is made by a hard link, which
is one step of the file system, over NFS too; where there are no links, by an exclusive open. The
run renews the file's time. So others know whether the holder is still there: on the same machine by
its process, from elsewhere by watching whether the time changes, for which no clocks must agree.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, Self

import jax

from vit_jax_xfer.terminal import show
from vit_jax_xfer.train import hosts
from vit_jax_xfer.train.console import say

NAME = "run.lock"
RENEW_SECONDS = 10.0
WATCH_SECONDS = 45.0  # another machine's lock that stood so long was left behind
_SEEN_SECONDS = 10.0  # in which what one host writes must be there for the others
_HELD: set[str] = set()  # tokens of this process: a lock that a full disk kept is nobody's


class WorkdirLock:
    """Context that gives back at its end the folder that `take` has claimed."""

    def __init__(self) -> None:
        self._token = secrets.token_hex(8)
        self._lock: pathlib.Path | None = None
        self._made: list[pathlib.Path] = []  # folders, the innermost first
        self._over = threading.Event()
        self._renewing = threading.Thread(target=self._renew, name="run.lock", daemon=True)

    def __enter__(self) -> Self:
        return self

    def take(self, folder: pathlib.Path) -> None:
        """Makes a folder where it is none yet, and claims it for this run.

        ValueError where another run is in it or it can't be written to; and, on every process,
        where a host doesn't see in it what the first one writes.
        """
        if jax.process_index() == 0:
            missing = [path for path in (folder, *folder.parents) if not path.exists()]
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._made = missing
                self._claim(folder / NAME)
            except OSError as error:
                raise ValueError(f"workdir: cannot write to {folder}: {error.strerror}") from None
            self._renewing.start()
        first = hosts.share("lock", self._token)[0]
        _check_all_see(folder / NAME, first)

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        _HELD.discard(self._token)
        if self._renewing.is_alive():
            self._renewing.join()
        # The folder may be gone by now, and the error about that be on its way.
        with contextlib.suppress(OSError):
            if self._lock is not None and _holder(self._lock).get("token") == self._token:
                self._lock.unlink()
        with contextlib.suppress(OSError):
            for made in self._made:  # empty where the run failed before it wrote
                made.rmdir()

    def _claim(self, lock: pathlib.Path) -> None:
        _HELD.add(self._token)
        while not self._create(lock):
            holder = _holder(lock)
            if not lock.exists():  # given back meanwhile
                continue
            who = f"process {holder.get('pid', '?')} on {holder.get('host', 'an unknown host')}"
            if _is_alive(lock, holder, who):
                raise ValueError(
                    f"workdir: {lock.parent} is in use by {who}; stop that run, or choose another "
                    "--workdir"
                )
            _set_aside(lock, holder, self._token)
            say(f"{lock}: left behind by {who}, which is gone; taken over")
        self._lock = lock

    def _create(self, lock: pathlib.Path) -> bool:
        """Whether the lock wasn't there and is ours now."""
        text = json.dumps(_this_process() | {"token": self._token}) + "\n"
        own = lock.with_name(f".{NAME}.{self._token}")
        try:
            own.write_text(text)
            try:
                os.link(own, lock)
            except FileExistsError:
                return own.stat().st_nlink == 2  # NFS's answer was lost, and asked for again
            except OSError:  # a file system without links
                try:
                    with lock.open("x") as file:
                        file.write(text)
                except FileExistsError:
                    return False
        finally:
            own.unlink(missing_ok=True)  # on a full disk it is there, and empty
        return True

    def _renew(self) -> None:
        while not self._over.wait(RENEW_SECONDS):
            with contextlib.suppress(OSError):  # a shared folder may be away for a while
                holder = _holder(self._lock)
                if holder.get("token") == self._token:
                    os.utime(self._lock)
                elif not holder:
                    self._create(self._lock)
                else:
                    _end_run(self._lock.parent, holder)


def _check_all_see(lock: pathlib.Path, token: str) -> None:
    if not hosts.several():
        return
    until = time.monotonic() + _SEEN_SECONDS
    while not (seen := _sees(lock, token)) and time.monotonic() < until:
        time.sleep(0.2)
    answers = hosts.share("seen", "yes" if seen else "no")
    blind = [hosts.name_of(process) for process, text in enumerate(answers) if text == "no"]
    if blind:
        raise hosts.HostsDisagree(
            f"workdir: {lock.parent} is not one folder for all hosts: {', '.join(blind)} can't see "
            f"what {hosts.name_of(0)} writes there; pass a folder of a disk that all share"
        )


def _sees(lock: pathlib.Path, token: str) -> bool:
    try:
        list(lock.parent.iterdir())  # NFS remembers that a file was not there, until it lists
        return _holder(lock).get("token") == token
    except OSError:
        return False


def _end_run(folder: pathlib.Path, holder: dict[str, Any]) -> None:
    """Ends this process: it stood still so long that another run took its folder."""
    message = (
        f"workdir: {folder} was taken over by process {holder.get('pid')} on {holder.get('host')} "
        "while this run stood still; nothing more is written to it"
    )
    show(f"error: {message}", name="stderr")
    hosts.end(message)
    os._exit(1)


def _holder(lock: pathlib.Path) -> dict[str, Any]:
    """What a lock says; {} where there is none, or where it says nothing yet."""
    try:
        found = json.loads(lock.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _this_process() -> dict[str, Any]:
    pid = os.getpid()
    machine, host = _machine(), socket.gethostname()
    return {"host": host, "machine": machine, "pid": pid, "started": _started(pid)}


def _machine() -> str:
    """The machine since it was started, and its container: where a process id means something."""
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {pathlib.Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux
        return socket.gethostname()


def _started(pid: int) -> str:
    """When a process was started, which tells it from a later one of its number; "" = unknown."""
    try:
        # After the name, which may hold spaces and parentheses.
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "ended" if fields[0] in "ZX" else fields[19]


def _is_alive(lock: pathlib.Path, holder: dict[str, Any], who: str) -> bool:
    if holder.get("machine") != _machine():
        say(f"{lock}: held by {who}; watching for {WATCH_SECONDS:g} s whether that run is alive")
        return _changes(lock, holder)
    if holder["pid"] == os.getpid():
        return holder["token"] in _HELD
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _started(holder["pid"]) == holder["started"]


def _changes(lock: pathlib.Path, holder: dict[str, Any]) -> bool:
    before, until = _time_of(lock), time.monotonic() + WATCH_SECONDS
    while time.monotonic() < until:
        time.sleep(min(1.0, WATCH_SECONDS / 10))
        if (now := _time_of(lock)) != before:
            return now is not None
    return _holder(lock) != holder


def _time_of(lock: pathlib.Path) -> int | None:
    try:
        with lock.open() as file:  # on opening, NFS asks its server
            return os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None


def _set_aside(lock: pathlib.Path, holder: dict[str, Any], token: str) -> None:
    """Removes a lock that was left behind, and no other that came in its place."""
    aside = lock.with_name(f".{NAME}.{token}.old")
    with _alone_in(lock.parent), contextlib.suppress(FileNotFoundError):
        if _holder(lock) != holder:
            return
        lock.rename(aside)
        if _holder(aside) != holder:  # where nothing keeps others out
            with contextlib.suppress(FileExistsError):
                os.link(aside, lock)
        aside.unlink()


@contextlib.contextmanager
def _alone_in(folder: pathlib.Path) -> Iterator[None]:
    """Keeps others of this machine from removing a lock; nothing where a folder can't be held."""
    held = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # NFS locks no folders
            fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)

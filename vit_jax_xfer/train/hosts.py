"""What the processes of one run say to each other beside the devices' exchange, and who is gone.

They meet in the store of JAX's coordinator, which process 0 holds. There each puts what all must
agree on before the first collective (`share`), a beat, and the reason when it ends early. A thread
of each looks there: so no process waits for one that has ended, as a collective would for ever.
With a single process there is no store, and all of this does nothing.
"""

import atexit
import contextlib
import ctypes
import functools
import json
import os
import socket
import threading
import time
from typing import Any

from jax._src import distributed  # the store has no public name; Orbax takes the same
from jax._src.lib import _jax

from vit_jax_xfer.terminal import settle, show

BEAT_SECONDS = 2.0  # between two looks
LOST_SECONDS = 60.0  # without a beat a process counts as gone
_TURN_SECONDS = 1.0  # of a wait, after which a signal's handler gets its turn
_ENDED, _BEATS, _HEARD = "vjx/ended", "vjx/beat/", "vjx/heard/"
_RESUME = "the same command goes on from the newest checkpoint"

_shared = 0  # calls of `share`, by which their keys differ
_reason = ""  # why another process has ended this run
_watch: "_Watch | None" = None
_ending = threading.Lock()


class HostsDisagree(ValueError):
    """The processes differ where they must not; every one of them raises the same text."""


def several() -> bool:
    """Whether this run has more than one process."""
    return _store() is not None and distributed.global_state.num_processes > 1


def name_of(process: int) -> str:
    """A process as messages call it: "process 1 (node7)"."""
    host = _read(f"vjx/host/{process}")
    return f"process {process} ({host})" if host else f"process {process}"


def share(what: str, text: str) -> list[str]:
    """The text of every process, in their order; all must call this in the same order.

    Waits for those that are slower. One that has ended meanwhile ends this process as well.
    """
    global _shared
    if not several():
        return [text]
    _shared += 1
    key, state = f"vjx/shared/{_shared}/{what}/", distributed.global_state
    _store().key_value_set(f"{key}{state.process_id}", text)
    found = []
    while len(found) < state.num_processes:
        try:
            wanted = f"{key}{len(found)}"
            found.append(_store().blocking_key_value_get(wanted, int(_TURN_SECONDS * 1000)))
        except RuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
    return found


def check_same(facts: dict[str, str], fix: str) -> None:
    """HostsDisagree, the same on every process, unless all have the same facts.

    facts: field → what it is here. fix: how the message ends.
    """
    everyone = [json.loads(text) for text in share("facts", json.dumps(facts))]
    for process, theirs in enumerate(everyone):
        for field in sorted({*theirs, *everyone[0]}):
            first, other = everyone[0].get(field), theirs.get(field)
            if first != other:
                raise HostsDisagree(
                    f"{field}: it is {_short(other)} on {name_of(process)} and {_short(first)} on "
                    f"{name_of(0)}; {fix}"
                )


def initialize(*given: Any) -> None:
    """`jax.distributed.initialize`, and the thread that tells when another process has ended.

    RuntimeError or ValueError where the processes don't come together; this one is alone then.
    OSError where the port of process 0 is taken.
    """
    global _watch
    import jax

    # A process whose coordinator is gone is ended by XLA with pages of text, unless it is told what
    # else to do; `initialize` has no argument for that.
    connect, serve = _jax.get_distributed_runtime_client, _jax.get_distributed_runtime_service
    _jax.get_distributed_runtime_client = functools.partial(
        connect, missed_heartbeat_callback=_coordinator_lost
    )

    def serve_at(address: str, *more: Any, **named: Any) -> Any:
        check_port(int(address.rpartition(":")[2]))
        return serve(address, *more, **named)

    _jax.get_distributed_runtime_service = serve_at
    try:
        jax.distributed.initialize(*given)
    except RuntimeError:
        _forget_store()
        raise
    finally:
        _jax.get_distributed_runtime_client = connect
        _jax.get_distributed_runtime_service = serve
    if several():
        _catch_terminate()
        _watch = _Watch()
        atexit.register(_watch.stop)  # after JAX's own, and so called before it


def check_port(port: int) -> None:
    """OSError where another program listens at a port of this host: XLA would crash on it."""
    both = socket.has_dualstack_ipv6()
    with socket.socket(socket.AF_INET6 if both else socket.AF_INET) as probe:
        if both:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a run that has ended is none
        try:
            probe.bind(("", port))
        except OSError as error:
            raise OSError(
                f"--coordinator: port {port} of process 0's host can't be had ({error.strerror}); "
                "end what uses it, or give another"
            ) from None


def _forget_store() -> None:
    """Leaves a store in which there is nobody: to be told, to hear of, or to be waited for at exit.

    It is never taken down, at which XLA would print pages.
    """
    state = distributed.global_state
    for one in (state.client, state.service):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(one))
    state.client = state.service = None


def here() -> int:
    """The number of this process; 0 where there is one."""
    return distributed.global_state.process_id


def announce(reason: str) -> None:
    """Tells the other processes to end, and why; this one may still have something to do."""
    if several() and not _read(_ENDED):
        _put(_ENDED, f"{name_of(here())}: {reason}")


def end(reason: str) -> int:
    """The exit status 1; of several processes this one ends at once, and ends all others.

    reason: one line, which this process has printed, and which the others print.
    """
    if several():
        _leave(f"{name_of(here())}: {reason}", said=True)
    return 1


def what_broke(reason: str) -> str:
    """What to say where an exchange between the devices of several processes broke.

    That is how others learn first of a process that is gone; the beats show which.
    """
    gone = _watch.silent_within(5 * BEAT_SECONDS)
    what = f"{' and '.join(gone)} ended without a word" if gone else reason
    return f"{what}; {_RESUME}"


class _Watch(threading.Thread):
    """Beats, and looks every few seconds for the others' beats and for a reason to end."""

    def __init__(self) -> None:
        super().__init__(name="hosts", daemon=True)
        self._over = threading.Event()
        self._process = distributed.global_state.process_id
        count, now = distributed.global_state.num_processes, time.monotonic()
        # Each process's beat, and when it came, by the clock here.
        self._seen = {f"{_BEATS}{process}": ("", now) for process in range(count)}
        self._number = 0
        _put(f"vjx/host/{self._process}", socket.gethostname())
        self.start()

    def run(self) -> None:
        global _reason
        while not self._over.wait(BEAT_SECONDS):
            try:
                self._beat(str(self._number))
                reason = _read(_ENDED)
                self._look()
            except RuntimeError:
                if not self._over.is_set():
                    _coordinator_lost()
                return
            self._number += 1
            if reason:
                _reason = reason
                _put(f"{_HEARD}{self._process}", "")
                # The same may be wrong here, and the main thread about to say it in its own words.
                time.sleep(BEAT_SECONDS)
                if not self._over.is_set():
                    _leave(reason)
            elif self._process == 0 and (gone := self._silent(LOST_SECONDS)):
                who = " and ".join(gone)
                _leave(f"{who} has not been heard of for {LOST_SECONDS:g} s; {_RESUME}")

    def stop(self) -> None:
        """Ends the thread; the others hear that this process is through, not gone."""
        self._over.set()
        self.join()
        if _store() is not None:
            self._beat("through")

    def silent_within(self, seconds: float) -> list[str]:
        """Waits until a process misses its beats, or so long; who that is."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(BEAT_SECONDS / 4)
            if gone := self._silent(2 * BEAT_SECONDS):
                return gone
        return []

    def _beat(self, text: str) -> None:
        _put(f"{_BEATS}{self._process}", text)

    def _look(self) -> None:
        now = time.monotonic()
        for key, beat in _store().key_value_dir_get(_BEATS):
            if beat != self._seen[key][0]:
                self._seen[key] = beat, now

    def _silent(self, seconds: float) -> list[str]:
        now = time.monotonic()
        late = [
            int(key.rpartition("/")[2])
            for key, (beat, came) in list(self._seen.items())
            if beat != "through" and now - came > seconds
        ]
        return [name_of(process) for process in sorted(late) if process != self._process]


def _leave(reason: str, said: bool = False) -> None:
    """Ends this process: with the status 1, and without waiting for those that are gone.

    said: whether the reason has been printed here.
    """
    with _ending:
        if not said:
            _say(reason)
        with contextlib.suppress(RuntimeError):  # of a coordinator that is gone, and so all end
            if not _read(_ENDED):
                _put(_ENDED, reason)
            if here() == 0:  # with it ends the store
                _wait_until_heard()
        settle()
        os._exit(1)


def _wait_until_heard() -> None:
    others = distributed.global_state.num_processes - 1
    until = time.monotonic() + 3 * BEAT_SECONDS
    while time.monotonic() < until and len(_store().key_value_dir_get(_HEARD)) < others:
        time.sleep(BEAT_SECONDS / 10)


def _coordinator_lost(*status: Any) -> None:
    del status  # what gRPC says of its socket
    with _ending:
        _say(_reason or f"process 0 ended without a word, and with it the coordinator; {_RESUME}")
        settle()
        os._exit(1)


def _catch_terminate() -> None:
    """Has C++ call `_coordinator_lost` where it can't.

    jaxlib 0.10 knows no Python type for the status that it calls back with, and throws instead.
    """
    global _terminate
    try:
        library = ctypes.CDLL("libstdc++.so.6")
        _terminate = ctypes.CFUNCTYPE(None)(_coordinator_lost)
        library._ZSt13set_terminatePFvvE(_terminate)
    except (OSError, AttributeError):
        return  # another C++ library: there the process ends with XLA's pages


def _say(message: str) -> None:
    show(f"error: {message}", name="stderr")


def _store() -> Any:
    return distributed.global_state.client


def _put(key: str, value: str) -> None:
    _store().key_value_set(key, value, allow_overwrite=True)


def _read(key: str) -> str:
    """A value of the store, "" where it has none."""
    try:
        return _store().key_value_try_get(key)
    except RuntimeError as error:
        if "NOT_FOUND" not in str(error):
            raise
        return ""


def _short(value: str | None) -> str:
    text = "not there" if value is None else value
    return text if len(text) <= 100 else f"{text[:60]}…{text[-30:]}"

"""What the processes of a run ask each other between steps, so that all of them do the same."""

import contextlib
import datetime
import itertools
import pickle
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

# Questions for JAX's sync point of this process so far, which must only grow; and whether it was
# reached, as it is once in a process's life.
_questions = itertools.count(1)
_reached = False
_NOTICE = "RECEIVED_PREEMPTION_NOTICE"  # xla/tsl/distributed_runtime/preemption


def has_sync_point() -> bool:
    """Whether JAX's distributed service tells all processes of a stop that one is told of.

    The same answer on all processes, as long as they do the same.
    """
    from jax._src.distributed import global_state  # as orbax does: there is no public name

    manager = global_state.preemption_sync_manager
    return jax.process_count() > 1 and manager is not None and not _reached


def tell_service() -> None:
    """Tells JAX's distributed service that this process is to stop; it may know already.

    Its own handler of SIGTERM writes the same, up to a second later, and knows no other signal.
    """
    from jax._src.distributed import global_state

    now = datetime.datetime.now(datetime.UTC).isoformat()
    with contextlib.suppress(RuntimeError):
        global_state.client.key_value_set(_NOTICE, now)


def sync_point_reached() -> bool:
    """Whether all processes stop here, each asking this for as many times as the others.

    No device takes part and nothing waits: where nobody was told to stop it takes a microsecond.
    Where one was, the service finds the next question that none has asked yet.
    """
    global _reached
    reached = multihost_utils.reached_preemption_sync_point(next(_questions))
    _reached = _reached or reached
    return reached


class Agreement:
    """Whether any process has a wish: the same answer on all of them.

    Every process must ask in the same places. With several of them most questions are answered
    with no, without an exchange: it waits for the device and would drain its queue of dispatched
    steps. The next exchange comes after so many questions as take about `seconds`, `every` at most.

    Args:
      every: the most questions from one exchange to the next.
      seconds: about how long a wish may have to wait, where `every` questions take longer.
      now: a clock in seconds, monotonic.
    """

    def __init__(
        self, *, every: int = 10, seconds: float = 2.0, now: Callable[[], float] = time.monotonic
    ):
        self._every, self._seconds, self._now = every, seconds, now
        self._left = 1  # questions until the next exchange
        self._slowest = seconds  # between two questions since the last exchange
        self._asked_at = now()

    def __call__(self, *wishes: bool, at_once: bool = False) -> tuple[bool, ...]:
        """For each of this process's wishes, whether any process has it.

        at_once: with an exchange, and another at the next question: how long questions lie apart
        has changed. The same on all processes, as the number of wishes is.
        """
        if jax.process_count() == 1:
            return wishes
        now = self._now()
        self._slowest = max(self._slowest, now - self._asked_at)
        self._asked_at = now
        self._left -= 1
        if self._left > 0 and not at_once:
            return (False,) * len(wishes)
        questions = 1 if at_once else int(self._seconds / max(self._slowest, 1e-9))
        own = np.array([*wishes, min(max(questions, 1), self._every)], np.int32)
        found = np.asarray(multihost_utils.process_allgather(own))
        self._left, self._slowest = int(found[:, -1].min()), 0.0
        return tuple(bool(wish) for wish in found[:, :-1].any(axis=0))


def of_every_process(thing: Any) -> list[Any]:
    """What each process has, in their order, on all of them; anything that pickle takes."""
    if jax.process_count() == 1:
        return [thing]
    own = np.frombuffer(pickle.dumps(thing), np.uint8)
    sizes = np.asarray(multihost_utils.process_allgather(np.array(len(own))))
    padded = np.pad(own, (0, int(sizes.max()) - len(own)))
    found = np.asarray(multihost_utils.process_allgather(padded))
    return [
        pickle.loads(row[:size].tobytes()) for row, size in zip(found, sizes.tolist(), strict=True)
    ]


def all_come(place: str, seconds: float) -> bool:
    """Whether every process comes to a place within a time; False for those that waited in vain.

    Over the network alone: no device takes part, so it answers where another process is in a step.
    """
    if jax.process_count() == 1:
        return True
    from jax._src.distributed import global_state  # the one barrier of JAX that stops waiting

    try:
        global_state.client.wait_at_barrier(place, int(1000 * seconds))
    except jax.errors.JaxRuntimeError:
        return False
    return True

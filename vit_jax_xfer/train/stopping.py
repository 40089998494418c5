"""How a run ends early: on a signal, cleanly, or because the loss is no number."""

import contextlib
import itertools
import math
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FrameType
from typing import Any, Self, TypeVar

import jax
import jax.numpy as jnp

from vit_jax_xfer.stop_signals import WARNINGS
from vit_jax_xfer.storage.tree_check import number_of_each
from vit_jax_xfer.train.agreement import Agreement, has_sync_point, sync_point_reached, tell_service
from vit_jax_xfer.train.rules import named_leaves

T = TypeVar("T")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_RARELY = 1000  # the most steps between two exchanges about checkpoints


class StoppedMidway(Exception):
    """A stop is wanted in the middle of what can be done again: an evaluation, a wait for data."""


class StopSignal:
    """Context in which a signal asks for a clean stop instead of killing.

    The signals are SIGTERM, SIGINT (Ctrl-C), and the `WARNINGS`: SIGHUP, which a terminal sends
    when it goes away, schedulers' SIGUSR1 and SIGUSR2, SIGXCPU; of those not what the run was told
    to ignore (nohup). The first only sets a flag, which the loop asks for with `requested`. A
    second SIGINT raises KeyboardInterrupt at once. Python lets only the main thread install
    handlers: in other threads the context leaves signals as they are and `requested` stays False.

    Enter it after `jax.distributed.initialize`, which may install a SIGTERM handler of its own.

    Args:
      every, seconds: with several processes, how far apart two agreements lie (see Agreement).
      save_due: whether this process wants a checkpoint; agreed on in the same exchange.
      sync_point: with several processes, agree on a stop by the sync point of JAX's distributed
        service where that runs, which takes no exchange. Those are for checkpoints then.
      save_within: about how many seconds late a checkpoint may come then.
    """

    def __init__(
        self,
        *,
        every: int = 10,
        seconds: float = 2.0,
        save_due: Callable[[], bool] = lambda: False,
        sync_point: bool = False,
        save_within: float = 2.0,
    ):
        self._agree = Agreement(every=every, seconds=seconds)
        self._wants_save = save_due
        self._sync_point, self._save_within = sync_point, save_within
        self._received = self._stopping = self._saving = self._waiting = False
        self._interrupts = 0
        self._old_handlers: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        self._sync_point = self._sync_point and has_sync_point()
        if self._sync_point:
            self._agree = Agreement(every=_RARELY, seconds=max(self._save_within, 2.0))
        if threading.current_thread() is threading.main_thread():
            told = [s for s in WARNINGS if signal.getsignal(s) is not signal.SIG_IGN]
            self._old_handlers = {s: signal.signal(s, self._handle) for s in (*_SIGNALS, *told)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._old_handlers.items():
            # None stands for a handler that C code installed; Python cannot put it back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._old_handlers = {}

    def requested(self, step: int) -> bool:
        """Whether to stop before `step`; the same answer on all processes.

        A signal reaches the processes at different moments, or only one of them. If one left the
        loop a step before the others, those would wait forever in their next collective. So they
        ask each other, and every process must call this in the same places of the loop.
        """
        if self._sync_point:
            self._ask_service()
        self._ask(at_once=False)
        return self._stopping

    def save_due(self) -> bool:
        """Whether, when `requested` was last asked, a process wanted a checkpoint; as that does."""
        return self._saving

    def leave_evaluation(self, item: int) -> None:
        """Raises StoppedMidway where a stop is wanted before an item, on all processes alike.

        item: a batch or whatever is evaluated one after the other, counted from 0.
        """
        if self._sync_point:
            self._ask_service()
        else:
            self._ask(at_once=item == 0)
        if self._stopping:
            raise StoppedMidway

    def watched(self, batches: Iterable[T]) -> Iterator[T]:
        """The batches of an evaluation, until a stop is wanted: before one, or in a wait for it."""
        remaining = iter(batches)
        for number in itertools.count():
            self.leave_evaluation(number)
            with self.ending_wait():
                try:
                    batch = next(remaining)
                except StopIteration:
                    return
            yield batch

    @contextlib.contextmanager
    def ending_wait(self) -> Iterator[None]:
        """Context of a wait for data, which may never come: a signal ends it with StoppedMidway.

        On several processes it doesn't, since the others may have their data already.
        """
        self._waiting = jax.process_count() == 1
        try:
            if self._waiting and self._received:
                raise StoppedMidway
            yield
        finally:
            self._waiting = False

    def _ask(self, at_once: bool) -> None:
        stopping, self._saving = self._agree(self._received, self._wants_save(), at_once=at_once)
        self._stopping = self._stopping or stopping

    def _ask_service(self) -> None:
        self._stopping = self._stopping or sync_point_reached()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            raise KeyboardInterrupt
        if not self._received:
            # Not print: the signal may have interrupted a print, which cannot be entered twice.
            again = "; Ctrl-C again stops at once" if number == signal.SIGINT else ""
            text = f"\n{signal.Signals(number).name}: finishing this step, then stopping{again}\n"
            with contextlib.suppress(OSError):  # the terminal may be what went away
                os.write(2, text.encode())
            if self._sync_point:
                tell_service()
        self._received = True
        if self._waiting:
            self._waiting = False
            raise StoppedMidway


class NonFiniteLoss(RuntimeError):
    """The state before `step` is no good: what comes of it, or what it holds, is NaN or infinite.

    what: "loss is nan". rest: what else there is to say, such as what a run can go on from.
    """

    def __init__(self, step: int, what: str, rest: str = ""):
        self.step, self.what, self.rest = step, what, rest
        super().__init__(
            f"{what} at step {step}: the learning rate may be too high, bfloat16 too coarse, or an "
            f"image broken{rest and '; '}{rest}"
        )

    def __reduce__(self) -> tuple[type, tuple[int, str, str]]:
        # Pickled from a process to another: by default it would be made of its message alone.
        return type(self), (self.step, self.what, self.rest)


def check_finite(step: int, values: Mapping[str, float]) -> None:
    """Raises NonFiniteLoss, naming the first, unless all values of a step are finite."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise NonFiniteLoss(step, f"{name} is {value}")


def check_state(step: int, state: Any) -> None:
    """Raises NonFiniteLoss, naming the array, where one of the state before `step` is not finite.

    state: a tree of jax.Arrays; integers are always good. Waits for the device.
    """
    floats = [x for x in named_leaves(state) if jnp.issubdtype(x[1].dtype, jnp.floating)]
    good = number_of_each(_is_finite, [leaf for _, leaf in floats])
    for (name, _), finite in zip(floats, good, strict=True):
        if not finite:
            raise NonFiniteLoss(step, f"{name} is not finite")


def _is_finite(array: jax.Array) -> jax.Array:
    return jnp.isfinite(array).all().astype(jnp.int32)

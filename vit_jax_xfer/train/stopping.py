"""How a run ends early: on a signal, cleanly, or because the loss is no number."""

import math
import os
import signal
import threading
from types import FrameType
from typing import Self

import jax
import numpy as np
from jax.experimental import multihost_utils

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class EvaluationLeft(Exception):
    """A stop is wanted in the middle of an evaluation, which can be done again."""


class StopSignal:
    """Context in which SIGTERM or SIGINT (Ctrl-C) asks for a clean stop instead of killing.

    The first signal only sets a flag, which the loop asks for with `requested`. A second SIGINT
    raises KeyboardInterrupt at once. Python lets only the main thread install handlers: in other
    threads the context leaves signals as they are and `requested` stays False.

    Enter it after `jax.distributed.initialize`, which may install a SIGTERM handler of its own.

    Args:
      every: with several processes, how many steps lie between two agreements.
    """

    def __init__(self, *, every: int = 10):
        self._every = every
        self._received = False
        self._interrupts = 0
        self._agreed = False
        self._old_handlers: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._old_handlers = {s: signal.signal(s, self._handle) for s in _SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._old_handlers.items():
            # None stands for a handler that C code installed; Python cannot put it back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._old_handlers = {}

    def requested(self, step: int) -> bool:
        """Whether to stop before `step`; the same answer on all processes.

        A signal reaches the processes at different moments, or only one of them. If one left the
        loop a step before the others, those would wait forever in their next collective. So with
        several processes all ask each other, at the steps that `every` divides; not at each step,
        because asking waits for the device and would drain its queue of dispatched steps. Every
        process must therefore call this at the same steps, in the same place of the loop.
        """
        return self._wanted(step)

    def leave_evaluation(self, batch: int) -> None:
        """Raises EvaluationLeft where a stop is wanted before a batch, on all processes alike.

        As `requested`, which counts steps: every process must ask at the same batches.
        """
        if self._wanted(batch):
            raise EvaluationLeft

    def _wanted(self, number: int) -> bool:
        if jax.process_count() == 1:
            return self._received
        if not self._agreed and number % self._every == 0:
            flags = multihost_utils.process_allgather(np.array(self._received))
            self._agreed = bool(np.any(flags))
        return self._agreed

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            raise KeyboardInterrupt
        if not self._received:
            # Not print: the signal may have interrupted a print, which cannot be entered twice.
            again = "; Ctrl-C again stops at once" if number == signal.SIGINT else ""
            text = f"\n{signal.Signals(number).name}: finishing this step, then stopping{again}\n"
            os.write(2, text.encode())
        self._received = True


class NonFiniteLoss(RuntimeError):
    """The loss is NaN or infinite."""


def check_finite(step: int, loss: float, last_checkpoint: int | None = None) -> None:
    """Raises if the loss of `step` is no finite number.

    Args:
      step: the step that computed `loss`.
      loss: its value, on the host.
      last_checkpoint: the step of the newest checkpoint (the state before that step), if any.

    Raises:
      NonFiniteLoss: one line with the step, the loss, likely causes and what to resume from.
    """
    if math.isfinite(loss):
        return
    if last_checkpoint is None:
        rest = "there is no checkpoint yet"
    elif last_checkpoint < step:
        # Its parameters gave a finite loss at `last_checkpoint`.
        rest = f"the checkpoint before step {last_checkpoint} is intact"
    else:
        # The update before it may have put the bad values into the parameters.
        rest = f"the checkpoint before step {last_checkpoint} may hold the bad values already"
    raise NonFiniteLoss(
        f"loss is {loss} at step {step}: the learning rate may be too high, bfloat16 too coarse, "
        f"or an image broken; {rest}"
    )

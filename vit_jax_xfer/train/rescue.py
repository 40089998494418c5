"""What is kept of a run that ends early: the state before the step that it could not make."""

import contextlib
from collections.abc import Callable, Iterator

from vit_jax_xfer.storage.checkpoints import CheckpointError, Checkpoints
from vit_jax_xfer.train import hosts
from vit_jax_xfer.train.agreement import all_come
from vit_jax_xfer.train.console import say
from vit_jax_xfer.train.stopping import NonFiniteLoss, StoppedMidway

# An error that is everybody's comes to all processes at nearly the same time.
SECONDS_FOR_OTHERS = 20.0


@contextlib.contextmanager
def saved_when_cut_short(checkpoints: Checkpoints, save: Callable[[], None]) -> Iterator[None]:
    """Context of a run's steps: `save`, a checkpoint of the newest state, follows what ends them.

    StoppedMidway, which all processes raise alike, ends here. Any other Exception goes on. A state
    that is no good is not saved; where its checkpoint is there already, an older one is kept in its
    place. With several processes all must have an error, or nobody saves: a state that another one
    is still computing with cannot be had. KeyboardInterrupt saves nothing.
    """
    try:
        yield
    except StoppedMidway:
        save()
    except NonFiniteLoss as error:
        step = checkpoints.discard(error.step)
        raise NonFiniteLoss(error.step, error.what, _what_is_left(step, error.step)) from error
    except CheckpointError:
        raise  # what could not be written can't be written now
    except Exception as error:
        if all_come("vit_jax_xfer/error", SECONDS_FOR_OTHERS):
            _save(checkpoints, save)
        else:
            say("not saved: the other processes did not come to save with this one")
            hosts.announce(str(error))  # or this one waits for them in what it has open
        raise


def _what_is_left(step: int | None, bad: int) -> str:
    if step is None:
        return "there is no checkpoint yet"
    if step == bad:
        return f"the checkpoint before step {step}, the only one, may hold the bad values already"
    return f"the checkpoint before step {step} is intact"


def _save(checkpoints: Checkpoints, save: Callable[[], None]) -> None:
    try:
        save()
        step = checkpoints.latest_step()
    except Exception as error:  # the first error is the one to tell
        say(f"not saved: {str(error).strip().splitlines()[0]}")
    else:
        say(f"saved before step {step}, where the same command goes on")

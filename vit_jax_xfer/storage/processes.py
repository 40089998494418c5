"""Where the processes of a run that write and read together wait for each other."""

import jax
import numpy as np
from jax.experimental import multihost_utils


def wait_for_all(name: str) -> None:
    """Returns when every process has come to the place of this name.

    None writes into, or reads from, a directory that the first has not made or renamed yet.
    """
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def true_on_all(here: bool) -> bool:
    """Whether it is so on every process, which all must ask at the same point."""
    if jax.process_count() == 1:
        return here
    return bool(np.all(multihost_utils.process_allgather(np.array(here))))

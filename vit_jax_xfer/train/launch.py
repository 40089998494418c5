"""One program on several processes: how they find each other."""

import importlib.util
import os
import re

import jax

from vit_jax_xfer.train import hosts


def connect(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Joins the other processes; must come before anything asks JAX for a device.

    coordinator: HOST:PORT of process 0, with `processes` and `process`; None lets JAX tell on TPU
    pods, SLURM and Open MPI, and means a single process elsewhere. SystemExit when only some of the
    three are given; ValueError for those that can't be; ConnectionError where the processes don't
    meet, RuntimeError or ValueError where the hosts of a pod don't.
    """
    given = [coordinator, processes, process]
    if any(value is not None for value in given):
        if None in given:
            raise SystemExit("error: --coordinator, --processes and --process go together")
        _check_given(coordinator, processes, process)
        _meet(f"{processes} processes at {coordinator}", coordinator, processes, process)
    elif (tasks := _scheduled_tasks()) > 1:
        _meet(f"{tasks} tasks of the scheduler")
    elif _has_tpu():
        # A pod's hosts know each other through the machine's metadata; a lone TPU may have none.
        try:
            hosts.initialize()
        except (ValueError, RuntimeError) as error:
            if jax.process_count() > 1:  # the hardware knows of hosts that did not join
                raise
            print(f"no other TPU hosts found ({error}); going on alone")


def _meet(who: str, *given: str | int) -> None:
    try:
        hosts.initialize(*given)
    except RuntimeError as error:
        reason = re.match(r"[A-Z_]+: .+", str(error))  # else a word of jaxlib's insides
        raise ConnectionError(
            f"the {who} did not meet{f' ({reason[0]})' if reason else ''}: all must be started "
            "within 300 s of one another, and the first one's port be free and in reach of all"
        ) from error


def _check_given(coordinator: str, processes: int, process: int) -> None:
    """ValueError, naming the flag, for an address without a port and a number of no process."""
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"--coordinator: got {coordinator!r}, expected HOST:PORT of process 0")
    if not 0 <= process < processes:
        raise ValueError(
            f"--process: got {process} of --processes={processes}; they are numbered from 0"
        )


def _scheduled_tasks() -> int:
    """How many tasks srun or mpirun has started beside this process, itself included.

    SLURM_NTASKS is no such number: sbatch and salloc set it for a shell that starts one process.
    """
    for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"):
        if name in os.environ:
            return int(os.environ[name])
    return 1


def _has_tpu() -> bool:
    platforms = os.environ.get("JAX_PLATFORMS") or "tpu"  # empty: any that is there
    return "tpu" in platforms and importlib.util.find_spec("libtpu") is not None

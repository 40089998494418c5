"""One program on several processes: how they find each other."""

import os

import jax


def connect(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Joins the other processes; must come before anything asks JAX for a device.

    coordinator: HOST:PORT of process 0, with `processes` and `process`; None lets JAX tell on TPU
    pods, SLURM and Open MPI, and means a single process elsewhere.
    """
    given = [coordinator, processes, process]
    if any(value is not None for value in given):
        if None in given:
            raise SystemExit("error: --coordinator, --processes and --process go together")
        jax.distributed.initialize(coordinator, processes, process)
    elif _several_tasks():
        jax.distributed.initialize()


def _several_tasks() -> bool:
    if int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_JOB_ID" in os.environ:
        return True
    if "OMPI_MCA_orte_hnp_uri" in os.environ:
        return True
    return len(os.environ.get("TPU_WORKER_HOSTNAMES", "").split(",")) > 1

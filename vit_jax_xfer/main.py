"""The job: python -m vit_jax_xfer.main --config=configs/scratch.py:digits --workdir=runs/scratch

Trains what the config says in the work folder, or goes on where a run there was stopped. Any field
of the config can be set on the command line: --config.optim.lr=3e-4. An unknown field is an error.
"""

import logging
import signal
from collections.abc import Sequence
from typing import NoReturn

from absl import flags

from vit_jax_xfer.command_line.config_flag import config_flag, fail, run_by_flags
from vit_jax_xfer.terminal import INTERRUPTED, STOPPED, occupy, settle

_CONFIG = config_flag()
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The folder of the run: checkpoints, metrics, the finished model."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of the first of several processes; not needed on TPU pods."
)
_PROCESSES = flags.DEFINE_integer("processes", None, "How many processes there are.")
_PROCESS = flags.DEFINE_integer("process", None, "Which of them this one is, from 0.")
_PROFILE = flags.DEFINE_string(
    "profile",
    None,
    "Trace so many steps for TensorBoard and Perfetto, or those of FIRST:END, as in 100:105.",
)
_DEBUG = flags.DEFINE_bool("debug", False, "Show where an error came from, not its line alone.")


def main(argv: list[str]) -> int:
    """Runs the config; 0 when it finished, 1 with one line on stderr when it can't run or go on."""
    occupy()
    try:
        return _main(argv)
    except KeyboardInterrupt:
        fail("interrupted; what was saved last is where the same command goes on")
        return INTERRUPTED
    finally:
        settle()


def _main(argv: list[str]) -> int:
    if len(argv) > 1:
        return fail(f"unexpected arguments: {' '.join(argv[1:])}")
    if not _CONFIG.value or not _WORKDIR.value:
        missing = "--workdir=FOLDER" if _CONFIG.value else "--config=configs/FILE.py"
        return fail(f"{missing} is missing; --help shows an example")
    # absl shows INFO, where JAX logs missing backends and each connection.
    logging.getLogger("jax._src").setLevel(logging.WARNING)
    import jax

    from vit_jax_xfer.pretrained.loading_notes import notes_on_stderr
    from vit_jax_xfer.train import hosts
    from vit_jax_xfer.train.console import say
    from vit_jax_xfer.train.launch import connect
    from vit_jax_xfer.train.loop import run
    from vit_jax_xfer.train.step_profile import profiled_steps

    more = {}
    try:
        if _PROFILE.present:
            more["profile"] = profiled_steps(_PROFILE.value)
        connect(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
        with notes_on_stderr():
            result = run(_CONFIG.value, _WORKDIR.value, **more)
    except Exception as error:
        if _DEBUG.value:
            raise
        # Another process than the first may be the only one that knows what is wrong.
        message = _told(error)
        if hosts.several() and isinstance(error, jax.errors.JaxRuntimeError):
            message = hosts.what_broke(message)
        alone = hosts.here() and not isinstance(error, hosts.HostsDisagree)
        fail((f"process {hosts.here()}: " if alone else "") + message)
        return hosts.end(message)
    if not result["finished"]:
        say(f"stopped before step {result['step']}; the same command goes on from there")
        return STOPPED
    return 0


def _told(error: Exception) -> str:
    """An error in a line: as it says where it was raised for the user, else what kind it is too."""
    from vit_jax_xfer.storage.checkpoints import CheckpointError
    from vit_jax_xfer.train.memory_end import OutOfMemory
    from vit_jax_xfer.train.stopping import NonFiniteLoss

    if isinstance(error, ValueError | OSError | CheckpointError | NonFiniteLoss | OutOfMemory):
        return str(error)
    first = next(iter(str(error).strip().splitlines()), "")
    if len(first) > 300:
        first = f"{first[:297]}..."
    return f"{type(error).__name__}: {first} (--debug shows where)"


def job(argv: list[str]) -> int:
    """`main` as a process of its own: Ctrl-C while Python clears up changes and prints nothing."""
    code = main(argv)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return code


def command(arguments: Sequence[str] | None = None) -> NoReturn:
    """`job` with these arguments, or the process's own; ends the process with its exit status."""
    run_by_flags(job, "vit_jax_xfer.main", __name__, __doc__, arguments)


if __name__ == "__main__":
    command()

"""The job: python -m vit_jax_xfer.main --config=configs/scratch.py:digits --workdir=runs/scratch

Trains what the config says in the work folder, or goes on where a run there was stopped. Any field
of the config can be set on the command line: --config.optim.lr=3e-4. An unknown field is an error.
"""

import logging

from absl import app, flags

from vit_jax_xfer.command_line import config_flag, fail, parse_flags

_CONFIG = config_flag()
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The folder of the run: checkpoints, metrics, the finished model."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of the first of several processes; not needed on TPU pods."
)
_PROCESSES = flags.DEFINE_integer("processes", None, "How many processes there are.")
_PROCESS = flags.DEFINE_integer("process", None, "Which of them this one is, from 0.")
_DEBUG = flags.DEFINE_bool("debug", False, "Show where an error came from, not its line alone.")

STOPPED = 143  # what a shell reports for a process that SIGTERM ended: 128 + 15


def main(argv: list[str]) -> int:
    """Runs the config; 0 when it finished, 1 with one line on stderr when it can't run."""
    if len(argv) > 1:
        return fail(f"unexpected arguments: {' '.join(argv[1:])}")
    if not _CONFIG.value or not _WORKDIR.value:
        missing = "--workdir=FOLDER" if _CONFIG.value else "--config=configs/FILE.py"
        return fail(f"{missing} is missing; --help shows an example")
    # absl shows INFO, where JAX logs missing backends and each connection.
    logging.getLogger("jax._src").setLevel(logging.WARNING)
    import jax

    from vit_jax_xfer.storage.checkpoints import CheckpointError
    from vit_jax_xfer.train.console import say
    from vit_jax_xfer.train.launch import connect
    from vit_jax_xfer.train.loop import run
    from vit_jax_xfer.train.stopping import NonFiniteLoss

    connect(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    try:
        result = run(_CONFIG.value, _WORKDIR.value)
    except (ValueError, OSError, CheckpointError, NonFiniteLoss) as error:
        if _DEBUG.value:
            raise
        # Another process than the first may be the only one that knows what is wrong.
        which = f"process {jax.process_index()}: " if jax.process_index() else ""
        return fail(which + str(error))
    if not result["finished"]:
        say(f"stopped before step {result['step']}; the same command goes on from there")
        return STOPPED
    return 0


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)

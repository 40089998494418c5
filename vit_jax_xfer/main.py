"""The job: python -m vit_jax_xfer.main --config=configs/scratch.py:digits --workdir=runs/scratch

Trains what the config says in the work folder, or goes on where a run there was stopped. Any field
of the config can be set on the command line: --config.optim.lr=3e-4. An unknown field is an error.
"""

import logging
import pathlib
import re
import sys

from absl import app, flags
from ml_collections import ConfigDict, config_flags

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "A file of configs/, with the form after a colon: configs/attention_distill.py:digits. "
    "Fields are set with --config.FIELD=VALUE.",
    lock_config=True,
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The folder of the run: checkpoints, metrics, the finished model."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of the first of several processes; found by itself on TPU pods."
)
_PROCESSES = flags.DEFINE_integer("processes", None, "How many processes there are.")
_PROCESS = flags.DEFINE_integer("process", None, "Which of them this one is, from 0.")
_DEBUG = flags.DEFINE_bool("debug", False, "Show where an error came from, not its line alone.")

STOPPED = 143  # what a shell reports for a process that SIGTERM ended: 128 + 15


def main(argv: list[str]) -> int:
    """Runs the config; 0 when it finished, 1 with one line on stderr when it can't run."""
    if len(argv) > 1:
        return _fail(f"unexpected arguments: {' '.join(argv[1:])}")
    if not _CONFIG.value or not _WORKDIR.value:
        missing = "--workdir=FOLDER" if _CONFIG.value else "--config=configs/FILE.py"
        return _fail(f"{missing} is missing; --help shows an example")
    # absl shows INFO, and JAX tells there of missing backends and of each connection.
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
        return _fail(which + str(error))
    if not result["finished"]:
        say(f"stopped before step {result['step']}; the same command goes on from there")
        return STOPPED
    return 0


def parse_flags(argv: list[str]) -> list[str]:
    """The arguments that are no flags; a wrong flag ends the program with one line."""
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        sys.exit(_fail(str(error)))


class _ConfigFile(flags.ArgumentParser):
    """Loads a config file. What is wrong with it, or with a field's name, becomes one line."""

    def __init__(self, loader: flags.ArgumentParser):
        self._loader = loader

    def parse(self, path: str) -> ConfigDict:
        from vit_jax_xfer.config import check_field

        if not pathlib.Path(path.partition(":")[0]).is_file():
            raise ValueError("no such file")
        try:
            config = self._loader.parse(path)
        except ValueError as error:  # its text is a traceback, which ends with the cause
            cause = str(error).strip().splitlines()[-1]
            raise ValueError(cause.removeprefix("ValueError: ")) from error
        # Here, because ml-collections ends in a traceback over a field that does not exist.
        for override in re.findall(r"^--?(?:no)?config\.([^=\n[]+)", "\n".join(sys.argv), re.M):
            check_field(config, override)
        return config


flags.FLAGS["config"].parser = _ConfigFile(flags.FLAGS["config"].parser)


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)

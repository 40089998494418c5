"""A run elsewhere than in one process: python -m vit_jax_xfer.run_elsewhere SCRIPT ARGUMENTS…

Runs one of the scripts of launch/, which come with the package: local starts several processes on
this machine, slurm queues a run on GPU nodes, tpu_pod makes a pod and runs on all its workers.
SCRIPT --help says what each takes; README.md beside them, whose path --where prints, walks through.
"""

import argparse
import os
import pathlib
import shutil
import sys
from collections.abc import Sequence

from vit_jax_xfer.command_line.command_parser import command_parser
from vit_jax_xfer.command_line.flag_errors import run_command
from vit_jax_xfer.terminal import show

SCRIPTS = ("local", "slurm", "tpu_pod")
_PACKAGE = pathlib.Path(__file__).parent


def script_folder() -> pathlib.Path:
    """Where the scripts lie: inside an installed package, or beside the package of a checkout."""
    installed = _PACKAGE / "launch_scripts"
    return installed if installed.is_dir() else _PACKAGE.parent / "launch"


def main(arguments: Sequence[str] | None = None) -> int:
    """Becomes the script, whose exit status is the command's; 1 where it can't be run."""
    options = _parser().parse_args(arguments)
    if options.where:
        show(str(script_folder()))
        return 0
    return run_command(lambda: _become(options))


def _become(options: argparse.Namespace) -> None:
    if options.script is None:
        raise ValueError(f"SCRIPT: give one of {', '.join(SCRIPTS)}")
    shell = shutil.which("bash")
    if shell is None:
        raise ValueError("the scripts need bash, and there is none")
    os.environ.setdefault("PYTHON", sys.executable)  # the one that has this package
    script = script_folder() / f"{options.script}.sh"
    os.execv(shell, [shell, str(script), *options.arguments])


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "vit_jax_xfer.run_elsewhere",
        __doc__,
        "local 2 --config=masked_pretraining:digits --workdir=runs/mae",
    )
    add = parser.add_argument
    add("--where", action="store_true", help="print the folder of the scripts, and end")
    add("script", nargs="?", choices=SCRIPTS, metavar="SCRIPT", help="local, slurm or tpu_pod")
    add("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENTS", help="the script's own")
    return parser


if __name__ == "__main__":
    sys.exit(main())

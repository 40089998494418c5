"""Fakes of gcloud, sbatch, srun, …: executables that write down how they were called."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]

_RECORD = f"""#!{sys.executable} -SE
import json, os, pathlib, shutil, subprocess, sys
call = [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]
with open(os.environ["CALLS"], "a") as file:
    file.write(json.dumps(call) + "\\n")
"""


@dataclasses.dataclass
class Services:
    """A folder of fake executables, put first in PATH, and the calls they got."""

    folder: pathlib.Path
    environment: dict[str, str]

    def add(self, name: str, body: str = "") -> None:
        """An executable that records its call and then does what the Python `body` says."""
        self.script(name, _RECORD + body)

    def script(self, name: str, text: str) -> None:
        """An executable with just this text."""
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)

    def calls(self, name: str | None = None) -> list[list[str]]:
        """The calls so far, as [name, *arguments]."""
        path = pathlib.Path(self.environment["CALLS"])
        calls = [json.loads(line) for line in path.read_text().splitlines()]
        return [call for call in calls if name in (None, call[0])]

    def start(self, script: str, *arguments: str) -> subprocess.Popen:
        """Starts launch/SCRIPT in the checkout, both outputs piped as text."""
        return subprocess.Popen(
            [ROOT / "launch" / script, *arguments],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Ignored where the tests run in the background, and no shell can trap it then.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The ended launch/SCRIPT."""
        process = self.start(script, *arguments)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def make_services(folder: pathlib.Path, **variables: str) -> Services:
    """An empty folder of executables; variables are set, and those of real services are not."""
    executables = folder / "bin"
    executables.mkdir()
    (folder / "calls").touch()
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("TPU_", "SLURM_"))
    }
    path = f"{executables}{os.pathsep}{os.environ['PATH']}"
    return Services(
        executables, {**kept, "PATH": path, "CALLS": str(folder / "calls"), **variables}
    )

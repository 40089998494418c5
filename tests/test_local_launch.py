"""launch/local.sh: several processes on this machine, for real."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent


def launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": sys.executable, "JAX_NUM_CPU_DEVICES": "1"}
    return subprocess.run(
        [ROOT / "launch" / "local.sh", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
    )


def test_usage_is_one_line():
    for arguments in ((), ("two", "--config=x"), ("2",)):
        ended = launch(*arguments)
        assert ended.returncode == 2 and ended.stderr.startswith("usage: launch/local.sh")


def test_an_error_ends_all_processes(tmp_path):
    ended = launch("2", "--config=configs/scratch.py:digits", f"--workdir={tmp_path / 'run'}",
                   "--config.batch_size=7")  # fmt: skip
    assert ended.returncode == 1
    assert "batch_size: 7 is not a multiple of the mesh's data × fsdp = 2" in ended.stderr
    assert not (tmp_path / "run").exists()

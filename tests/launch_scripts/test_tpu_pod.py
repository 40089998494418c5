"""launch/tpu_pod.sh against a gcloud that runs on this machine what it is given for the workers."""

import json
import shutil
import subprocess
import sys
import time

import pytest

from tests.launch_scripts.fake_services import Services, make_services

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="a worker is Linux: the script reads its /proc"
)

WHERE = ("--name=pod", "--zone=us-east5-a")
# What a shell could spoil: spaces, parentheses, both quotes, a dollar, a star, a newline, nothing.
ARGUMENTS = [
    "--config=configs/attention_distill.py:digits,labels=5",
    "--workdir=/mnt/runs/two words",
    "--config.task.layers=(0, 1, 3)",
    """--config.data.pipeline=random_crop(8, padding=1)|normalize("0.5", '0.5')""",
    "--config.task.teacher=$HOME/*/`x`;\n&& false",
    "--config.init_from=",
]
RUN_WITH = [*ARGUMENTS, "--config.checkpoint.fallback=True"]

# Every node has two workers, whose homes lie in HOMES. Both do what ssh and scp bring.
GCLOUD = """
tool, verb, node = call[3], call[4], call[5]
if verb == "describe":
    print(os.environ["STATE"])
if tool == "tpu-vm":
    node = call[6] if verb == "scp" else node
    for home in [pathlib.Path(os.environ["HOMES"], f"{node.rstrip(':')}.{i}") for i in (0, 1)]:
        home.mkdir(parents=True, exist_ok=True)
        if verb == "scp":
            shutil.copy(call[5], home)
        else:
            command = next(a for a in call if a.startswith("--command=")).partition("=")[2]
            ended = subprocess.run(["bash", "-c", command], env={**os.environ, "HOME": str(home)})
            if ended.returncode:
                sys.exit(ended.returncode)
"""
# The python3 of a worker's image brings uv, which makes a python that notes its arguments, waits
# for SIGTERM and ends as a stopped run does.
PYTHON3 = """
uv = pathlib.Path(os.environ["HOME"], ".local/bin/uv")
uv.parent.mkdir(parents=True, exist_ok=True)
shutil.copy(os.environ["UV"], uv)
"""
UV = """
if call[1] == "venv":
    python = pathlib.Path(call[-1], "bin/python")
    python.parent.mkdir(parents=True)
    shutil.copy(os.environ["RUN"], python)
"""
RUN = """#!/usr/bin/env bash
trap 'echo saved; exit 143' TERM
printf '%s\\0' "$PWD" "$@" >~/started.partial
mv ~/started.partial ~/started
echo training
for _ in $(seq 600); do sleep 0.05; done
"""


@pytest.fixture
def services(tmp_path) -> Services:
    services = make_services(
        tmp_path,
        HOMES=str(tmp_path / "homes"),
        STATE="ACTIVE",
        UV=str(tmp_path / "bin" / "fake_uv"),
        RUN=str(tmp_path / "bin" / "fake_run"),
    )
    services.add("gcloud", GCLOUD)
    services.add("python3", PYTHON3)
    services.add("fake_uv", UV)
    services.script("fake_run", RUN)
    return services


def started(services: Services, worker: str, seconds: float = 20) -> list[str]:
    """[working directory, *arguments] of a worker's program, as soon as it is on."""
    path = services.folder.parent / "homes" / worker / "started"
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{worker}: nothing was started"
        time.sleep(0.02)
    return path.read_bytes().decode().split("\0")[:-1]


def flags(call: list[str]) -> set[str]:
    return {argument for argument in call if argument.startswith("--")}


def test_create_asks_for_a_queued_resource(services):
    ended = services.run("tpu_pod.sh", "create", *WHERE, "--project=mine", "--type=v6e-16",
                         "--version=v2-alpha-tpuv6e", "--spot")  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    (call,) = services.calls()
    assert call[:6] == ["gcloud", "compute", "tpus", "queued-resources", "create", "pod"]
    assert flags(call) == {
        "--zone=us-east5-a",
        "--project=mine",
        "--accelerator-type=v6e-16",
        "--runtime-version=v2-alpha-tpuv6e",
        "--node-id=pod",
        "--spot",
    }


def test_names_come_from_the_environment_and_slices_have_a_prefix(services):
    services.environment.update(
        TPU_NAME="big", TPU_ZONE="z", TPU_TYPE="v5p-8", TPU_VERSION="v2-alpha-tpuv5", TPU_SLICES="2"
    )
    assert services.run("tpu_pod.sh", "create").returncode == 0
    (call,) = services.calls()
    assert call[5] == "big"
    assert flags(call) == {
        "--zone=z",
        "--accelerator-type=v5p-8",
        "--runtime-version=v2-alpha-tpuv5",
        "--node-count=2",
        "--node-prefix=big",
    }


def test_state_and_delete(services):
    ended = services.run("tpu_pod.sh", "state", *WHERE)
    assert (ended.returncode, ended.stdout) == (0, "ACTIVE\n")
    assert services.run("tpu_pod.sh", "delete", *WHERE).returncode == 0
    call = services.calls()[-1]
    assert call[3:6] == ["queued-resources", "delete", "pod"] and "--force" in call


def test_a_run_from_this_checkout_starts_everywhere_and_stops_saved(services):
    ended = services.run("tpu_pod.sh", "run", *WHERE, "--extras=torch,hf", "--", *ARGUMENTS)
    assert ended.returncode == 0, ended.stderr
    for worker in ("pod.0", "pod.1"):
        home = services.folder.parent / "homes" / worker
        folder = str(home / "vit_jax_xfer")
        assert started(services, worker) == [folder, "-u", "-m", "vit_jax_xfer.main", *RUN_WITH]
        assert (home / "vit_jax_xfer" / "vit_jax_xfer" / "main.py").is_file()
        assert not (home / "vit_jax_xfer" / ".git").exists()
    installs = [call for call in services.calls("uv") if call[1:3] == ["pip", "install"]]
    assert len(installs) == 2
    assert installs[0][-3:] == ["-e", ".[torch,hf]", "jax[tpu]"]
    assert [call[-1] for call in services.calls("gcloud") if call[4] == "scp"] == ["--worker=all"]

    again = services.run("tpu_pod.sh", "run", *WHERE, "--", *ARGUMENTS)
    assert again.returncode == 1 and "error: a run is on here; stop it first" in again.stderr

    stopped = services.run("tpu_pod.sh", "stop", *WHERE)
    assert stopped.returncode == 0 and stopped.stdout == "training\nsaved\n" * 2
    assert services.run("tpu_pod.sh", "stop", *WHERE).stdout == "no run is on here\n" * 2


def test_a_run_from_git_on_slices_does_as_it_is_told_first(services, tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    (project / "setup.cfg").write_text("first")
    git = ["git", "-C", project, "-c", "user.name=a", "-c", "user.email=b"]
    subprocess.run([*git, "init", "--quiet", "--initial-branch=main"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "first"], check=True)
    command = ("run", *WHERE, "--slices=2", f"--git=file://{project}", "--ref=main",
               "--setup=echo \"it's mounted\" >~/mounted", "--", *ARGUMENTS)  # fmt: skip
    ended = services.run("tpu_pod.sh", *command)
    assert ended.returncode == 0, ended.stderr
    workers = ("pod-0.0", "pod-0.1", "pod-1.0", "pod-1.1")
    for worker in workers:
        assert started(services, worker)[1:] == ["-u", "-m", "vit_jax_xfer.main", *RUN_WITH]
        home = tmp_path / "homes" / worker
        assert (home / "mounted").read_text() == "it's mounted\n"
        assert (home / "vit_jax_xfer" / "setup.cfg").read_text() == "first"
    verbs = [call[4:6] for call in services.calls("gcloud")]
    # All install before the first starts, which would wait for the others.
    assert verbs == [["describe", "pod"], *[["ssh", "pod-0"], ["ssh", "pod-1"]] * 2]
    assert services.run("tpu_pod.sh", "stop", *WHERE, "--slices=2").returncode == 0

    # The next run takes what is new there.
    (project / "setup.cfg").write_text("second")
    subprocess.run([*git, "commit", "--quiet", "-am", "second"], check=True)
    assert services.run("tpu_pod.sh", *command).returncode == 0
    assert (tmp_path / "homes" / "pod-1.1" / "vit_jax_xfer/setup.cfg").read_text() == "second"
    assert services.run("tpu_pod.sh", "stop", *WHERE, "--slices=2").returncode == 0


def test_watch_follows_the_first_worker(services):
    services.add("gcloud")
    assert services.run("tpu_pod.sh", "watch", *WHERE, "--slices=2").returncode == 0
    (call,) = services.calls()
    assert call[3:6] == ["tpu-vm", "ssh", "pod-0"] and "--worker=0" in call
    assert call[-1] == "--command=tail -n 40 -F ~/vit_jax_xfer.log"


def test_a_failed_install_starts_nothing(services):
    services.add("python3", "sys.exit('no network')")
    ended = services.run("tpu_pod.sh", "run", *WHERE, "--", *ARGUMENTS)
    assert ended.returncode == 1 and "no network" in ended.stderr
    assert [call[4] for call in services.calls("gcloud")] == ["describe", "scp", "ssh"]


def test_a_dry_run_prints_what_would_be_run(services):
    services.environment["HOME"] = "/nobody"
    ended = services.run("tpu_pod.sh", "run", *WHERE, "--dry-run", "--", *ARGUMENTS)
    assert ended.returncode == 0 and services.calls() == []
    # Pasted into a shell, the lines are the calls.
    services.add("gcloud")
    subprocess.run(["bash", "-ec", ended.stdout], env=services.environment, check=True)
    printed = services.calls()
    assert [call[4] for call in printed] == ["describe", "scp", "ssh", "ssh"]
    assert printed[-1][5] == "pod" and "-m vit_jax_xfer.main" in json.dumps(printed[-1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create", "--zone=z"], "--name (or TPU_NAME) is missing"),
        (["create", "--name=a"], "--zone (or TPU_ZONE) is missing"),
        (["create", *WHERE], "--type (or TPU_TYPE) is missing"),
        (["create", *WHERE, "--type=v6e-16"], "--version (or TPU_VERSION) is missing"),
        (["create", *WHERE, "--slices=two"], "--slices: 'two' is not a number from 1"),
        (["create", *WHERE, "--spto"], "create: unknown flag '--spto'"),
        (["watch", *WHERE, "--spot"], "watch: unknown flag '--spot'"),
        (["stop", *WHERE, "--", "x"], "stop takes no arguments after --"),
        (["run", *WHERE, "--ref=main"], "--ref belongs to --git=URL"),
        (["run", *WHERE, "--config=x"], "the run's own arguments come after --: -- --config=x"),
        (["run", *WHERE, "--", "--workdir=x"], "run: --config=FILE is missing after --"),
        (["run", *WHERE, "--", "--config=x"], "run: --workdir=FOLDER is missing after --"),
        (["run", *WHERE, "--", "--config=x", "--workdir=gs://b"], "--workdir: a folder, not a"),
    ],
)
def test_what_is_missing_is_one_line(services, arguments, message):
    ended = services.run("tpu_pod.sh", *arguments)
    assert ended.returncode == 2 and services.calls() == []
    assert ended.stderr.startswith(f"error: {message}") and ended.stderr.count("\n") == 1


def test_a_pod_that_is_not_there_yet(services):
    services.environment["STATE"] = "WAITING_FOR_RESOURCES"
    ended = services.run("tpu_pod.sh", "run", *WHERE, "--", *ARGUMENTS)
    assert ended.returncode == 2
    assert ended.stderr == "error: pod is WAITING_FOR_RESOURCES; run it when it is ACTIVE\n"


def test_without_gcloud(services):
    (services.folder / "gcloud").unlink()
    (services.folder / "bash").symlink_to(shutil.which("bash"))
    services.environment["PATH"] = str(services.folder)  # this machine may have one of its own
    ended = services.run("tpu_pod.sh", "state", *WHERE)
    assert ended.returncode == 2 and ended.stderr.startswith("error: gcloud not found: install")

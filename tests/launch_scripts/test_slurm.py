"""launch/slurm.sh against an sbatch that runs the job here, and an srun that is one task of it."""

import signal
import subprocess
import time

import pytest

from tests.launch_scripts.fake_services import ROOT, Services, make_services

ARGUMENTS = [
    "--config=configs/attention_distill.py:digits,labels=5",
    "--workdir=/shared/two words",
    "--config.task.layers=(0, 1, 3)",
    """--config.data.pipeline=random_crop(8, padding=1)|normalize("0.5", '0.5')""",
    "--config.task.teacher=$HOME/*/`x`;\n&& false",
    "--config.init_from=",
]
COMMAND = ["-u", "-m", "vit_jax_xfer.main", *ARGUMENTS, "--config.checkpoint.fallback=True"]

# Copies the script away, as sbatch does, and runs it with the variables that SLURM sets.
SBATCH = """
options = dict(a.lstrip("-").split("=", 1) for a in call[1:] if a.startswith("--n") or "per-" in a)
at = next(i for i, a in enumerate(call) if i and not a.startswith("--"))
script = pathlib.Path(os.environ["CALLS"]).with_name("slurm_script")
shutil.copy(call[at], script)
nodes, tasks = int(options["nodes"]), int(options["ntasks-per-node"])
slurm = {"SLURM_JOB_ID": "77", "SLURM_JOB_NUM_NODES": str(nodes), "SLURM_CPUS_PER_TASK": "8"}
slurm |= {"SLURM_NTASKS": str(nodes * tasks), "SLURM_GPUS_ON_NODE": options["gpus-per-node"]}
os.environ.update(slurm)
os.execv("/usr/bin/env", ["env", "bash", str(script), *call[at + 1 :]])
"""
# srun hands SIGTERM to its tasks and ends with the highest of their codes. ENDS says how they end.
SRUN = """
import signal, time
def stop(*_):
    os.write(1, b"told to stop\\n")  # not print, which may be what it interrupts
    time.sleep(0.3)
    os._exit(int(os.environ["ENDS"]))
signal.signal(signal.SIGTERM, stop)
print("training", flush=True)
time.sleep(float(os.environ["LASTS"]))
sys.exit(int(os.environ["ENDS"]))
"""


@pytest.fixture
def services(tmp_path) -> Services:
    services = make_services(tmp_path, PYTHON="/envs/vit/bin/python", ENDS="143", LASTS="60")
    services.environment["STATE"] = "RUNNING"
    services.add("sbatch", SBATCH)
    services.add("srun", SRUN)
    services.add("squeue", "print(os.environ['STATE'])")
    services.add("scontrol")
    return services


def submit(services: Services, *options: str) -> subprocess.Popen:
    return services.start("slurm.sh", "submit", "--nodes=2", "--gpus=4", *options, "--", *ARGUMENTS)


def wait_for(process: subprocess.Popen, line: str) -> None:
    assert process.stdout.readline() == line + "\n", process.stderr.read()


def test_submit_asks_for_one_process_a_gpu(services):
    services.add("sbatch")
    process = submit(services, "--time=24:00:00", "--partition=gpu")
    assert process.wait(60) == 0
    (call,) = services.calls()
    assert call[1:7] == ["--nodes=2", "--gpus-per-node=4", "--ntasks-per-node=4",
                         f"--chdir={ROOT}", "--time=24:00:00", "--partition=gpu"]  # fmt: skip
    assert call[7:] == ["launch/slurm.sh", "job", *ARGUMENTS]


def test_what_sbatch_reads_in_the_script():
    lines = (ROOT / "launch" / "slurm.sh").read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    # sbatch reads them up to the first command.
    ahead = lines[: next(i for i, line in enumerate(lines) if line and line[0] != "#")]
    found = {line.removeprefix("#SBATCH ") for line in ahead if line.startswith("#SBATCH ")}
    assert {"--requeue", "--signal=B:TERM@120", "--open-mode=append"} <= found


def test_the_job_is_one_srun_with_the_arguments_intact(services):
    services.environment.update(LASTS="0", ENDS="0")
    process = submit(services)
    assert process.wait(60) == 0, process.stderr.read()
    (call,) = services.calls("srun")
    python = call.index("/envs/vit/bin/python")
    assert call[1:python] == ["--wait=300", "--kill-on-bad-exit=0", "--cpus-per-task=8"]
    assert call[python + 1 :] == COMMAND
    assert services.calls("scontrol") == []


@pytest.mark.parametrize("ask", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_sigterm_queues_the_saved_run_again_and_sigint_does_not(services, ask):
    process = submit(services)
    wait_for(process, "training")
    process.send_signal(ask)
    wait_for(process, "told to stop")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    again = ask != signal.SIGINT
    assert services.calls("scontrol") == ([["scontrol", "requeue", "77"]] if again else [])
    assert out == ("saved and queued again\n" if again else "")


def test_a_second_sigterm_while_saving_changes_nothing(services):
    process = submit(services)
    wait_for(process, "training")
    process.send_signal(signal.SIGTERM)
    wait_for(process, "told to stop")
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert "saved and queued again\n" in process.communicate(timeout=60)[0]
    assert process.returncode == 143


def test_sigterm_to_the_tasks_alone_is_enough(services):
    services.environment["LASTS"] = "0"
    process = submit(services)
    assert process.communicate(timeout=60)[0] == "training\nsaved and queued again\n"
    assert services.calls("scontrol") == [["scontrol", "requeue", "77"]]


def test_a_cancelled_job_stays_cancelled(services):
    services.environment["STATE"] = "COMPLETING"
    process = submit(services)
    wait_for(process, "training")
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert services.calls("scontrol") == [] and "not queued again, because the job is" in out


@pytest.mark.parametrize("code", ["0", "1"])
def test_a_run_that_ended_by_itself_is_not_queued_again(services, code):
    services.environment["ENDS"] = code
    process = submit(services)
    wait_for(process, "training")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == int(code) and services.calls("scontrol") == []


def test_where_requeueing_is_refused(services):
    services.environment["LASTS"] = "0"
    services.add("scontrol", "sys.exit('Requested operation is presently disabled')")
    out, err = submit(services).communicate(timeout=60)
    assert out.endswith("saved; submit the same command to go on\n") and "disabled" in err


def test_a_dry_run_prints_the_command(services):
    process = submit(services, "--dry-run", "--comment=it's (mine)")
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and services.calls() == []
    services.add("sbatch")
    subprocess.run(["bash", "-ec", printed], env=services.environment, check=True)
    (call,) = services.calls()
    assert call[5:] == ["--comment=it's (mine)", "launch/slurm.sh", "job", *ARGUMENTS]


SUBMIT = ["submit", "--nodes=2", "--gpus=4"]
RUN = ["--config=x", "--workdir=y"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["submit", "--gpus=4", "--", *RUN], "--nodes=N is missing"),
        (["submit", "--nodes=2", "--", *RUN], "--gpus=G is missing"),
        (["submit", "--nodes=2", "--gpus=a100:4", "--", *RUN], "--gpus=G is missing: how many"),
        ([*SUBMIT, "-p", "gpu", "--", *RUN], "submit: unexpected '-p'; options are written"),
        ([*SUBMIT, "--gres=gpu:4", "--", *RUN], "--gres=gpu:4: --nodes and --gpus set it"),
        ([*SUBMIT, "--gpu-bind=single:1", "--", *RUN], "--gpu-bind=single:1: every process must"),
        ([*SUBMIT, *RUN], "the run's own arguments come after --: -- --config=x"),
        ([*SUBMIT, "--", "--workdir=y"], "--config=FILE is missing"),
        ([*SUBMIT, "--", "--config=x"], "--workdir=FOLDER is missing"),
        (["job", *RUN], "job: not inside a SLURM job"),
    ],
)
def test_what_is_missing_is_one_line(services, arguments, message):
    ended = services.run("slurm.sh", *arguments)
    assert ended.returncode == 2 and services.calls() == []
    assert ended.stderr.startswith(f"error: {message}") and ended.stderr.count("\n") == 1


def test_another_number_of_processes_than_gpus(services):
    services.environment.update(SLURM_JOB_ID="77", SLURM_GPUS_ON_NODE="4", SLURM_NTASKS="1")
    ended = services.run("slurm.sh", "job", *RUN)
    assert ended.returncode == 2 and services.calls() == []
    assert "1 tasks on 1 × 4 GPUs: needs one a GPU, --ntasks-per-node=4" in ended.stderr


def test_jax_takes_the_gpu_with_the_tasks_number(monkeypatch):
    """What the script relies on, and why it starts one process a GPU."""
    from jax._src import clusters

    monkeypatch.delenv("JAX_COORDINATOR_ADDRESS", raising=False)
    slurm = {"JOB_ID": "77", "STEP_NODELIST": "node[3-4]", "NTASKS": "8", "PROCID": "6"}
    for name, value in {**slurm, "LOCALID": "2", "STEP_NUM_NODES": "2"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    detect = clusters.ClusterEnv.auto_detect_unset_distributed_params
    address, processes, process, devices = detect(None, None, None, None, "slurm", 1)
    assert address.startswith("node3:")
    assert (processes, process, list(devices)) == (8, 6, [2])


def test_the_copy_that_sbatch_makes_needs_no_other_file(services, tmp_path):
    """sbatch runs a copy from a folder of its own."""
    services.environment.update(
        SLURM_JOB_ID="77", SLURM_GPUS_ON_NODE="1", SLURM_NTASKS="1", LASTS="0", ENDS="0"
    )
    copy = tmp_path / "slurm_script"
    copy.write_bytes((ROOT / "launch" / "slurm.sh").read_bytes())
    ended = subprocess.run(
        ["bash", copy, "job", *RUN], env=services.environment, cwd=tmp_path, capture_output=True
    )
    assert ended.returncode == 0 and len(services.calls("srun")) == 1

"""The benchmark of steps: contenders do the same, rows say what they should, failures are rows."""

import argparse
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from benchmarks import steps
from benchmarks.step_case import Case, Contender, contender, peak_tflops
from benchmarks.step_ours import OurStep

TINY = {"model": "vit_micro_patch8", "size": 32, "batch": 2}


@pytest.fixture(autouse=True)
def settings():
    """A step sets its process's options; PyTorch's threads wait actively, beside other tests."""
    torch = sys.modules.get("torch")
    threads = torch and torch.get_num_threads()
    if torch:
        torch.set_num_threads(1)
    names = ("jax_default_matmul_precision", "jax_enable_compilation_cache")
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    if torch:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("what", ["inference", "scratch", "copy", "distill"])
def test_contenders_take_the_same_steps(what):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from benchmarks.step_torch import TorchStep

    case = Case(what, **TINY)
    ours = OurStep(case, contender("ours float32"))
    values = np.array([ours() for _ in range(3)])
    if what != "inference":
        assert abs(values[2] - values[0]) > 1e-3  # it learns, so later values tell of gradients
    others = {"eager": TorchStep(case, contender("torch eager float32"))}
    others["bfloat16"] = TorchStep(case, contender("torch eager bfloat16"))
    for saver in ("remat", "scan") if what == "distill" else ():
        others[saver] = OurStep(case, Contender("ours", saver=saver))
    if what in ("copy", "distill"):
        others["maps"] = OurStep(case, contender("ours float32 maps"))
    for name, step in others.items():
        tolerance = 2e-2 if name == "bfloat16" else 1e-4
        np.testing.assert_allclose([step() for _ in range(3)], values, rtol=tolerance, err_msg=name)


def test_compiling_takes_no_step(monkeypatch):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from benchmarks.step_torch import TorchStep

    monkeypatch.setattr(torch, "compile", lambda function: function)  # it takes a minute
    case = Case("scratch", **TINY)
    eager, compiled = (
        TorchStep(case, contender(f"torch {how} float32")) for how in ("eager", "compiled")
    )
    assert compiled.about["compile_s"] >= 0
    assert compiled() == pytest.approx(eager(), rel=1e-5)


def test_fused_attention_gives_the_scores_loss():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from benchmarks import vit_torch
    from benchmarks.step_ours import batch_of, fresh, network

    case = Case("distill", **TINY)
    model, batch = network(case), batch_of(case)
    images = torch.from_numpy(batch["image"]).permute(0, 3, 1, 2)
    labels = torch.from_numpy(batch["label"]).long()
    for what in ("copy", "distill"):
        found = [
            vit_torch.loss(
                what,
                3.0,
                *(vit_torch.from_jax(model, fresh(model, seed), fused) for seed in (0, 1)),
                images,
                labels,
            ).item()
            for fused in (False, True)
        ]
        assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_operations_are_three_forward_passes_and_a_teacher():
    forward = Case("inference", "vit_small_patch16", 224, 2).gflops()
    assert forward == pytest.approx(18.4, abs=0.1)  # facts: 9.2 G an image
    assert Case("scratch", "vit_small_patch16", 224, 2).gflops() == pytest.approx(3 * forward)
    assert Case("distill", "vit_small_patch16", 224, 2).gflops() == pytest.approx(4 * forward)


def test_names_of_contenders():
    for name in (
        *steps.CPU,
        *steps.ACCELERATOR,
        "ours bfloat16 maps remat",
        "ours float32 scan",
        "ours float32 defaults",
    ):
        assert contender(name).name == name
    for wrong in ("ours", "torch float32", "jax float32", "ours float32 faster", ""):
        with pytest.raises(ValueError, match=r"--contenders: .* is none; examples"):
            contender(wrong)


def test_peaks_are_for_bfloat16_on_known_devices():
    assert peak_tflops("NVIDIA H200", "bfloat16") == 989
    assert peak_tflops("TPU v5 lite", "bfloat16") == 197
    assert peak_tflops("TPU v5", "bfloat16") == 459
    assert peak_tflops("NVIDIA L40S", "bfloat16") is None
    assert peak_tflops("NVIDIA H200", "float32") is None
    assert peak_tflops("cpu", "bfloat16") is None


def test_values_that_part_are_an_error():
    row = {"step": "scratch", "model": "m", "step_ms": 2.0, "first values": [1.0]}
    rows = [
        {**row, "contender": "ours float32"},
        {**row, "contender": "torch eager float32", "step_ms": 5.0},
        {**row, "contender": "ours bfloat16", "first values": [1.02], "step_ms": 1.0},
    ]
    steps.compare(rows)
    assert [one.get("× eager") for one in rows] == [2.5, None, 5.0]
    rows[1]["first values"] = [1.01]
    with pytest.raises(ValueError, match="torch eager float32 \\[1.01\\] and ours float32 .* part"):
        steps.compare(rows)


def test_a_contender_that_fails_is_a_row_with_its_reason():
    arguments = argparse.Namespace(threads=1, rounds=1, limit=60.0)
    case = Case("scratch", "vit_micro_patch8", 31, 2)  # no whole number of patches
    rows = {}
    worker = steps.Worker(Case("inference", **TINY), Contender("ours", dtype="float99"), 1)
    with worker:
        assert not steps.build(Contender("ours"), worker, rows, 0.0, 60.0)
    assert "float99" in rows["skipped"]
    with pytest.raises(ValueError, match="31"):
        steps.measure(case, [Contender("ours")], {}, arguments, by_turns=True)


def test_one_after_the_other_as_on_an_accelerator():
    arguments = argparse.Namespace(threads=1, rounds=1, limit=60.0)
    rates = {}
    contenders = [Contender("ours"), Contender("ours", maps=True)]
    rows = steps.measure(Case("inference", **TINY), contenders, rates, arguments, by_turns=False)
    assert [row["contender"] for row in rows] == ["ours float32"]  # maps change nothing here
    assert rates == {"ours float32": pytest.approx(rows[0]["GFLOP/s"], abs=0.1)}


def test_long_steps_are_only_compiled():
    row = {}
    with steps.Worker(Case("inference", **TINY), Contender("ours"), 1) as worker:
        assert not steps.build(Contender("ours"), worker, row, 1000.0, 60.0)
    assert row["temporary MiB"] >= 0
    assert row["skipped"] == "compiled only: about 1000 s a step; --limit=60"


def test_the_command(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    command = [sys.executable, "-m", "benchmarks.steps", "--models", TINY["model"], "--batch", "2"]
    command += ["--sizes", "32", "--steps", "distill", "--rounds", "2", "--threads", "1"]
    command += ["--json", str(tmp_path / "out" / "rows.jsonl")]
    command += ["--contenders", "ours float32", "ours float32 maps", "torch eager float32"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    about, *rows = map(json.loads, (tmp_path / "out" / "rows.jsonl").read_text().splitlines())
    assert about["device"] == "cpu" and about["date"]
    assert [row["contender"] for row in rows] == command[-3:]
    for row in rows:
        assert row["n"] == 2 and row["step_ms"] > 0 and row["peak MiB"] > 0, row
        assert row["images/s"] == pytest.approx(2e3 / row["step_ms"], rel=0.02)
        assert ("× eager" in row) == row["contender"].startswith("ours")
    table = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len(table) == 5 and "temporary MiB" in table[0]


def test_errors_are_a_line(monkeypatch):
    monkeypatch.setattr(steps, "in_a_process", lambda function: {"device": "cpu"})
    for arguments, message in (
        (["--contenders", "theirs"], "error: --contenders: 'theirs' is none; examples"),
        (["--models", "vit_smal_patch16"], "error: .*vit_small_patch16"),
        (["--sizes", "100"], "error: .*100"),
    ):
        monkeypatch.setattr(sys, "argv", ["steps", *arguments])
        with pytest.raises(SystemExit, match=message):
            steps.main()

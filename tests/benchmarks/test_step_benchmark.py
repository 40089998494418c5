"""The benchmark of steps: contenders do the same, rows say what they should, failures are rows."""

import argparse
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from benchmarks import step_choice, steps
from benchmarks.step_case import Case, Contender, contender, peak_tflops, products_beside
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
    others["bfloat16-products"] = OurStep(case, contender("ours bfloat16-products"))
    for saver in ("remat", "scan") if what == "distill" else ():
        others[saver] = OurStep(case, Contender("ours", saver=saver))
    if what in ("copy", "distill"):
        others["maps"] = OurStep(case, contender("ours float32 maps"))
    for name, step in others.items():
        tolerance = 2e-2 if "bfloat16" in name else 1e-4
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
        *step_choice.CPU,
        *step_choice.CPU_BFLOAT16,
        *step_choice.ACCELERATOR,
        "products jax float32",
        "products torch bfloat16",
        "ours bfloat16 maps remat",
        "ours float32 scan",
        "ours float32 defaults",
        "ours float32 oneDNN",
        "ours float32 maps remat YNNPACK",
    ):
        assert contender(name).name == name
    wrongs = ("ours", "torch float32", "jax float32", "ours float32 onednn", "")
    for wrong in (
        *wrongs,
        "openvino",
        "products float32",
        "products ours float32",
        "torch eager Eigen",
        "ours bfloat16-products oneDNN",
        "ours float32 defaults oneDNN",
    ):
        with pytest.raises(ValueError, match=r"--contenders: .* is none; examples"):
            contender(wrong)


def test_peaks_are_for_bfloat16_on_known_devices():
    assert peak_tflops("NVIDIA H200", "bfloat16") == 989
    assert peak_tflops("TPU v5 lite", "bfloat16") == 197
    assert peak_tflops("TPU v5", "bfloat16") == 459
    assert peak_tflops("NVIDIA L40S", "bfloat16") is None
    assert peak_tflops("NVIDIA H200", "float32") is None
    assert peak_tflops("cpu", "bfloat16") is None


def test_products_stand_beside_in_the_types_of_contenders():
    names = ("ours float32", "ours bfloat16-products", "torch eager bfloat16")
    found = [one.name for one in products_beside([contender(name) for name in names])]
    wanted = ["products jax float32", "products torch float32"]
    assert found == [*wanted, *(name.replace("float32", "bfloat16") for name in wanted)]


def test_runtimes_infer_alone():
    for what in ("inference", "scratch"):
        case = Case(what, **TINY)
        assert contender("openvino float32").takes(case) == (what == "inference")
        assert contender("products jax float32").takes(case)


def test_ready_sets_and_defaults(monkeypatch):
    parse = step_choice.parser(steps.__doc__).parse_args
    quick = parse(["--quick"])
    cases = step_choice.cases(quick, cpu=True)
    assert cases == list(step_choice.QUICK["inference"] + step_choice.QUICK["training"])
    assert step_choice.minutes(quick) == step_choice.QUICK_MINUTES and quick.rounds == 10
    plain = parse(["--batch", "1", "0", "--steps", "scratch"])
    assert [case.batch for case in step_choice.cases(plain, cpu=True)] == [1, 8]
    assert step_choice.minutes(plain) == float("inf")
    monkeypatch.setattr(step_choice, "multiplies_bfloat16", lambda: False)
    names = [one.name for one in step_choice.contenders(plain, cpu=True)]
    assert names == [*step_choice.CPU, "products jax float32", "products torch float32"]
    monkeypatch.setattr(step_choice, "multiplies_bfloat16", lambda: True)
    names = [one.name for one in step_choice.contenders(quick, cpu=True)]
    assert "ours bfloat16-products" in names and "products jax bfloat16" in names
    assert not any("maps" in name for name in names)


def test_ratios_are_to_a_contender_of_the_same_type_and_shares_to_its_products():
    names = ("ours float32", "ours bfloat16-products", "torch eager float32")
    names += ("torch eager bfloat16", "openvino float32", "products jax float32")
    names += ("products torch float32", "products jax bfloat16")
    known = {name: contender(name) for name in names}
    rounds = (10.0, 5.0, 12.0, 8.0, 9.0, 7.0, 8.0, 4.0)
    # A machine that is slower in every other round, as one beside other work may be.
    times = {n: [ms, 2 * ms] * 5 for n, ms in zip(names, rounds, strict=True)}
    rows = {name: steps.judged(one, known, times, 0.15) for name, one in known.items()}
    ours = rows["ours float32"]
    assert ours["step_ms"] == 15 and ours["step_ms_p90"] == 20 and len(ours["ms"]) == 10
    assert ours["× eager"] == ours["× eager_p10"] == ours["× eager_p90"] == 1.2
    assert ours["× openvino"] == 0.9 and ours["share %"] == 70 and "mark" not in ours
    small = rows["ours bfloat16-products"]
    assert small["× eager"] == 1.6  # autocast's
    assert small["× openvino"] == 1.8 and small["share %"] == 80
    assert "× eager" not in rows["torch eager float32"]
    assert rows["torch eager bfloat16"]["share %"] == 50
    times["ours float32"][:4] = [1.0] * 4
    wide = steps.judged(known["ours float32"], known, times, 0.15)
    assert wide["mark"].startswith("too wide: × eager ")
    for name in times:
        times[name] = [1.0] * 3
    assert steps.judged(known["ours float32"], known, times, 0.15)["mark"] == "3 rounds"


def test_values_that_part_are_an_error():
    row = {"step": "scratch", "model": "m", "step_ms": 2.0, "first values": [1.0]}
    rows = [
        {**row, "contender": "ours float32"},
        {**row, "contender": "torch eager float32"},
        {**row, "contender": "ours bfloat16", "first values": [1.02]},
        {**row, "contender": "ours bfloat16-products", "first values": [1.02]},
        {**row, "contender": "products jax float32", "first values": [0.0]},
    ]
    steps.check(rows)
    rows[1]["first values"] = [1.01]
    with pytest.raises(ValueError, match="torch eager float32 \\[1.01\\] and ours float32 .* part"):
        steps.check(rows)


def test_a_contender_that_fails_is_a_row_with_its_reason():
    arguments = argparse.Namespace(threads=1, rounds=1, limit=60.0, beside=False, widest=0.15)
    case = Case("scratch", "vit_micro_patch8", 31, 2)  # no whole number of patches
    rows = {}
    worker = steps.Worker(Case("inference", **TINY), Contender("ours", dtype="float99"), 1)
    with worker:
        assert not steps.build(Contender("ours"), worker, rows, 0.0, 60.0)
    assert "float99" in rows["skipped"]
    with pytest.raises(ValueError, match="31"):
        steps.measure(case, [Contender("ours")], {}, arguments, by_turns=True)


def test_one_after_the_other_as_on_an_accelerator():
    arguments = argparse.Namespace(threads=1, rounds=1, limit=60.0, beside=False, widest=0.15)
    rates = {}
    contenders = [Contender("ours"), Contender("ours", maps=True)]
    rows = steps.measure(Case("inference", **TINY), contenders, rates, arguments, by_turns=False)
    assert [row["contender"] for row in rows] == ["ours float32"]  # maps change nothing here
    assert rows[0]["state"] == "alone" and rows[0]["mark"] == "1 rounds"
    assert rates == {"ours float32": pytest.approx(rows[0]["GFLOP/s"], abs=0.1)}


def test_long_steps_are_only_compiled():
    row = {}
    with steps.Worker(Case("inference", **TINY), Contender("ours"), 1) as worker:
        assert not steps.build(Contender("ours"), worker, row, 1000.0, 60.0)
    assert row["temporary MiB"] >= 0
    assert row["skipped"] == "compiled only: about 1000 s a step; --limit=60"


def test_a_runtime_gives_our_logits_or_says_what_it_lacks(tmp_path, monkeypatch):
    from benchmarks import step_runtimes

    case = Case("inference", **TINY)
    one = contender("openvino float32")
    monkeypatch.setattr(step_runtimes.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(steps.Skipped, match="openvino is not installed: pip install"):
        step_runtimes.RuntimeStep(case, one, 1, tmp_path)
    monkeypatch.setattr(step_runtimes.importlib.util, "find_spec", lambda name: name)

    def lacking(*given, **named):
        raise ImportError("ONNX needs the package jax2onnx")

    monkeypatch.setattr(step_runtimes, "export_onnx", lacking)
    with pytest.raises(steps.Skipped, match="jax2onnx"):
        step_runtimes.RuntimeStep(case, one, 1, tmp_path)
    monkeypatch.undo()
    for package in ("jax2onnx", "onnxruntime"):
        pytest.importorskip(package)
    found = step_runtimes.RuntimeStep(case, contender("onnxruntime float32"), 1, tmp_path)
    assert found() == pytest.approx(OurStep(case, contender("ours float32"))(), rel=1e-4)


def test_the_command(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    command = [sys.executable, "-m", "benchmarks.steps", "--models", TINY["model"], "--batch", "2"]
    command += ["--sizes", "32", "--steps", "distill", "--rounds", "2", "--threads", "1"]
    command += ["--json", str(tmp_path / "out" / "rows.jsonl")]
    command += ["--contenders", "ours float32", "ours float32 maps", "torch eager float32"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    about, *rows = map(json.loads, (tmp_path / "out" / "rows.jsonl").read_text().splitlines())
    assert about["device"] == "cpu" and about["date"] and about["threads"] == 1
    products = ["products jax float32", "products torch float32"]
    assert [row["contender"] for row in rows] == [*command[-3:], *products]
    for row in rows:
        assert row["n"] == 2 and row["step_ms"] > 0 and "2 rounds" in row["mark"], row
        assert row["images/s"] == pytest.approx(2e3 / row["step_ms"], rel=0.02)
        assert ("× eager" in row) == row["contender"].startswith("ours")
        assert row["share %"] > 0 and 0 <= row["others %"] <= 100
        assert ("peak MiB" in row) == (row["contender"] not in products)
    table = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len(table) == 7 and "temporary MiB" in table[0]


def test_errors_are_a_line(monkeypatch):
    monkeypatch.setattr(steps, "in_a_process", lambda function, arguments: {"device": "cpu"})
    for arguments, message in (
        (["--contenders", "theirs"], "error: --contenders: 'theirs' is none; examples"),
        (["--models", "vit_smal_patch16"], "error: .*vit_small_patch16"),
        (["--sizes", "100"], "error: .*100"),
    ):
        monkeypatch.setattr(sys, "argv", ["steps", *arguments])
        with pytest.raises(SystemExit, match=message):
            steps.main()

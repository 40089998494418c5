"""The card's rows: what they are held against, that a failure costs one, and that time is kept."""

import json
import operator
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks.card import __main__ as card
from benchmarks.card import step_wave
from benchmarks.card.guarded_process import GuardedProcess
from benchmarks.card.kernel_row import KernelCase, kernel_row
from benchmarks.card.rows_in_order import Kernels, all_items
from benchmarks.card.step_wave import Wave
from benchmarks.step_case import Case, Skipped, contender
from tests.runs import ROOT
from vit_jax_xfer.models.attention import kernels

TINY = {"tokens": 5, "dim": 8, "heads": 2, "batch": 3}
CASE = Case("distill", "vit_micro_patch8", 32, 2)


@pytest.mark.parametrize(("part", "form"), [("attention", "auto"), ("loss", "rows")])
def test_a_kernel_is_held_against_float64(part, form):
    row = kernel_row(KernelCase(part, form, "float32", **TINY), calls=1)
    assert row["agrees"] and max(row["errors"]) < 1e-5 and row["ms"] > 0
    assert len(row["errors"]) == {"attention": 4, "loss": 3}[part]


def test_a_wrong_kernel_does_not_agree(monkeypatch):
    right = kernels.attention_with_logsumexp

    def wrong(*arrays, scale, blockwise):
        return right(*arrays, scale=1.01 * scale, blockwise=blockwise)

    monkeypatch.setattr(kernels, "attention_with_logsumexp", wrong)
    row = kernel_row(KernelCase("attention", "plain", "float32", **TINY), calls=1)
    assert not row["agrees"]


def test_everything_is_asked_once():
    items = all_items()
    steps = [(x.case.what, x.case.model, x.case.size) for x in items if isinstance(x, Wave)]
    assert len(steps) == len(set(steps)) == 27  # three steps, three networks, three sizes
    assert isinstance(items[0], Kernels) and {"rows", "fused", "maps"} <= {
        case.form for case in items[0].cases
    }
    forms = {case.form for item in items if isinstance(item, Kernels) for case in item.cases}
    assert forms >= {*kernels.IMPLEMENTATIONS, "rows", "fused", "fused tiles", "maps"}
    for item in items:
        if isinstance(item, Wave):
            names = [one.name for one in item.contenders]
            assert [contender(name) for name in names] == list(item.contenders)
            assert {"torch eager float32", "torch compiled bfloat16 cudnn"} <= set(names)
            assert ("ours bfloat16 fused" in names) == (item.case.what == "distill")
            assert ("ours bfloat16 maps" in names) == (item.case.what != "scratch")


class FakeProcess:
    """In place of a process: fails for one form."""

    def call(self, function, case, *given, timeout):
        if case.form == "plain":
            raise Skipped("out of memory")
        return {"ms": 1.0, "errors": [0.0], "agrees": True}

    def close(self):
        pass


def test_a_failure_costs_a_row_and_what_has_no_time_is_dropped(tmp_path, capsys):
    chosen = card.parse(["--json", str(tmp_path / "out" / "card.json"), "--dry-run"])
    run = card.Run(chosen, lambda: 30.0)
    cases = [KernelCase("attention", form, "float32", **TINY) for form in ("auto", "plain")]
    long = Kernels((cases[0],) * 100)
    run.all_of([Kernels(tuple(cases)), long, Kernels((cases[0],))], FakeProcess())
    assert [row.get("skipped") for row in run.rows] == [None, "out of memory", None]
    found = json.loads((tmp_path / "out" / "card.json").read_text())
    assert found["rows"] == run.rows and found["dropped"] == [long.name]
    table = (tmp_path / "out" / "card.md").read_text()
    assert "out of memory" in table and f"* {long.name}" in table
    said = capsys.readouterr().err
    assert f"dropped, too little time is left: {long.name}" in said and "s to go, 0 rows" in said


class FakeWorker:
    """In place of a contender's process; `plans` says what each does."""

    plans = {}

    def __init__(self, case, one, threads):
        self.plan = {"value": 2.0, "seconds": 0.01, **self.plans.get(one.name, {})}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def about(self, timeout):
        if "broken" in self.plan:
            raise Skipped(self.plan["broken"])
        return {"device": "NVIDIA H100 80GB HBM3", "temporary_MiB": 7}

    def step(self, timeout):
        if "fails" in self.plan:
            raise Skipped(self.plan["fails"])
        return self.plan["seconds"], self.plan["value"]

    def peak_bytes(self):
        return 2**30


def wave(*names):
    return Wave(CASE, tuple(map(contender, names)))


def test_a_wave_of_steps(monkeypatch):
    monkeypatch.setattr(step_wave, "Worker", FakeWorker)
    names = (
        "ours bfloat16",
        "ours bfloat16 fused",
        "torch compiled bfloat16",
        "torch eager float32",
    )
    plans = {names[0]: {"seconds": 0.005}, names[1]: {"fails": "RESOURCE_EXHAUSTED: 9 GiB"}}
    plans[names[2]] = {"value": 2.5}
    monkeypatch.setattr(FakeWorker, "plans", plans)
    rows, again = step_wave.measure(wave(*names), 3, 1, lambda: 60.0)
    ours, fused, compiled, eager = rows
    assert [row["contender"] for row in rows] == list(names)
    assert (ours["ms"], ours["rounds"], ours["peak MiB"]) == (5.0, 3, 1024)
    assert ours["mark"] == "3 rounds"
    assert ours["× eager float32"] == ours["× compiled bfloat16"] == 2.0
    assert ours["MFU %"] == pytest.approx(100 * CASE.gflops() / 5 / 989, abs=0.1)
    assert "MFU %" not in eager and ours["agrees"] and eager["agrees"]
    assert not compiled["agrees"]  # 2.5 is not 2
    assert fused["skipped"].startswith("RESOURCE") and "ms" not in fused
    assert [(one.contenders[0].name, one.alone) for one in again] == [(names[1], True)]
    assert step_wave.measure(again[0], 3, 1, lambda: 60.0)[1] == []


def test_what_cannot_be_built_leaves_the_others(monkeypatch):
    monkeypatch.setattr(step_wave, "Worker", FakeWorker)
    monkeypatch.setattr(FakeWorker, "plans", {"torch eager float32": {"broken": "no PyTorch"}})
    rows, again = step_wave.measure(wave("ours bfloat16", "torch eager float32"), 2, 1, lambda: 9.0)
    assert rows[0]["ms"] == 10.0 and rows[0]["agrees"] and rows[1]["skipped"] == "no PyTorch"
    assert again == []
    monkeypatch.setattr(FakeWorker, "plans", {"ours bfloat16": {"value": np.nan}})
    rows, _ = step_wave.measure(wave("ours bfloat16", "torch eager float32"), 2, 1, lambda: 9.0)
    assert not rows[0]["agrees"] and rows[1]["agrees"]


def test_what_the_card_needs_to_import():
    absent = ["ml_collections", "grain", "tensorflow_datasets", "tokamax", "torch", "PIL"]
    code = f"import sys; sys.modules |= dict.fromkeys({absent}); "
    code += "import benchmarks.card.__main__, benchmarks.step_ours"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_process_whose_end_costs_one_answer():
    with GuardedProcess() as process:
        assert process.call(operator.truediv, 6, 3, timeout=100) == 2
        with pytest.raises(Skipped, match="division by zero"):
            process.call(operator.truediv, 6, 0, timeout=100)
        with pytest.raises(Skipped, match="ended with code 7"):
            process.call(os._exit, 7, timeout=100)
        with pytest.raises(Skipped, match="not ready in 1 s"):
            process.call(time.sleep, 100, timeout=1)
        assert process.call(operator.truediv, 6, 3, timeout=100) == 2


def test_the_command(tmp_path):
    card.main(["--dry-run", "--minutes=60", "--rounds=1", "--json", str(tmp_path / "card.json")])
    found = json.loads((tmp_path / "card.json").read_text())
    by_form = {row["form"]: row for row in found["rows"] if "form" in row}
    assert by_form["fused"]["agrees"] and by_form["rows"]["agrees"] and by_form["auto"]["agrees"]
    assert "NVIDIA" in by_form["cudnn"]["skipped"]
    steps = {row["contender"]: row for row in found["rows"] if "step" in row}
    for name in ("ours bfloat16", "ours bfloat16 maps"):
        assert steps[name]["agrees"] and steps[name]["ms"] > 0
    eager = steps["torch eager float32"]
    assert "ms" in eager or "PyTorch is not installed" in eager["skipped"]
    assert found["dropped"] == []
    assert "## kernels" in (tmp_path / "card.md").read_text()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"device": "cpu"}, "no accelerator is here; --dry-run"),
        (Skipped("its process ended with code 1"), "the device can't be asked .* ended with code"),
    ],
)
def test_no_accelerator_is_a_line(monkeypatch, tmp_path, answer, message):
    class AnsweringProcess(GuardedProcess):
        def call(self, function, *given, timeout):
            if isinstance(answer, Skipped):
                raise answer
            return answer

    monkeypatch.setattr(card, "GuardedProcess", AnsweringProcess)
    with pytest.raises(SystemExit, match=f"^error: {message}"):
        card.main(["--json", str(tmp_path / "card.json")])
    assert not (tmp_path / "card.json").exists()

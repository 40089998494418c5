"""Memory of a step: what is told and taken, and that every case is a config's."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import run_memory
from benchmarks.run_memory import CASES, Case, measure
from vit_jax_xfer.command_line.config_flag import set_fields
from vit_jax_xfer.experiments.config_files import load_config
from vit_jax_xfer.train.run_plan import _task


@pytest.mark.parametrize("name", CASES)
def test_every_case_is_a_config_with_its_fields(name):
    case = CASES[name]
    config = load_config(case.config)
    set_fields(config, [f"{field}={value}" for field, value in case.fields.items()])
    for field, value in case.fields.items():
        found = config
        for part in field.split("."):
            found = found[part]
        assert found == value
    assert _task(config, (case.size, case.size, 3), 1000).model is not None


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux counts memory")
def test_what_is_taken_is_near_what_is_told():
    # Large enough that its arrays are told from what else a process does.
    fields = {"model.name": "vit_small_patch16", "model.depth": 1, "batch_size": 8, "mix.group": 0}
    found = measure(Case("scratch", 32, fields))
    # 2.6 million parameters and their two moments, float32, and a batch.
    assert 27 < found["told arguments"] < 40 and found["told temporaries"] > 1
    assert found["told"] == pytest.approx(
        found["told arguments"] + found["told temporaries"], abs=0.2
    )
    assert found["taken by arguments"] == pytest.approx(found["told arguments"], abs=8)
    assert found["taken/told"] == pytest.approx(found["taken"] / found["told"], abs=2e-3)


def test_a_case_that_fails_is_a_row_and_a_status(monkeypatch, capsys):
    answers = {"scratch": (0, 'a warning\n{"told": 1}\n'), "remat": (-9, "")}

    def run(command, **how):
        code, out = answers[command[-2]]
        return subprocess.CompletedProcess(command, code, out)

    monkeypatch.setattr(run_memory.subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["run_memory", "scratch", "remat"])
    with pytest.raises(SystemExit, match="^1$"):
        run_memory.main()
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows == [{"case": "scratch", "told": 1}, {"case": "remat", "failed": -9}]
    monkeypatch.setattr(sys, "argv", ["run_memory", "scrach"])
    with pytest.raises(SystemExit, match="^2$"):
        run_memory.main()
    assert "CASE: 'scrach' is none of scratch, accumulate" in capsys.readouterr().err

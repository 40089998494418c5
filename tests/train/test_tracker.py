"""Weights & Biases and MLflow: what they get, a resume in the same run, and failures told once."""

import importlib.machinery
import json
import sys
import types

import pytest

from vit_jax_xfer.train.metrics import MetricWriter
from vit_jax_xfer.train.tracker import check_tracker, open_tracker

CONFIG = {"optim.lr": 0.1, "data.source": "digits"}


class Service:
    """In place of both packages: notes its calls."""

    def __init__(self, monkeypatch):
        self.calls, self.broken = [], False
        for variable in ("WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME"):
            monkeypatch.delenv(variable, raising=False)
        wandb, mlflow = types.ModuleType("wandb"), types.ModuleType("mlflow")
        wandb.init = self.noted("init", self)
        for name in ("set_experiment", "log_params", "log_metrics", "end_run"):
            setattr(mlflow, name, self.noted(name))
        run = types.SimpleNamespace(info=types.SimpleNamespace(run_id="r7"))
        mlflow.start_run = self.noted("start_run", run)
        for module in (wandb, mlflow):
            module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, None)
            monkeypatch.setitem(sys.modules, module.__name__, module)

    def noted(self, name, result=None):
        def call(*given, **more):
            if self.broken:
                raise ConnectionError("no route\nto the service")
            self.calls.append((name, *given, more))
            return result

        return call

    def log(self, *given, **more):
        self.noted("log")(*given, **more)

    def finish(self):
        self.noted("finish")()


@pytest.fixture
def service(monkeypatch):
    return Service(monkeypatch)


def start(name, folder):
    """A run of one step and an evaluation, from its start or a resume."""
    folder.mkdir(exist_ok=True)
    tracker = open_tracker(name, folder, CONFIG)
    with MetricWriter(folder, tensorboard=False, tracker=tracker) as writer:
        writer.write(3, {"loss": 1.5, "lr": 0.1})
        writer.write(4, {"top1": 0.5}, kind="eval")


def test_wandb_gets_every_number_and_goes_on_in_its_run(service, tmp_path):
    folder = tmp_path / "mine"
    start("wandb", folder)
    (init, settings), *logged, finish = service.calls
    assert init == "init" and settings["name"] == "mine" and settings["config"] == CONFIG
    assert settings["project"] == "vit_jax_xfer" and settings["dir"] == str(folder)
    assert logged == [
        ("log", {"train/loss": 1.5, "train/lr": 0.1}, {"step": 3}),
        ("log", {"eval/top1": 0.5}, {"step": 4}),
    ]
    assert finish == ("finish", {})
    service.calls.clear()
    start("wandb", folder)
    assert service.calls[0][1]["id"] == settings["id"]
    assert settings["resume"] == "allow"


def test_mlflow_gets_every_number_and_goes_on_in_its_run(service, tmp_path):
    start("mlflow", tmp_path / "mine")
    assert service.calls == [
        ("set_experiment", "vit_jax_xfer", {}),
        ("start_run", {"run_id": None, "run_name": "mine"}),
        ("log_params", {"optim.lr": "0.1", "data.source": "digits"}, {}),
        ("log_metrics", {"train/loss": 1.5, "train/lr": 0.1}, {"step": 3}),
        ("log_metrics", {"eval/top1": 0.5}, {"step": 4}),
        ("end_run", {}),
    ]
    service.calls.clear()
    start("mlflow", tmp_path / "mine")
    assert service.calls[0] == ("start_run", {"run_id": "r7", "run_name": None})
    assert service.calls[1][0] == "log_metrics"
    assert json.loads((tmp_path / "mine/tracker.json").read_text()) == {"mlflow": "r7"}


@pytest.mark.parametrize("begins", [True, False])
def test_a_failure_is_told_once_and_the_numbers_stay(begins, service, tmp_path, capsys):
    service.broken = begins
    tracker = open_tracker("wandb", tmp_path, CONFIG)
    service.broken = True
    with MetricWriter(tmp_path, tensorboard=False, tracker=tracker) as writer:
        for step in range(3):
            writer.write(step, {"loss": 1.0})
    said = capsys.readouterr().out
    assert said.count("log.tracker: wandb failed (no route); the run goes on without it") == 1
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("text", ["{", "[]", '{"wandb": 7}'])
def test_a_file_of_ids_that_no_run_wrote_is_named(text, service, tmp_path):
    (tmp_path / "tracker.json").write_text(text)
    with pytest.raises(ValueError, match=r"tracker\.json: is not what a run wrote; remove it"):
        open_tracker("wandb", tmp_path, CONFIG)
    assert not service.calls


def test_what_is_wrong_is_known_before_the_run(monkeypatch):
    check_tracker("")
    with pytest.raises(ValueError, match="log.tracker: 'wnb' is none of '', 'wandb', 'mlflow'"):
        check_tracker("wnb")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"not installed: pip install 'vit_jax_xfer\[wandb\]'"):
        check_tracker("wandb")

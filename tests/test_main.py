"""The command itself: help, what a wrong flag gets, fields from the command line."""

import json
import types

import pytest

from tests.runs import ROOT, command, finish, start
from vit_jax_xfer import main
from vit_jax_xfer.train import loop

SCRATCH = f"--config={ROOT}/configs/scratch.py:digits"


def call(*arguments):
    """The command with these arguments, as another process."""
    return finish(start([*command("scratch", "unused")[:3], *arguments], devices=1))


def test_help_shows_the_command_and_its_flags():
    ended = call("--help")
    assert "Traceback" not in ended.out + ended.err
    assert "python -m vit_jax_xfer.main --config=configs/scratch.py:digits --workdir=" in ended.out
    for flag in ("--config:", "--workdir:", "--coordinator:", "--[no]debug:"):
        assert flag in ended.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--config=configs/FILE.py is missing; --help shows an example"),
        ([SCRATCH], "--workdir=FOLDER is missing; --help shows an example"),
        ([SCRATCH, "--workdr=x"], "Unknown command line flag 'workdr'. Did you mean: workdir"),
        ([SCRATCH, "--workdir=x", "y"], "unexpected arguments: y"),
        (["--config=configs/scrach.py"], "no such file"),
        (
            ["--config=configs/scratch.py:digit"],
            "config argument 'digit' is none of base, large, digits, fashion, cifar10, labels=N",
        ),
        (
            [SCRATCH, "--config.optim.lrr=1"],
            "there is no field config.optim.lrr; did you mean config.optim.lr?",
        ),
        ([SCRATCH, "--config.steps=3.5"], "flag --config.steps=3.5: expected a whole number"),
        ([SCRATCH, "--config.optim.lr="], "flag --config.optim.lr=: expected a number"),
        ([SCRATCH, "--config.data.draft=5"], "flag --config.data.draft=5: expected True or False"),
        ([SCRATCH, "--lr=1e-3"], "fields of the config are set so: --config.optim.lr=…"),
        ([SCRATCH, "--eval=x"], "Unknown command line flag 'eval'\n"),  # a section is no field
        ([SCRATCH, SCRATCH], "--config: given 2 times; give it once"),
        ([SCRATCH, "--config.optim=3"], "config.optim is a section; its fields are set one by one"),
        ([SCRATCH, "--debug=x"], "flag --debug=x: expected true or false\n"),
        ([SCRATCH, "--config.batch_size=None"], "flag --config.batch_size=None: it can't be unset"),
    ],
)
def test_wrong_flag_is_one_line(arguments, message, tmp_path):
    ended = call(*arguments)
    assert ended.code == 1 and ended.out == ""
    assert ended.err.startswith("error: ") and message in ended.err
    assert ended.err.count("\n") == 1, ended.err


def test_a_run_that_cannot_start_is_one_line_and_leaves_nothing(tmp_path):
    ended = call(SCRATCH, f"--workdir={tmp_path}/run", "--config.data.source=folder:/nowhere")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("error: data.source: ") and ended.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_where_an_error_came_from(tmp_path):
    flags = (f"--workdir={tmp_path}/run", "--config.batch_size=0", "--debug")
    ended = call(SCRATCH, *flags)
    assert ended.code == 1 and "Traceback" in ended.err and "check_batch_size" in ended.err


def test_fields_from_the_command_line_reach_the_run(tmp_path):
    fields = {"optim__lr": 3e-4, "data__per_class": 2, "optim__lr_rules": "(('head/.*',1.0),)"}
    fields |= {"steps": None, "epochs": 2.4}  # of 20 images
    ended = finish(start(command("scratch", tmp_path, "digits,labels=7,seed=3", **fields), 2))
    assert ended.code == 0 and ended.err == "", ended
    written = json.loads((tmp_path / "config.json").read_text())
    assert (written["seed"], written["optim"]["lr"], written["data"]["per_class"]) == (3, 3e-4, 2)
    assert (written["steps"], written["epochs"]) == (None, 2.4)
    assert written["optim"]["lr_rules"] == [["head/.*", 1.0]]
    assert "step 3/3 evaluation" in ended.out and f"finished: {tmp_path}/model" in ended.out


@pytest.mark.parametrize(
    "error", [KeyError("kernel"), RuntimeError("one\nand a page"), KeyboardInterrupt()]
)
def test_an_error_that_nobody_expects_is_one_line_too(error, monkeypatch, capsys):
    def run(config, workdir):
        raise error

    monkeypatch.setattr(loop, "run", run)
    for name, value in {"CONFIG": "x", "WORKDIR": "y", "DEBUG": False}.items():
        monkeypatch.setattr(main, f"_{name}", types.SimpleNamespace(value=value))
    for name in ("COORDINATOR", "PROCESSES", "PROCESS"):
        monkeypatch.setattr(main, f"_{name}", types.SimpleNamespace(value=None))
    assert main.main(["main"]) == (130 if isinstance(error, KeyboardInterrupt) else 1)
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1
    assert isinstance(error, KeyboardInterrupt) or f"{type(error).__name__}: " in err

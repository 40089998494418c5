"""vit-jax-xfer: every command by its name, and one style of flags in all of them."""

import ast
import json
import pathlib
import re
import subprocess
import sys

import pytest

import vit_jax_xfer
from vit_jax_xfer import front_door, plan, quickstart
from vit_jax_xfer.command_line import config_flag
from vit_jax_xfer.evaluate.photograph_flags import photograph_parser

PACKAGE = pathlib.Path(vit_jax_xfer.__file__).parent
# Asks each command for its help where JAX can't be imported, as one that answers at once must.
ASK = """
import contextlib, io, json, sys
sys.modules["jax"] = None
from vit_jax_xfer import front_door
said = {}
for words in front_door.COMMANDS:
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            code = front_door.main([*words.split(), "--help"])
    except SystemExit as ended:
        code = ended.code
    said[words] = (code, out.getvalue())
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def helps():
    """{command: (exit status, text)} of each command's --help."""
    ended = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_every_command_of_the_package_has_a_name():
    found = set()
    for file in PACKAGE.rglob("*.py"):
        if 'if __name__ == "__main__"' in file.read_text():
            parts = file.relative_to(PACKAGE).with_suffix("").parts
            found.add(".".join(part for part in parts if part != "__main__"))
    assert found == {command.module for command in front_door.COMMANDS.values()} | {""}


def test_each_answers_help_by_its_name_and_without_jax(helps):
    for words, (code, text) in helps.items():
        assert code == 0, words
        assert text.startswith(f"usage: vit-jax-xfer {words} "), text[:200]
        assert "python -m" not in text, words


def test_flags_are_of_one_style(helps):
    for words, (_, text) in helps.items():
        flags = set(re.findall(r"(?<![\w-])--(?:\[no\])?([a-z][\w-]*)", text)) - {"config"}
        wrong = [flag for flag in flags if "_" in flag or flag == "size"]
        assert not wrong, (words, wrong)


def test_the_overview_lists_all_and_ends_well(capsys):
    assert front_door.main(["--help"]) == 0
    said = capsys.readouterr().out
    for words, command in front_door.COMMANDS.items():
        assert re.search(rf"^  {words} +{re.escape(command.does)}$", said, re.M)
    assert front_door.main([]) == 2
    capsys.readouterr()
    assert front_door.main(["evaluate", "--help"]) == 0
    said = capsys.readouterr().out
    assert "  evaluate knn " in said and "  train " not in said
    assert front_door.main(["--version"]) == 0
    assert capsys.readouterr().out == f"vit-jax-xfer {vit_jax_xfer.__version__}\n"


@pytest.mark.parametrize(
    ("given", "nearest"),
    [("trian", "train"), ("evaluate knnn", "evaluate knn"), ("evaluate clasification x", None)],
)
def test_an_unknown_command_gets_the_nearest(given, nearest, capsys):
    assert front_door.main(given.split()) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert f"did you mean {nearest or 'evaluate classification'!r}?" in said.err


def test_a_command_gets_its_arguments_and_knows_its_name(monkeypatch):
    calls = []
    monkeypatch.setattr(quickstart, "run_stoppable", lambda action: action() or 7)
    monkeypatch.setattr(quickstart, "_quickstart", lambda *given: calls.append(given))
    assert front_door.main(["quickstart", "--seeds=1"]) == 7
    ((options, command),) = calls
    assert options.seeds == 1 and command == "vit-jax-xfer quickstart --seeds=1"
    monkeypatch.setattr(sys, "argv", [f"{PACKAGE}/__main__.py", "quickstart"])
    assert front_door.main() == 7
    assert calls[1][1] == "python -m vit_jax_xfer quickstart"
    assert quickstart.main([]) == 7
    assert calls[2][1] == "python -m vit_jax_xfer.quickstart"


def test_a_launch_script_is_run_from_the_door():
    ended = subprocess.run(
        [sys.executable, "-m", "vit_jax_xfer", "launch", "slurm", "submit", "--nodes=2", "--gpus=4"]
        + ["--dry-run", "--", "--config=scratch:digits", "--workdir=runs/x"],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("sbatch --nodes=2 ")
    assert ended.stdout.rstrip().endswith("slurm.sh job --config=scratch:digits --workdir=runs/x")


def test_older_spellings_go_on_working():
    parser = photograph_parser("segment", "x", "x", "out")
    for flag in ("--image-size", "--size"):
        assert parser.parse_args(["a.png", "--model=m", flag, "24"]).size == 24
    assert parser.parse_args(["a.png", "--model=m"]).size is None
    for flag in ("--image-size=24", "--image_size=24", "--image_size"):
        rest = config_flag._hyphened(flag)
        assert rest == flag.replace("_", "-")
    assert config_flag._hyphened("--config.batch_size=3") == "--config.batch_size=3"
    assert plan._IMAGE_SIZE.name == "image-size"


def test_a_command_is_no_second_parser():
    # Each parser comes from command_parser, which says how the command was called.
    for file in PACKAGE.rglob("*.py"):
        if file.name == "command_parser.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) != "argparse.ArgumentParser", file

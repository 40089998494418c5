"""Commands begin with huge pages where the kernel has them for who asks."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from vit_jax_xfer import huge_pages
from vit_jax_xfer.huge_pages import is_our_command, tunables_with_huge_pages

ASKS = "always [madvise] never\n"
WANTED = "glibc.malloc.hugetlb=1"


@pytest.mark.parametrize(
    ("given", "kernel", "expected"),
    [
        ({}, ASKS, WANTED),
        ({"GLIBC_TUNABLES": ""}, ASKS, WANTED),
        ({"GLIBC_TUNABLES": "glibc.malloc.check=3"}, ASKS, f"glibc.malloc.check=3:{WANTED}"),
        ({"GLIBC_TUNABLES": WANTED}, ASKS, None),
        ({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}, ASKS, None),
        ({}, "[always] madvise never\n", None),
        ({}, "always madvise [never]\n", None),
        ({}, "", None),
    ],
)
def test_the_tunables(given, kernel, expected):
    assert tunables_with_huge_pages(given, kernel) == expected


@pytest.mark.parametrize(
    ("line", "ours"),
    [
        ("python -m vit_jax_xfer train", True),
        ("python -m vit_jax_xfer.main --config=x", True),
        ("python -u -W ignore -X dev -Wd -m vit_jax_xfer.compare", True),
        ("/env/bin/python /env/bin/vit-jax-xfer train", True),
        ("python -m vit_jax_xfer_more.main", False),
        ("python -m ipykernel_launcher -f kernel.json", False),
        ("python -m pdb -m vit_jax_xfer.main", False),
        ("python -m pytest vit_jax_xfer", False),
        ("python mine.py -m vit_jax_xfer.main", False),
        ("python -c code", False),
        ("python", False),
    ],
)
def test_our_commands(line, ours):
    assert is_our_command(line.split()) is ours


def test_a_command_begins_again_once(tmp_path):
    """By a command that runs a program: what that sees is what the command had."""
    seen = tmp_path / "seen.txt"
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\necho "$GLIBC_TUNABLES" >>"{seen}"\n')
    program.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    command = [sys.executable, "-m", "vit_jax_xfer", "launch", "local", "1", "--config=x"]
    subprocess.run(
        [*command, f"--workdir={tmp_path}"],
        env=environment | {"PYTHON": str(program)},
        check=True,
        timeout=60,
    )
    expected = tunables_with_huge_pages(environment, huge_pages._kernels_choice()) or ""
    assert set(seen.read_text().splitlines()) == {expected}


def test_what_is_handed_on(monkeypatch):
    """The whole command line, by the same Python, and all of the environment."""
    handed = []
    line = ["python", "-u", "-m", "vit_jax_xfer.main", "--workdir=a b"]
    system = SimpleNamespace(orig_argv=line, executable="/env/bin/python")
    monkeypatch.setattr(huge_pages, "sys", system)
    monkeypatch.setattr(huge_pages, "_kernels_choice", lambda: ASKS)
    monkeypatch.setattr(os, "execve", lambda *given: handed.append(given))
    monkeypatch.setenv("GLIBC_TUNABLES", "")
    monkeypatch.setenv("ANOTHER", "kept")
    huge_pages.begin_with_huge_pages()
    (program, argv, environment), *more = handed
    assert not more
    assert (program, argv) == ("/env/bin/python", ["/env/bin/python", *line[1:]])
    assert environment == {**os.environ, "GLIBC_TUNABLES": WANTED}
    line[3] = "pytest"
    huge_pages.begin_with_huge_pages()
    assert len(handed) == 1


@pytest.mark.parametrize("start", ["front_door", "command_parser", "run_by_flags"])
def test_every_start_asks(start, monkeypatch):
    """What all commands go through does it, before anything else."""
    from vit_jax_xfer import front_door
    from vit_jax_xfer.command_line import command_parser, config_flag

    class AskedFirst(Exception):
        pass

    def ask():
        raise AskedFirst

    calls = {
        "front_door": (front_door, lambda: front_door.main(["--version"])),
        "command_parser": (command_parser, lambda: command_parser.command_parser("x", "About.")),
        "run_by_flags": (config_flag, lambda: config_flag.run_by_flags(None, "x", "x", "About.")),
    }
    module, call = calls[start]
    monkeypatch.setattr(module, "begin_with_huge_pages", ask)
    with pytest.raises(AskedFirst):
        call()

"""Outputs that lack characters, or that somebody has closed."""

import io
import os
import subprocess
import sys

import pytest

from tests.runs import ROOT
from vit_jax_xfer import terminal
from vit_jax_xfer.explain.progress import Progress


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_any_encoding(encoding, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    terminal.show("3 × 4 → compiling … 語")
    text = written.getvalue().decode(encoding)
    if encoding == "utf-8":
        assert text == "3 × 4 → compiling … 語\n"
    elif encoding == "ascii":
        assert text == "3 x 4 -> compiling ... ?\n"
    else:
        assert "3 × 4 -> compiling" in text


def test_an_output_closed_on_our_side(monkeypatch, capsys):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    terminal.show("one")
    terminal.show("two")
    assert capsys.readouterr().err.count("stdout is gone") == 1
    monkeypatch.setattr(sys, "stdout", None)  # as without any, under pythonw or a daemon
    terminal.show("three")
    terminal.settle()


def test_lines_below_a_notebooks_cell_are_written_over(monkeypatch):
    class OutStream(io.StringIO):
        """As a kernel's, which is no terminal."""

    monkeypatch.setattr(sys, "stderr", OutStream())
    assert not terminal.overwrites("stderr")
    # How a program can tell: the class is ipykernel's, or Colab's, which stands on it.
    monkeypatch.setattr(OutStream, "__module__", "ipykernel.iostream")
    assert terminal.overwrites("stderr")
    seconds = iter(range(0, 100, 10))
    monkeypatch.setattr("time.monotonic", lambda: next(seconds))
    with Progress(8) as progress:
        for done in (1, 2, 3):
            progress.report(done)
    lines = sys.stderr.getvalue().split("\r")
    assert len(lines) == 5 and lines[0] == "" and lines[1].startswith("2 of 8 images")
    assert lines[2].startswith("3 of 8 images") and not lines[3].strip() and lines[4] == ""
    assert len(lines[3]) == len(lines[2])
    sys.stderr.close()
    assert not terminal.overwrites("stderr")


CLOSED = """
import sys
from vit_jax_xfer import terminal
for i in range(3):
    terminal.show(f"line {i}", name=sys.argv[1])
terminal.settle()
sys.exit(7)
"""


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_reader_that_is_gone_changes_neither_the_course_nor_the_status(name):
    read, write = os.pipe()
    os.close(read)
    outputs = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, name: write}
    ended = subprocess.run([sys.executable, "-c", CLOSED, name], cwd=ROOT, check=False, **outputs)
    os.close(write)
    assert ended.returncode == 7
    if name == "stdout":
        assert ended.stderr == b"stdout is gone ([Errno 32] Broken pipe): going on without it\n"


def test_no_file_gets_what_is_printed_where_a_program_has_no_outputs(tmp_path):
    text = "import os, sys; from vit_jax_xfer import terminal; terminal.occupy();"
    text += "file = open(sys.argv[1], 'w'); os.write(1, b'out'); os.write(2, b'err')"
    shell = f'"{sys.executable}" -c "{text}" "$0" >&- 2>&-'
    subprocess.run(["sh", "-c", shell, str(tmp_path / "file")], cwd=ROOT, check=True)
    assert (tmp_path / "file").read_bytes() == b""

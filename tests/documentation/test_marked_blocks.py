"""Blocks that are marked `<!-- runs -->`, page by page and from top to bottom, in a new folder.

Beside them lie what their text calls photo.jpg, IMAGES and TEACHER.
"""

import os
import pathlib
import shlex
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

import vit_jax_xfer as vjx
from tests.documentation.pages import ROOT, Block, blocks, logical_lines, pages

MARKED = {page: found for page in pages() if (found := [b for b in blocks(page) if b.runs])}
_DOOR = "vit-jax-xfer "


def shortened(block: Block) -> str:
    """A shell's block with what its mark adds to its commands."""
    lines = []
    for line in logical_lines(block.text):
        added = [more for words, more in block.more.items() if line.startswith(_DOOR + words)]
        lines.append(" ".join([line.partition(" #")[0], *added]))
    return "set -e\n" + "\n".join(lines)


@pytest.fixture(scope="module")
def things(tmp_path_factory) -> pathlib.Path:
    """photo.jpg, IMAGES with two classes, TEACHER, and a bin/ with the commands."""
    folder = tmp_path_factory.mktemp("things")
    rng = np.random.default_rng(0)
    for name in ("photo", *(f"IMAGES/{kind}/{i}" for kind in ("bee", "ant") for i in range(8))):
        file = folder / f"{name}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (480, 640, 3), dtype=np.uint8)).save(file)
    teacher = vjx.create_model(
        "vit_tiny_patch16", image_size=112, width=16, depth=2, num_heads=2, num_classes=0
    )
    images = np.zeros((1, 112, 112, 3), np.float32)
    vjx.save(folder / "TEACHER", teacher, teacher.init(jax.random.key(0), images))
    (folder / "bin").mkdir()
    for name, command in (("python", ""), ("vit-jax-xfer", " -m vit_jax_xfer")):
        script = folder / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)}{command} "$@"\n')
        script.chmod(0o755)
    return folder


@pytest.mark.parametrize("page", MARKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_marked_blocks_run(page, things, tmp_path):
    for name in ("photo.jpg", "IMAGES", "TEACHER"):
        (tmp_path / name).symlink_to(things / name)
    environment = {
        **os.environ,
        "PATH": f"{things / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "JAX_NUM_CPU_DEVICES": "1",
    }
    for block in MARKED[page]:
        python = block.language == "python"
        command = [sys.executable, "-c", block.text] if python else ["bash", "-c", shortened(block)]
        ended = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=580
        )
        assert ended.returncode == 0, f"{block.name}\n{ended.stdout[-2000:]}{ended.stderr[-4000:]}"


def test_blocks_of_both_languages_are_marked():
    languages = [block.language for found in MARKED.values() for block in found]
    assert languages.count("sh") >= 6 and languages.count("python") >= 4
    assert ROOT / "README.md" in MARKED


def test_what_a_mark_adds_stands_behind_its_command():
    text = (
        "vit-jax-xfer train --config=scratch \\\n    --workdir=x  # a\nvit-jax-xfer predict x y\n"
    )
    block = Block(ROOT / "README.md", 1, "sh", text, True, {"train": "--config.steps=1"})
    _, first, second = shortened(block).splitlines()
    assert shlex.split(first)[-2:] == ["--workdir=x", "--config.steps=1"]
    assert second == "vit-jax-xfer predict x y"

"""A type checker on a user's script: our types are there, and what is wrong is found."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from vit_jax_xfer import FAMILIES
from vit_jax_xfer.models import model_names
from vit_jax_xfer.models.registry import ENTRIES
from vit_jax_xfer.pretrained import families, file_to_model

SCRIPT = Path(__file__).with_name("user_script.py")


def test_mypy_finds_the_wrong_lines_alone(tmp_path):
    pytest.importorskip("mypy")
    root = SCRIPT.parents[2]
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent"]
    command += ["--no-error-summary", f"--cache-dir={tmp_path}", str(SCRIPT)]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True)
    found = {int(n) for n in re.findall(r"user_script\.py:(\d+): error", ended.stdout)}
    lines = SCRIPT.read_text().splitlines()
    wrong = {n for n, line in enumerate(lines, start=1) if line.endswith("# wrong")}
    assert found == wrong and len(wrong) == 3, ended.stdout + ended.stderr


def test_every_name_is_typed_by_its_class():
    for kind in {kind for kind, _ in ENTRIES.values()}:
        literal = getattr(model_names, f"{kind.__name__}Name")
        assert set(literal.__args__) == {name for name, (one, _) in ENTRIES.items() if one is kind}


def test_every_family_of_plain_transformers_is_typed():
    others = {"filter_vit", "lift", "mae"}  # of mae both, by decoder
    assert set(file_to_model.VisionTransformerFamily.__args__) == set(FAMILIES) - others
    assert others < set(families.FAMILIES)

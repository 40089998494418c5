"""Faults put into the code on purpose: does the quick tier notice? (docs/testing.md)

python -m tests.mutants [WORD…]   all of them, or those with a word in their names

Each is one replacement in a copy of the tree, where the tests beside it must then fail. The tree
itself is never touched. Exit status 1 where one is not noticed.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = "vit_jax_xfer"
LEFT_OUT = (".git", ".venv", ".cache", "__pycache__", "runs", "*.egg-info", ".pytest_cache")


class Mutant(NamedTuple):
    """In `file` of the package `old`, which stands there once, becomes `new`.

    tests: arguments of pytest below tests/, at least one of which must fail.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str


def read() -> list[Mutant]:
    """All mutants, of the files beside this one: a table each, by its name."""
    mutants = []
    for path in sorted(pathlib.Path(__file__).parent.glob("*.toml")):
        tables = tomllib.loads(path.read_text())
        mutants += [Mutant(name, **fields) for name, fields in tables.items()]
    return mutants


MUTANTS = read()


def main(words: list[str]) -> int:
    """Runs the mutants, a line each."""
    chosen = [one for one in MUTANTS if not words or any(word in one.name for word in words)]
    for one in chosen:
        check(one)
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*LEFT_OUT))
        if (ROOT.parent / "shared").exists():
            (tree.parent / "shared").symlink_to(ROOT.parent / "shared")
        missed = [one.name for one in chosen if not noticed(one, tree)]
    print(f"{len(chosen) - len(missed)} of {len(chosen)} noticed")
    return 1 if missed else 0


def check(one: Mutant) -> None:
    """ValueError for a mutant that is no longer one, because the code has changed."""
    count = (ROOT / PACKAGE / one.file).read_text().count(one.old)
    if count != 1:
        raise ValueError(f"{one.name}: {one.old!r} stands {count} times in {one.file}, not once")


def noticed(one: Mutant, tree: pathlib.Path) -> bool:
    """Whether the mutant's tests fail on it."""
    path = tree / PACKAGE / one.file
    text = path.read_text()
    path.write_text(text.replace(one.old, one.new))
    begun = time.monotonic()
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache/jax"))
    environment = {**os.environ, "PYTHONPATH": str(tree), "JAX_COMPILATION_CACHE_DIR": cache}
    files, _, case = one.tests.partition(" -k ")
    arguments = [f"tests/{name}" for name in files.split()] + (["-k", case] if case else [])
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", *arguments],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
    )
    path.write_text(text)
    if ended.returncode not in (0, 1):  # pytest's own: 1 = a test failed
        raise RuntimeError(f"{one.name}: pytest could not run\n{ended.stdout}{ended.stderr}")
    failed = [line for line in ended.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    said = failed[0].split(" - ")[0] if failed else "NOT NOTICED"
    print(f"{time.monotonic() - begun:5.0f} s  {one.name}: {said}", flush=True)
    return ended.returncode == 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

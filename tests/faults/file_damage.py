"""What happens to files: cut short, bits flipped, zeros, gone."""

import os
import pathlib

import numpy as np


def truncate(path: pathlib.Path, rng: np.random.Generator) -> None:
    """Keeps the first bytes alone."""
    os.truncate(path, int(rng.integers(path.stat().st_size)))


def flip_bits(path: pathlib.Path, rng: np.random.Generator) -> None:
    """Turns one to eight bits anywhere."""
    content = bytearray(path.read_bytes())
    for place in rng.integers(8 * len(content), size=int(rng.integers(1, 9))):
        content[place // 8] ^= 1 << (place % 8)
    path.write_bytes(content)


def zero_block(path: pathlib.Path, rng: np.random.Generator) -> None:
    """Writes zeros from some byte to the end, as after a power cut."""
    content = path.read_bytes()
    kept = int(rng.integers(len(content)))
    path.write_bytes(content[:kept] + bytes(len(content) - kept))


def remove(path: pathlib.Path, rng: np.random.Generator) -> None:
    """Takes it away."""
    path.unlink()


DAMAGES = {"truncated": truncate, "flipped": flip_bits, "zeros": zero_block, "removed": remove}


def damage_one(
    folder: pathlib.Path, rng: np.random.Generator, kinds: tuple[str, ...] = tuple(DAMAGES)
) -> tuple[pathlib.Path, str]:
    """Damages one file under a folder. Returns (the file, what was done to it)."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    path, kind = files[rng.integers(len(files))], kinds[rng.integers(len(kinds))]
    DAMAGES[kind](path, rng)
    return path, kind


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    """Every file under a folder by name."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def overwritten(before: dict[str, bytes], folder: pathlib.Path) -> list[str]:
    """The files of `contents` that have other bytes now, or none."""
    now = contents(folder)
    return [name for name, content in before.items() if now.get(name) != content]

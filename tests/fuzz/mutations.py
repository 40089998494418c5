"""Good bytes, texts and JSON values made bad at random."""

import copy
import json
import re
import string
from typing import Any

import numpy as np

NUMBERS = (
    "0", "-1", "1", "3", "65536", "2147483648", "-9223372036854775809", "1e9", "1e308", "1e999",
    "nan", "inf", "0.0", "-0.5", "1e-320", "99999999999999999999", "0x10", "True", "None", "1j",
)  # fmt: skip
ODD = (
    "\x00",
    "\n",
    "\r",
    "é",
    "𝟙",
    "‮",
    "'",
    '"',
    "\\",
    "(",
    ")",
    "[",
    "{",
    "|",
    ",",
    "=",
    ":",
    "*",
)
NAMES = ("../../../etc/passwd", "/etc/passwd", "..", "", ".", "C:\\x", "a/b", "~", "x" * 5000)
EXTREME_WORDS = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFF, 0x10000, 100_000, 30_000)


def mutated_bytes(rng: np.random.Generator, data: bytes) -> bytes:
    """One to four changes: bits, words, cuts, copies."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        if not changed:
            break
        start, length = int(rng.integers(len(changed))), int(2 ** rng.uniform(0, 8))
        part = changed[start : start + length]
        match int(rng.integers(8)):
            case 0:
                changed[start] ^= 1 << int(rng.integers(8))
            case 1:
                changed[start] = int(rng.choice([0, 0x7F, 0x80, 0xFF]))
            case 2:
                word = int(rng.choice(EXTREME_WORDS))
                order = ("big", "little")[rng.integers(2)]
                changed[start : start + 4] = word.to_bytes(4, order)
            case 3:
                del changed[start:]
            case 4:
                del changed[start : start + length]
            case 5:
                changed[start:start] = part * int(rng.integers(1, 4))
            case 6:
                changed[start : start + length] = bytes(len(part))
            case 7:
                changed[start:start] = rng.bytes(length)
    return bytes(changed)


def mutated_text(rng: np.random.Generator, text: str) -> str:
    """One to four changes: numbers, odd characters, cuts, copies, deep nesting."""
    for _ in range(int(rng.integers(1, 5))):
        place = int(rng.integers(len(text) + 1))
        end = min(len(text), place + int(2 ** rng.uniform(0, 5)))
        match int(rng.integers(8)):
            case 0 | 1:
                numbers = list(re.finditer(r"-?\d+(\.\d+)?", text))
                if numbers:
                    one = numbers[rng.integers(len(numbers))]
                    text = text[: one.start()] + str(rng.choice(NUMBERS)) + text[one.end() :]
            case 2:
                text = text[:place] + str(rng.choice(ODD)) + text[place:]
            case 3:
                text = text[:place] + text[end:]
            case 4:
                text = text[:end] + text[place:end] * int(rng.integers(1, 5)) + text[end:]
            case 5:
                letter = string.ascii_letters[rng.integers(52)]
                text = text[:place] + letter + text[place + 1 :]
            case 6:
                deep = int(10 ** rng.uniform(1, 4))
                text = text[:place] + str(rng.choice(["(", "[", "-", "a|"])) * deep + text[place:]
            case 7:
                text = text[:place] + str(rng.choice(NAMES)) + text[place:]
    return text


def mutated_json(rng: np.random.Generator, value: Any) -> str:
    """The text of a JSON value of which one to three nodes are others; sometimes no JSON at all."""
    value = copy.deepcopy(value)
    for _ in range(int(rng.integers(1, 4))):
        nodes = list(_nodes(value))
        if not nodes:
            break
        parent, key = nodes[rng.integers(len(nodes))]
        match int(rng.integers(4)):
            case 0:
                del parent[key]
            case 1:
                other, name = nodes[rng.integers(len(nodes))]
                parent[key] = copy.deepcopy(other[name]) if _has(other, name) else None
            case _:
                parent[key] = _odd_value(rng)
    text = json.dumps(value)
    return mutated_text(rng, text) if rng.random() < 0.3 else text


def _nodes(value: Any):
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _nodes(inner)


def _has(parent: Any, key: Any) -> bool:
    return key in parent if isinstance(parent, dict) else key < len(parent)


def _odd_value(rng: np.random.Generator) -> Any:
    plain = [None, True, -1, 0, 7, 1e308, float("nan"), float("inf"), 2**70, [], {}, [[]], 10**5]
    odd = [*plain, *NAMES, "\x00", "é", {"a": [1]}, [1, 2, 3, 4], _nested(150)]
    return odd[rng.integers(len(odd))]


def _nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value

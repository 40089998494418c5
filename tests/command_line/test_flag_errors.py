"""Errors of commands begin with the flag that is wrong."""

import argparse
import errno

import jax
import pytest

from vit_jax_xfer.command_line.flag_errors import naming_flag, run_command, share_below_one
from vit_jax_xfer.memory_errors import out_of_memory

OPTIONS = argparse.Namespace(model="m", layer=9, num_heads=0, size=9)


@pytest.mark.parametrize(
    "error, expected",
    [
        (ValueError("layer: 9 is none"), "--layer: 9 is none"),
        (ValueError("num_heads: 5 does not fit"), "--num-heads: 5 does not fit"),
        (ValueError("size: A: 9 does not fit"), "--image-size: A: 9 does not fit"),
        (ValueError("/m.npz: is broken"), "--model: /m.npz: is broken"),
        (ValueError("layer 9 is none"), "--model: layer 9 is none"),
        (ValueError("--size 9: too small"), "--size 9: too small"),
        (FileNotFoundError(2, "No such file", "m"), "--model: [Errno 2] No such file: 'm'"),
    ],
)
def test_the_flag_comes_first(error, expected, capsys):
    def action():
        with naming_flag("--model", OPTIONS):
            raise error

    assert run_command(action) == 1
    assert capsys.readouterr().err == f"error: {expected}\n"


def test_a_threshold_leaves_something_above_it():
    assert share_below_one("0.5") == 0.5
    with pytest.raises(argparse.ArgumentTypeError, match="'1', expected a number from 0 to below"):
        share_below_one("1")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 9 TiB"),
        RuntimeError("can't start new thread"),
        RuntimeError("std::bad_alloc"),
        jax.errors.JaxRuntimeError("INTERNAL: CUDA_ERROR_OUT_OF_MEMORY"),
    ],
)
def test_no_memory_is_one_line(error, capsys):
    def action():
        raise error

    assert run_command(action) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: memory: {error}; what helps: a smaller --batch-size")
    assert said.count("\n") == 1


def test_an_array_that_jax_has_no_room_for(capsys):
    assert run_command(lambda: jax.numpy.zeros((1 << 47,), "uint8").block_until_ready()) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: memory: RESOURCE_EXHAUSTED") and said.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("another thing"),
        RuntimeError("RESOURCE_EXHAUSTED: write: No space left on device"),
        KeyError("out of memory"),
    ],
)
def test_what_is_no_lack_of_memory_is_shown_whole(error):
    def action():
        raise error

    with pytest.raises(type(error)):
        run_command(action)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "none is left"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "[Errno 12] Cannot allocate memory"),
        (OSError(errno.EAGAIN, "locked"), ""),
        (ValueError("out of memory"), ""),
        (RuntimeError("Out of memory: 1\nsecond line"), "Out of memory: 1"),
        (MemoryError("x" * 300), f"{'x' * 197}..."),
    ],
)
def test_how_an_error_says_that_memory_ran_out(error, line):
    assert out_of_memory(error) == line

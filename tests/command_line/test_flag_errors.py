"""Errors of commands begin with the flag that is wrong."""

import argparse

import pytest

from vit_jax_xfer.command_line.flag_errors import naming_flag, run_command, share_below_one

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


def test_no_memory_is_one_line(capsys):
    def action():
        raise MemoryError("Unable to allocate 9 TiB")

    assert run_command(action) == 1
    assert capsys.readouterr().err == "error: memory: Unable to allocate 9 TiB\n"

"""Errors of flags: one line, the flag, the nearest that there is; nothing empty is taken."""

import argparse

import pytest

from vit_jax_xfer.command_line.command_parser import add_image_size, command_parser
from vit_jax_xfer.command_line.flag_errors import LARGEST, from_zero, positive


@pytest.fixture
def said(capsys):
    def said(*arguments, rest=False):
        parser = command_parser("vit_jax_xfer.predict", "x\n\nabout")
        parser.add_argument("model", metavar="MODEL")
        parser.add_argument("--batch-size", type=positive, default=3)
        parser.add_argument("--out")
        add_image_size(parser, type=positive)
        if rest:
            parser.add_argument("rest", nargs=argparse.REMAINDER)
        try:
            return parser.parse_args(arguments)
        except SystemExit as ended:
            assert ended.code == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
        assert error.endswith("; python -m vit_jax_xfer.predict --help lists all flags\n")
        return error

    return said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: MODEL;"),
        (["m", "--batchsize", "2"], "unrecognized arguments: --batchsize 2; did you mean --batch-"),
        (["m", "--batch_sise=2"], "--batch_sise=2; did you mean --batch-size?;"),
        (["m", "--sizes=2"], "unrecognized arguments: --sizes=2;"),
        (["m", "--zzz"], "unrecognized arguments: --zzz;"),
        (["m", "--model=x"], "unrecognized arguments: --model=x; MODEL is given without a flag;"),
        (["m", "--helm"], "unrecognized arguments: --helm;"),
        (["m", "--batch-size", "0"], "argument --batch-size: got '0', expected a number of 1 or"),
        (["m", "--batch-size", "many"], "argument --batch-size: got 'many', expected a number"),
        (["m", "--batch-size", "9" * 5000], "expected a number of 1 or more, up to 2,147,483,647;"),
        (["m", "--out", ""], "argument --out: got '', expected a value;"),
        (["m", "--out="], "argument --out: got '', expected a value;"),
        ([""], "error: got '', expected a value;"),
    ],
)
def test_an_error_is_one_line(said, arguments, message):
    assert message in said(*arguments)


def test_what_is_right_goes_through(said):
    assert said("m", "--out=x", "--size", "3").size == 3
    assert said("m", "--batch_size=2", "--image_size", "3").batch_size == 2
    # A script's own arguments are its own, and a config's field may be empty.
    assert said("m", "x", "", "--name=", rest=True).rest == ["x", "", "--name="]


def test_whole_numbers():
    assert (positive("7"), from_zero("0"), positive(str(LARGEST))) == (7, 0, LARGEST)
    for text in ("-1", "1.0", "", " 1", str(LARGEST + 1)):
        with pytest.raises(argparse.ArgumentTypeError, match="expected a number of 0 or more"):
            from_zero(text)

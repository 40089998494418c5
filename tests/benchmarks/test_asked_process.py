"""What a process answers, and the reasons where it doesn't: none of them ends a benchmark."""

import multiprocessing

import pytest

from benchmarks.asked_process import ask, reason
from benchmarks.step_case import Skipped


class GoneProcess:
    """In place of a process that the machine ended."""

    exitcode = -9

    def join(self, timeout):
        pass


@pytest.fixture
def pipe():
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        yield ours, theirs


def test_answers_and_what_is_said_unasked(pipe):
    ours, theirs = pipe
    theirs.send("built")
    assert ask(ours, GoneProcess()) == "built"
    theirs.send(7)
    assert ask(ours, GoneProcess(), "step", timeout=10) == 7 and theirs.recv() == "step"


def test_a_failure_is_its_first_line(pipe):
    ours, theirs = pipe
    theirs.send(reason(ValueError("\nRESOURCE_EXHAUSTED: 9 GiB\nmore")))
    with pytest.raises(Skipped, match="^RESOURCE_EXHAUSTED: 9 GiB$"):
        ask(ours, GoneProcess(), "step")
    assert (
        str(reason(MemoryError())) == "MemoryError" and len(str(reason(OSError(900 * "x")))) == 200
    )


def test_none_in_time(pipe):
    with pytest.raises(Skipped, match="^was not ready in 0 s, all that was left$"):
        ask(pipe[0], GoneProcess(), "step", timeout=-3.0)


@pytest.mark.parametrize("question", [None, "step"])
def test_one_that_ended_before_it_was_asked(pipe, question):
    pipe[1].close()
    with pytest.raises(Skipped, match="^its process ended with code -9$"):
        ask(pipe[0], GoneProcess(), question)

"""What several processes ask each other: the same answers, few exchanges, soon enough."""

import jax
import numpy as np
import pytest

from vit_jax_xfer.train import agreement
from vit_jax_xfer.train.agreement import Agreement


class Others:
    """Two processes: what the other says, and when this one asked it."""

    def __init__(self):
        self.says, self.asked, self.question = [0, 10], [], 0

    def exchange(self, own):
        self.asked.append(self.question)
        return np.array([own, self.says])


@pytest.fixture
def others(monkeypatch):
    others = Others()
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(agreement.multihost_utils, "process_allgather", others.exchange)
    return others


@pytest.fixture
def clock():
    now = [100.0]
    now.append(lambda: now[0])
    return now


def ask(agree, others, clock, count, seconds, wish=False, **more):
    """Asks `count` times, so many seconds apart; the answers."""
    answers = []
    for _ in range(count):
        answers.append(agree(wish, **more)[0])
        others.question += 1
        clock[0] += seconds
    return answers


def test_one_process_agrees_with_itself():
    agree = Agreement()
    assert agree(True, False) == (True, False) and agree(False, True) == (False, True)


def test_quick_questions_are_passed_on_rarely_and_slow_ones_at_once(others, clock):
    agree = Agreement(every=10, seconds=2.0, now=clock[1])
    ask(agree, others, clock, 30, 0.01)
    assert others.asked == [0, 1, 11, 21]
    others.asked.clear()
    ask(agree, others, clock, 12, 5.0)
    # What was agreed on before is kept; then every question goes to the others.
    assert others.asked == list(range(31, 42))


def test_the_most_impatient_decides(others, clock):
    others.says = [0, 3]
    ask(Agreement(every=10, now=clock[1]), others, clock, 9, 0.01)
    assert others.asked == [0, 1, 4, 7]


def test_a_wish_of_either_is_heard_at_the_next_exchange(others, clock):
    agree = Agreement(every=4, seconds=1e9, now=clock[1])
    assert not any(ask(agree, others, clock, 3, 0.0))
    assert ask(agree, others, clock, 3, 0.0, wish=True) == [False, False, True]
    others.says = [1, 10]
    assert ask(agree, others, clock, 4, 0.0) == [False, False, False, True]


def test_at_once_forgets_how_long_questions_took(others, clock):
    agree = Agreement(every=10, now=clock[1])
    ask(agree, others, clock, 3, 0.01)
    others.asked.clear()
    ask(agree, others, clock, 1, 5.0, at_once=True)
    ask(agree, others, clock, 3, 5.0)
    assert others.asked == [3, 4, 5, 6]

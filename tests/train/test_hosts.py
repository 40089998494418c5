"""What processes tell each other: they differ in one line, and none waits for one that is gone."""

import signal
import sys
import threading
import time

import numpy as np
import pytest

from tests.runs import ROOT, finish, pair_of, tiny_config
from vit_jax_xfer.data.sources.arrays import ArraySource
from vit_jax_xfer.train import hosts, loop, same_on_hosts


class Store:
    """In place of the coordinator's store."""

    def __init__(self):
        self.values = {}

    def key_value_set(self, key, value, allow_overwrite=False):
        assert allow_overwrite or key not in self.values
        self.values[key] = value

    def key_value_try_get(self, key):
        if key not in self.values:
            raise RuntimeError("NOT_FOUND: no such key")
        return self.values[key]

    def blocking_key_value_get(self, key, timeout_in_ms):
        until = time.monotonic() + timeout_in_ms / 1000
        while key not in self.values:
            if time.monotonic() > until:
                raise RuntimeError("DEADLINE_EXCEEDED: no such key")
            time.sleep(0.005)
        return self.values[key]

    def key_value_dir_get(self, prefix):
        return [(key, value) for key, value in self.values.items() if key.startswith(prefix)]


@pytest.fixture
def store(monkeypatch):
    """The store of two processes, of which this is the first."""
    store = Store()
    monkeypatch.setattr(hosts.distributed.global_state, "client", store)
    monkeypatch.setattr(hosts.distributed.global_state, "num_processes", 2)
    monkeypatch.setattr(hosts, "_shared", 0)
    monkeypatch.setattr(hosts, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(hosts, "_TURN_SECONDS", 0.02)
    store.values |= {"vjx/host/0": "node0", "vjx/host/1": "node1"}
    return store


def test_alone_nothing_is_asked():
    assert not hosts.several()
    assert hosts.share("x", "here") == ["here"]
    hosts.check_same({"optim.lr": "1"}, "")
    assert hosts.end("text") == 1


def test_share_waits_for_who_is_slower(store):
    def later():
        time.sleep(0.1)
        store.key_value_set("vjx/shared/1/x/1", "there")

    threading.Thread(target=later).start()
    assert hosts.share("x", "here") == ["here", "there"]


@pytest.mark.parametrize("theirs", ['{"optim.lr": "0.2", "seed": "0"}', '{"seed": "0"}'])
def test_a_difference_names_the_field_and_the_host(theirs, store):
    store.values["vjx/shared/1/facts/1"] = theirs
    what = "it is (0.2|not there) on process 1 .node1. and 0.1 on process 0 .node0.; do so"
    with pytest.raises(hosts.HostsDisagree, match=f"optim.lr: {what}"):
        hosts.check_same({"optim.lr": "0.1", "seed": "0"}, "do so")


@pytest.fixture
def left(monkeypatch):
    """Why this process would have ended."""
    reasons, ended = [], threading.Event()

    def leave(reason, said=False):
        reasons.append(reason)
        ended.set()

    monkeypatch.setattr(hosts, "_leave", leave)
    return reasons, ended


def test_a_process_without_beats_is_gone_for_the_first(store, left, monkeypatch):
    monkeypatch.setattr(hosts, "LOST_SECONDS", 0.2)
    watch = hosts._Watch()
    for number in range(20):
        store.key_value_set("vjx/beat/1", str(number), allow_overwrite=True)
        time.sleep(0.02)
    assert not left[1].is_set()
    assert left[1].wait(10)  # it beats no more
    watch.stop()
    assert "process 1 (node1) has not been heard of for 0.2 s" in left[0][0]


def test_a_process_that_is_through_is_not_gone(store, left, monkeypatch):
    monkeypatch.setattr(hosts, "LOST_SECONDS", 0.1)
    store.values["vjx/beat/1"] = "through"
    watch = hosts._Watch()
    assert not left[1].wait(0.5)
    watch.stop()
    assert store.values["vjx/beat/0"] == "through"


def test_the_reason_of_another_ends_this_one(store, left):
    watch = hosts._Watch()
    store.key_value_set("vjx/ended", "process 1 (node1): no disk")
    assert left[1].wait(10)
    watch.stop()
    assert left[0][0] == "process 1 (node1): no disk"
    assert "vjx/heard/0" in store.values


# --- what the loop compares -----------------------------------------------------------------------


@pytest.fixture
def unlike(monkeypatch):
    """unlike(change): a second process whose facts are change(those of this one)."""

    def apply(change):
        def check(facts, fix):
            theirs = change(dict(facts))
            for field in {*facts, *theirs}:
                if facts.get(field) != theirs.get(field):
                    raise hosts.HostsDisagree(f"{field}: {theirs.get(field)}; {fix}")

        monkeypatch.setattr(hosts, "several", lambda: True)
        monkeypatch.setattr(hosts, "share", lambda what, text: [text, text])
        monkeypatch.setattr(hosts, "check_same", check)
        monkeypatch.setattr(loop, "trace_step", None)

    return apply


@pytest.mark.parametrize(
    "field",
    [
        "optim.lr",
        "data.pipeline",
        "the code of vit_jax_xfer",
        "jax",
        "data.source",
        "data.source, its classes",
        "data.source, its order",
        "eval.source",
        "task.teacher",
        "init_from",
        "optim.skip_nonfinite",  # which a resumed run may have otherwise, and a host may not
        "data.max_broken",
        "model.width",
    ],
)
def test_what_the_loop_compares(field, unlike, tmp_path):
    unlike(lambda facts: {**facts, field: "other"} if field in facts else facts)
    with pytest.raises(hosts.HostsDisagree, match=f"{field}: other"):
        loop.run(tiny_config("scratch"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_may_differ_between_hosts(unlike, tmp_path):
    own = {"data.workers", "data.threads", "task.members", "model.like"}
    unlike(lambda facts: {**facts, **dict.fromkeys(set(facts) & own, "9")})
    with pytest.raises(TypeError, match="NoneType"):  # of trace_step: all has passed
        loop.run(tiny_config("scratch"), tmp_path / "run")


def test_sources_that_differ_are_told_apart():
    images = np.zeros((6, 4, 4, 3), np.uint8)
    found = [
        same_on_hosts._described(ArraySource(images[: len(labels)], np.array(labels), names, "x"))
        for labels, names in [
            ([0, 0, 0, 1, 1, 1], ("a", "b")),
            ([0, 1, 0, 1, 0, 1], ("a", "b")),
            ([0, 0, 0, 1, 1, 1], ("a", "c")),
            ([0, 0, 0, 1, 1], ("a", "b")),
        ]
    ]
    assert len({str(one) for one in found}) == 4


# --- real processes -------------------------------------------------------------------------------

TALK = """
import os, sys, time
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
from vit_jax_xfer.train import hosts
address, process, hurt = sys.argv[1], int(sys.argv[2]), sys.argv[3]
hosts.initialize(address, 2, process)
hosts.check_same({"optim.lr": "0.1"}, "")
if hurt == f"report {process}":
    sys.exit(hosts.end("no disk"))
if hurt == f"kill {process}":
    os.kill(os.getpid(), 9)
if hurt == "differ":
    try:
        hosts.check_same({"optim.lr": str(process)}, "do so")
    except hosts.HostsDisagree as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(hosts.end(str(error)))
time.sleep(60)
"""


@pytest.mark.parametrize("hurt", ["differ", "report 0", "report 1", "kill 0"])
def test_real_processes_end_in_one_line(hurt, tmp_path):
    script = tmp_path / "talk.py"
    script.write_text(TALK)

    def of(address, index):
        return ["env", f"PYTHONPATH={ROOT}", sys.executable, str(script), address, str(index), hurt]

    with pair_of(of) as pair:
        ended = [finish(process, timeout=40) for process in pair]
    codes = [process.code for process in ended]
    if hurt == "differ":
        line = "error: optim.lr: it is 1 on process 1"
        assert all(process.err.startswith(line) for process in ended) and codes == [1, 1]
        assert len(ended[0].err.splitlines()) == 1
    elif hurt.startswith("report"):
        other = ended[1 - int(hurt[-1])]
        assert codes == [1, 1] and "no disk" in other.err and len(other.err.splitlines()) == 1
    else:
        assert codes == [-signal.SIGKILL, 1]
        assert ended[1].err.startswith("error: process 0 ended without a word")
        assert len(ended[1].err.splitlines()) == 1

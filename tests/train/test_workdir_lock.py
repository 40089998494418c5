"""The lock of a work folder: who is refused, whose was left behind, and who sees the folder."""

import errno
import json
import os
import pathlib
import subprocess
import threading
import time

import pytest

from tests.runs import tiny_config
from vit_jax_xfer.train import hosts, loop, workdir_lock
from vit_jax_xfer.train.workdir_lock import WorkdirLock


def lock_of(folder, **changed):
    """Writes the lock of another holder: by default of one that has ended on this machine."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    fields = {"host": "node7", "machine": workdir_lock._machine(), "pid": ended.pid}
    fields |= {"started": "1", "token": "other", **changed}
    folder.mkdir(exist_ok=True)
    (folder / "run.lock").write_text(json.dumps(fields))


def taken(folder) -> bool:
    with WorkdirLock() as lock:
        lock.take(folder)
        return workdir_lock._holder(folder / "run.lock")["token"] == lock._token


def test_a_second_run_is_refused_and_the_first_gives_back(tmp_path):
    folder = tmp_path / "new" / "run"
    with WorkdirLock() as first:
        first.take(folder)
        with pytest.raises(ValueError, match=f"workdir: .* in use by process {os.getpid()} on "):
            taken(folder)
        assert (folder / "run.lock").is_file()
    assert list(tmp_path.iterdir()) == []  # nothing was written, so nothing is left
    assert taken(folder)


def test_a_run_leaves_what_was_there(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert taken(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_the_loop_is_refused_before_it_compiles(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "trace_step", None)
    with WorkdirLock() as lock:
        lock.take(tmp_path)
        with pytest.raises(ValueError, match="workdir: .* is in use by process"):
            loop.run(tiny_config("scratch"), tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["run.lock"]


@pytest.mark.parametrize(
    "holder",
    [
        {},
        {"pid": os.getppid(), "started": "1"},
        {"pid": os.getpid(), "started": workdir_lock._started(os.getpid())},
    ],
    ids=["a process that ended", "a number that another process has now", "this process, before"],
)
def test_a_lock_that_was_left_behind_is_taken_over(holder, tmp_path, capsys):
    lock_of(tmp_path, **holder)
    assert taken(tmp_path)
    assert "left behind by process" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_that_nobody_has_waited_for_is_gone(tmp_path):
    with subprocess.Popen(["sleep", "60"]) as process:
        lock_of(tmp_path, pid=process.pid, started=workdir_lock._started(process.pid))
        with pytest.raises(ValueError, match="in use by process"):
            taken(tmp_path)
        process.kill()
        while workdir_lock._started(process.pid) != "ended":
            time.sleep(0.01)
        assert taken(tmp_path)


def test_a_lock_of_another_machine_is_watched(tmp_path, monkeypatch):
    monkeypatch.setattr(workdir_lock, "WATCH_SECONDS", 0.3)
    lock_of(tmp_path, machine="node7's")
    over = threading.Event()

    def renew():
        while not over.wait(0.05):
            os.utime(tmp_path / "run.lock", (1, time.monotonic()))  # whatever its clock says

    renewing = threading.Thread(target=renew)
    renewing.start()
    try:
        with pytest.raises(ValueError, match=r"in use by process \d+ on node7"):
            taken(tmp_path)
    finally:
        over.set()
        renewing.join()
    assert taken(tmp_path)


@pytest.mark.parametrize("left_behind", [False, True])
def test_of_many_at_once_one_gets_it(left_behind, tmp_path):
    folder = tmp_path / "run"
    if left_behind:
        lock_of(folder)
    begin, over = threading.Barrier(8), threading.Barrier(8)
    won = []

    def start():
        with WorkdirLock() as lock:
            begin.wait()
            try:
                lock.take(folder)
                won.append(lock)
            except ValueError:
                pass
            over.wait()

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_a_file_system_without_links(tmp_path, monkeypatch):
    def fail(*given):
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", fail)
    with WorkdirLock() as lock:
        lock.take(tmp_path)
        with pytest.raises(ValueError, match="in use"):
            taken(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_it_is_renewed_made_again_and_given_up_to_who_took_over(tmp_path, monkeypatch):
    monkeypatch.setattr(workdir_lock, "RENEW_SECONDS", 0.02)
    ended = threading.Event()
    monkeypatch.setattr(workdir_lock, "_end_run", lambda *given: ended.set())
    path = tmp_path / "run.lock"

    def comes(condition):
        until = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < until
            time.sleep(0.01)
        return True

    with WorkdirLock() as lock:
        lock.take(tmp_path)
        before = path.stat().st_mtime_ns
        assert comes(lambda: path.stat().st_mtime_ns != before)
        path.unlink()
        assert comes(path.is_file) and not ended.is_set()
        lock_of(tmp_path)
        assert ended.wait(10)
    assert json.loads(path.read_text())["token"] == "other"  # not ours to remove


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="workdir: cannot write to .*/file/run: Not a directory"):
        taken(tmp_path / "file" / "run")


def test_a_full_disk_is_told_and_nothing_stays(tmp_path, monkeypatch):
    def write(path, text):
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "write_text", write)
        with pytest.raises(ValueError, match="workdir: cannot write to .*: No space left on dev"):
            taken(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_hosts_that_see_another_folder_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "several", lambda: True)
    monkeypatch.setattr(hosts, "name_of", lambda process: f"process {process} (node{process})")
    answers = {"lock": lambda own: [own, own], "seen": lambda own: [own, "no"]}
    monkeypatch.setattr(hosts, "share", lambda what, own: answers[what](own))
    with pytest.raises(hosts.HostsDisagree, match=r"not one folder .*: process 1 \(node1\) can't"):
        taken(tmp_path)
    # And where this one is blind: the first's token is not in what is here.
    monkeypatch.setattr(workdir_lock, "_SEEN_SECONDS", 0.1)
    said = []
    answers = {"lock": lambda own: ["first"], "seen": lambda own: said.append(own) or ["yes", own]}
    with pytest.raises(hosts.HostsDisagree, match="process 1"):
        taken(tmp_path)
    assert said == ["no"]

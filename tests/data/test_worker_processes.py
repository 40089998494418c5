"""Worker processes: they end with their parent and by it alone, leave nothing, die in one line."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from vit_jax_xfer.data import train_stream
from vit_jax_xfer.data.worker_processes import GROUP_SIGNALS

ROOT = pathlib.Path(__file__).parents[2]


class Slow:
    """Images that say who made them; number `deadly` ends its maker."""

    num_classes, class_names, name, left_out = 0, (), "slow", ()

    def __init__(self, deadly=-1, number=signal.SIGKILL, pause=0.0):
        self.deadly, self.number, self.pause = deadly, number, pause

    def __len__(self):
        return 60

    def __getitem__(self, index):
        time.sleep(self.pause)
        if index == self.deadly:
            os.kill(os.getpid(), self.number)
        return {"image": np.zeros((2, 2, 3), np.uint8), "label": os.getpid() % 2**31}


def stream_of(source, workers=1, **arguments):
    given = {"batch_size": 10, "seed": 0, "workers": workers} | arguments
    return train_stream(source, "to_float", **given)


def workers_of(parent):
    """The command lines of a process's children that make rows, by their ids."""
    found = {}
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            status, command = (path / "stat").read_text(), (path / "cmdline").read_bytes()
        except OSError:
            continue
        if int(status.rpartition(")")[2].split()[1]) == parent and b"worker_processes" in command:
            found[int(path.name)] = command
    return found


def gone(ids, seconds=10):
    """Whether all processes end in time; zombies of another parent count as ended."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        alive = [i for i in ids if pathlib.Path(f"/proc/{i}").exists()]
        states = []
        for i in alive:
            try:
                states.append(
                    pathlib.Path(f"/proc/{i}/stat").read_text().rpartition(")")[2].split()[0]
                )
            except OSError:
                continue
        if all(state == "Z" for state in states):
            return True
        time.sleep(0.05)
    return False


def test_signals_to_the_group_reach_no_worker_and_close_leaves_none():
    with stream_of(Slow(pause=0.01), workers=2) as stream:
        ids, makers = set(workers_of(os.getpid())), set()
        for _ in range(7):  # from the start on, before they run a line of ours
            for one in ids:
                for number in GROUP_SIGNALS:
                    os.kill(one, number)
            makers |= set(next(stream)["label"].tolist())
        assert makers == ids and len(ids) == 2
        for one in ids:
            assert "/dev/shm" not in pathlib.Path(f"/proc/{one}/maps").read_text()
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert not workers_of(os.getpid())


@pytest.mark.parametrize(
    ("number", "said"),
    [(signal.SIGKILL, "by SIGKILL: out of memory, most often"), (signal.SIGBUS, "SIGBUS: no room")],
)
def test_a_worker_that_dies_is_one_line(number, said):
    with (
        stream_of(Slow(deadly=17, number=number)) as stream,
        pytest.raises(OSError, match=rf"^data.workers: worker 1 of 1 was ended.*{said}") as raised,
    ):
        for _ in range(10):
            next(stream)
    assert "\n" not in str(raised.value)
    assert not workers_of(os.getpid())


def test_a_parent_that_is_killed_leaves_no_orphan(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import time, numpy as np\n"
        "from vit_jax_xfer.data import eval_batches\n"
        "class Own:  # and no 'if __name__' around the rest\n"
        "    num_classes, class_names, name, left_out = 0, (), 'own', ()\n"
        "    def __len__(self): return 10_000\n"
        "    def __getitem__(self, i):\n"
        "        time.sleep(0.1)\n"
        "        return {'image': np.zeros((2, 2, 3), np.uint8), 'label': i}\n"
        "stream = eval_batches(Own(), 'to_float', batch_size=5, workers=2)\n"
        "next(stream)\n"
        "print('ready', flush=True)\n"
        "while True: next(stream)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    assert process.stdout.readline() == b"ready\n"
    ids = set(workers_of(process.pid))
    assert len(ids) == 2
    process.kill()
    assert process.communicate(timeout=20) == (b"", b"")  # also: no worker holds its outputs
    assert gone(ids)


class OnlyHere(Slow):
    """Images that one process alone can read."""

    def __init__(self):
        super().__init__()
        self.made_in = os.getpid()

    def __getitem__(self, index):
        return super().__getitem__({self.made_in: index}[os.getpid()])


def test_an_error_in_a_worker_is_the_error_here():
    with stream_of(OnlyHere()) as stream, pytest.raises(KeyError) as raised:
        next(stream)
    assert "row_maker.py" in raised.value.__notes__[0]  # and where it was raised there

"""A small job, hurt hundreds of times: does the same command go on to the same parameters?

python -m tests.faults [WORD…]   300 trials, or those of the kinds with a word in their names
    --trials=N --seed=N          how many, and which random numbers
    --only=N --first=N           trial N of them alone, again; from trial N on
    --minutes=M                  no new trial after so many
    --kept=FOLDER                where folders of trials that went wrong stay (runs/faults)
    --table=LOG                  nothing but the table of what such calls have printed (repeat it)

Each trial hurts the job, then starts the same command again. That must end with the parameters of
the run that nobody hurt, bit for bit, or say in one line why not, with nothing overwritten. Prints
a line a trial and the table of docs/reliability.md. Exit status 1 where a trial went wrong.
"""

import argparse
import collections
import ctypes
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

from tests.quick_flags import quick_flags

ROOT = pathlib.Path(__file__).parents[2]
_OWN_MOUNTS = 0x00020000  # CLONE_NEWNS


def main() -> int:
    """Runs the trials."""
    given = _arguments()
    _environment()
    if given.table:
        print(table(read_logs(given.table)))
        return 0
    from tests.faults.hurts import KINDS
    from tests.faults.inputs import Inputs
    from tests.faults.trial import WRONG, StraightRuns

    begun = time.monotonic()
    came: dict[str, collections.Counter] = {name: collections.Counter() for name in KINDS}
    # No TemporaryDirectory: each fork would remove it at its end.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="faults."))
    try:
        inputs, straight = Inputs(folder / "inputs"), StraightRuns(folder / "straight")
        for number, name in chosen(KINDS, given):
            if time.monotonic() - begun > 60 * given.minutes:
                break
            came[name][run_trial(number, name, folder, inputs, straight, given)] += 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(table(came))
    return int(any(count[WRONG] for count in came.values()))


def chosen(kinds: dict, given: argparse.Namespace) -> list[tuple[int, str]]:
    """(number, kind) of the trials to run: each kind by its share, in a random order."""
    import numpy as np

    # The n-th of a kind stands at (n - 1/2) / share: the first N are a fair sample for any N.
    places = [
        ((n + 0.5) / kind.share, name)
        for name, kind in kinds.items()
        for n in range(-(-given.trials * kind.share // 300) + 1)
    ]
    names = [name for _, name in sorted(places)[: given.trials]]
    order = np.random.default_rng(given.seed).permutation(len(names))
    trials = [(number, names[place]) for number, place in enumerate(order)]
    if given.only is not None:
        return trials[given.only : given.only + 1]
    trials = trials[given.first :]
    wanted = [one for one in trials if not given.words or any(w in one[1] for w in given.words)]
    if not wanted:
        sys.exit(f"no kind has {' or '.join(given.words)} in its name")
    return wanted


def run_trial(number, name, folder, inputs, straight, given) -> str:
    """What came of it; the folder of one that went wrong is kept."""
    import numpy as np

    from tests.faults.hurts import KINDS
    from tests.faults.trial import WRONG, Trial, Wrong

    begun = time.monotonic()
    rng = np.random.default_rng([given.seed, number])
    trial = Trial(folder / f"trial{number}", rng, straight, inputs)
    try:
        came, rest = KINDS[name].hurt(trial), ""
    except Wrong as error:
        came, rest = WRONG, f": {_one_line(error)}"
    if came != WRONG and (left := shared_memory()):
        came, rest = WRONG, f": {left} is left in /dev/shm"
    said = _one_line("; ".join(trial.notes))
    seconds = time.monotonic() - begun
    print(f"{number:3d} {name} ({said}): {came}{rest}  [{seconds:.0f} s]", flush=True)
    if came == WRONG:
        shutil.rmtree(given.kept / trial.folder.name, ignore_errors=True)
        shutil.copytree(trial.folder, given.kept / trial.folder.name, symlinks=True)
    trial.clean()
    return came


def shared_memory() -> list[str]:
    """What stands in /dev/shm, where that is the trials' own."""
    mounted = "FAULTS_MOUNTS" in os.environ
    return [path.name for path in pathlib.Path("/dev/shm").iterdir()] if mounted else []


def read_logs(logs: list[pathlib.Path]) -> dict[str, collections.Counter]:
    """What came of the trials of several calls."""
    from tests.faults.hurts import KINDS
    from tests.faults.trial import OUTCOMES

    kinds, outcomes = ("|".join(map(re.escape, names)) for names in (KINDS, OUTCOMES))
    trial = re.compile(rf" *\d+ ({kinds}) \(.*\): ({outcomes})(: .*)?  \[\d+ s\]")
    came: dict[str, collections.Counter] = {name: collections.Counter() for name in KINDS}
    for line in "\n".join(log.read_text(errors="replace") for log in logs).split("\n"):
        if found := trial.fullmatch(line):
            came[found[1]][found[2]] += 1
    return came


def table(came: dict[str, collections.Counter]) -> str:
    """Markdown: a row a kind, a column for each thing that came of it."""
    from tests.faults.trial import OUTCOMES, WRONG

    seen = {what for count in came.values() for what in count} | {WRONG}
    columns = [what for what in OUTCOMES if what in seen]
    rows = {name: count for name, count in came.items() if count.total()}
    total = sum(rows.values(), collections.Counter())
    lines = [f"| hurt | trials | {' | '.join(columns)} |", "|---" * (len(columns) + 2) + "|"]
    for name, count in {**rows, "all": total}.items():
        cells = [str(count[column] or "") for column in columns]
        lines.append(f"| {name} | {count.total()} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--table", type=pathlib.Path, action="append")
    parser.add_argument("--minutes", type=float, default=10_000)
    parser.add_argument("--kept", type=pathlib.Path, default=ROOT / "runs" / "faults")
    return parser.parse_args()


def _environment() -> None:
    """What the forks inherit: one CPU device, quick compilation, mounts of their own."""
    os.environ |= {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "1",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "XLA_FLAGS": quick_flags(),
        "OPENBLAS_NUM_THREADS": "1",  # a fork takes no threads along
    }
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    # A full disk is a small file system; without root the limit on a file's bytes stands for it.
    if os.geteuid() == 0 and ctypes.CDLL(None).unshare(_OWN_MOUNTS) == 0:
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/dev/shm"], check=True)
        os.environ["FAULTS_MOUNTS"] = "own"


if __name__ == "__main__":
    sys.exit(main())

"""Reads broken and hostile files by the thousand: no page of a traceback, no hang, no gigabytes.

python -m tests.fuzz [WORD…]     every reader, or those with a word in their names
    --minutes=M --seed=N         how long for all of them together; which random numbers
    --cases=N                    so many of each, whatever time it takes
    --only=READER:NUMBER         one case alone, again

Prints a row for each reader: cases, and those that went wrong, each different one once with the
number to repeat it. Exit status 1 where there are any.
"""

import argparse
import math
import os
import re
import sys
import tempfile
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")


def main() -> int:
    """Runs the cases of each reader in a process of its own."""
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int)
    parser.add_argument("--only")
    given = parser.parse_args()
    from tests.fuzz.all_readers import ALL_READERS
    from tests.fuzz.watch import fault_of

    if given.only:
        name, _, number = given.only.partition(":")
        print(found := fault_of(name, given.seed, int(number)))
        return int(found is not None)
    names = [n for n in ALL_READERS if not given.words or any(word in n for word in given.words)]
    print("| reader | cases | wrong |\n|---|---|---|")
    seconds = 60 * given.minutes / len(names) if given.cases is None else math.inf
    return int(any([_run(name, given.seed, seconds, given.cases) for name in names]))


def _run(name: str, seed: int, seconds: float, cases: int | None) -> bool:
    """Prints a reader's row and its faults; whether there are any.

    In a fork, because a fault may end the process; it writes down where it is.
    """
    with tempfile.TemporaryFile("w+") as log:
        pid = os.fork()
        if pid == 0:
            try:
                _cases(name, seed, seconds, cases, log)
            finally:
                log.flush()
                os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        log.seek(0)
        lines = log.read().split("\x1e")
    done = int(lines[0].split()[-1] if lines[0].split() else 0)
    faults = [line for line in lines[1:] if line]
    if status:
        faults.append(f"the process ended with {status} in case {done}")
    print(f"| {name} | {done} | {len(faults) or ''} |", flush=True)
    for fault in faults:
        print(f"  {name}: {fault}", flush=True)
    return bool(faults)


def _cases(name: str, seed: int, seconds: float, cases: int | None, log) -> None:
    from tests.fuzz.watch import fault_of

    end, number, faults = time.monotonic() + seconds, 0, {}
    while time.monotonic() < end and number != cases:
        log.seek(0)
        log.write(f"{number:20d}")
        log.flush()
        fault = fault_of(name, seed, number)
        if fault:
            kind = re.sub(r"[^a-zA-Z ]", "", fault.strip().splitlines()[-1])[:40]
            faults.setdefault(kind, f"--only={name}:{number}: {fault}")
        number += 1
    log.seek(0)
    log.write(f"{number:20d}\x1e" + "\x1e".join(faults.values()))


if __name__ == "__main__":
    sys.exit(main())

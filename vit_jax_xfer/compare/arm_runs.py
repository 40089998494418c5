"""The runs of a comparison, one after the other; what is finished is not run again."""

import pathlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from vit_jax_xfer.compare.arms import Arm, arm_named
from vit_jax_xfer.compare.comparison import Comparison
from vit_jax_xfer.train.clock import format_duration
from vit_jax_xfer.train.console import say
from vit_jax_xfer.train.loop import run
from vit_jax_xfer.train.stopping import NonFiniteLoss
from vit_jax_xfer.train.workdir import changed_fields, read_result

Result = dict[str, Any]
Train = Callable[[ConfigDict, pathlib.Path], Result]


class Stopped(Exception):
    """A run was asked to stop, and saved; the same call goes on from there."""


def run_arms(
    comparison: Comparison,
    done: Callable[[dict[Arm, list[Result]]], None] = lambda results: None,
    train: Train = run,
) -> tuple[dict[Arm, list[Result]], dict[str, str]]:
    """({arm: a result each seed}, {run that failed: why}), of which the second is mostly empty.

    A run whose loss is no number fails alone, with those that need its model. done: called with
    what there is after each run. Raises Stopped; ValueError, before anything runs, where a folder
    holds a run with other settings or an arm's config can't be made.
    """
    planned = list(comparison.runs())
    configs = {(arm, seed): comparison.config(arm, seed) for arm, seed in planned}
    for (arm, seed), config in configs.items():
        check_folder(config, arm.folder(comparison.root, seed))
    results: dict[Arm, list[Result]] = {arm: [] for arm in comparison.arms}
    failed: dict[str, str] = {}
    begin = time.perf_counter()
    for number, (arm, seed) in enumerate(planned):
        folder = arm.folder(comparison.root, seed)
        needed = _folders_before(comparison, arm, seed)
        if lacking := next((one.name for one in needed if one.name in failed), None):
            failed[folder.name] = f"it needs the model of {lacking}"
            continue
        name = f"{number + 1} of {len(planned)}, {folder.name}"
        detail = comparison.form(arm, seed)
        detail += f"  elapsed {format_duration(time.perf_counter() - begin)}"
        if (left := seconds_left(planned[number:], results)) is not None:
            detail += f"  ETA {format_duration(left)}"
        try:
            result = run_or_read(configs[arm, seed], folder, name, detail, needed, train)
        except NonFiniteLoss as error:
            failed[folder.name] = str(error)
            say(f"{folder.name} failed: {error}")
            continue
        if result is None:
            raise Stopped
        results[arm].append({**result, "seed": seed})
        done(results)
    return results, failed


def run_or_read(
    config: ConfigDict,
    folder: pathlib.Path,
    name: str,
    detail: str,
    needed: Sequence[pathlib.Path] = (),
    train: Train = run,
) -> Result | None:
    """A run, or the result of an earlier one, with its seconds of work as "wall"; None if stopped.

    name, detail: said before it. needed: folders of runs whose models it takes; a result that is
    older than one of theirs is not read. ValueError where the folder holds a run with other
    settings.
    """
    check_folder(config, folder)
    result = read_result(folder)
    if result is not None and not any(_newer(one, folder) for one in needed):
        say(f"--- {name}: finished already")
        return {**result, "wall": result["seconds"]}
    say(f"--- {name}: {detail}")
    begin = time.perf_counter()
    result = train(config, folder)
    if not result["finished"]:
        return None
    return {**result, "wall": time.perf_counter() - begin}


def check_folder(config: ConfigDict, folder: pathlib.Path) -> None:
    """ValueError where a folder holds a run with other settings."""
    earlier = folder / "config.json"
    if earlier.is_file() and (changed := changed_fields(earlier, config)):
        raise ValueError(
            f"{folder} was made with other arguments ({changed[0][1]}); repeat those, "
            "or choose another folder"
        )


def seconds_left(
    planned: Sequence[tuple[Arm, int]], results: Mapping[Arm, Sequence[Result]]
) -> float | None:
    """An estimate for runs to come, by what the same arms took, else all; None before the first."""
    took = {
        arm: statistics.mean(one["wall"] for one in runs) for arm, runs in results.items() if runs
    }
    if not took:
        return None
    usual = statistics.mean(took.values())
    return sum(took.get(arm, usual) for arm, _ in planned)


def _folders_before(comparison: Comparison, arm: Arm, seed: int) -> list[pathlib.Path]:
    """The folders of the runs whose models a run takes."""
    before = [arm_named(name, comparison.arms) for name in arm.kind.after]
    return [one.folder(comparison.root, seed) for one in before]


def _newer(one: pathlib.Path, other: pathlib.Path) -> bool:
    """Whether a run has a result that is newer than another's."""
    first, second = (folder / "result.json" for folder in (one, other))
    return first.is_file() and first.stat().st_mtime > second.stat().st_mtime

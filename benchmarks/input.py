"""Images a second from JPEG to device, the full recipe's, beside PyTorch's DataLoader.

    python -m benchmarks.input --images FOLDER [--size 224] [--batch 64] [--batches 12] [--rounds 5]

The recipe is random_resized_crop, flip, RandAugment, normalize, random_erasing; mixing belongs to
the step. FOLDER: one of JPEGs, or an .npz of them, the bytes "jpeg" end to end and their "offsets".
Contenders, each in a process of its own, by turns: ours and PyTorch with timm's transforms and with
torchvision's (v2), by worker processes and threads of each; ours with data.draft; and ours that
hands over floats, as before bytes travelled. Where torchvision or timm is not installed the row
says so. Six batches come before the timed ones: workers start, and what they made ahead is used up.
"CPU ms" is the processor's time of all processes an image, which a busy machine changes least.
"ratio" is a loader's rate over that of --against in the same round, with the spread of the rounds;
"others %" what other processes took of all cores meanwhile; "mark" says where a spread is over
--widest or rounds are under ten. Then the stages of one thread, in milliseconds of the processor an
image. Prints JSON lines and tables.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.shared_flags import add_flags, states

CROP, FLIP = "random_resized_crop({size})", "flip"
AUGMENT, FINISH = "rand_augment('rand-m9-mstd0.5-inc1')", "normalize|random_erasing(0.25)"
CONTENDERS = (
    *("ours 0 1", "ours 0 2", "ours 1 1", "ours 2 1", "draft 2 1", "floats 2 1"),
    *("timm 0 1", "timm 1 1", "timm 2 1", "v2 2 1"),
)
COLUMNS = ("loader", "processes", "threads", "state", "images/s", "least", "most", "ratio")
COLUMNS += ("CPU ms", "others %", "mark")
AGAINST = "timm 2 1"
TIMED_STAGES = 200  # images
WARM_UP = 6  # batches: those that lay ready while the first was compiled for are used up
NEEDS = {"timm": ("torch", "torchvision", "timm"), "v2": ("torch", "torchvision")}


def main() -> None:
    """Times every contender by turns, then the stages."""
    arguments = _parser().parse_args()
    if arguments.one:
        name, *counts = arguments.one.split()
        found = stages(arguments) if name == "stages" else measure(name, *counts, arguments)
        print(json.dumps(found))
        return
    from benchmarks import measured_rows
    from benchmarks.rounds import markdown

    with tempfile.TemporaryDirectory() as folder:
        arguments.images = unpacked(arguments.images, pathlib.Path(folder))
        with measured_rows.Report(arguments, COLUMNS) as report:
            report.about(measured_rows.about_machine(arguments))
            for state in states(arguments):
                runs, others = rounds_of(state, arguments)
                for one in arguments.contenders:
                    row = summary(one, runs, arguments.against, arguments.widest)
                    report.add(row | {"state": state, "others %": others})
        found = in_own_process("stages 0 1", arguments)
        rows = [{"stage, CPU ms": stage, **times} for stage, times in found.items()]
        print("\n" + markdown(rows, ("stage, CPU ms", "ours", "timm")))


def rounds_of(
    state: str, arguments: argparse.Namespace
) -> tuple[list[dict[str, Any]], float | None]:
    """What every contender finds in every round, by turns; what others took meanwhile."""
    from benchmarks.machine_state import in_state

    names, runs = [one for one in arguments.contenders if is_installed(one)], []
    with in_state(state) as others:
        for turn in range(arguments.rounds):
            for name in names if turn % 2 else reversed(names):
                runs.append({"contender": name, **in_own_process(name, arguments)})
                print(json.dumps({**runs[-1], "load": round(os.getloadavg()[0], 1)}), flush=True)
    return runs, others.percent


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", required=True, help="a folder of JPEGs, or an .npz of them")
    parser.add_argument("--size", type=int, default=224, help="pixels of the square crop")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--batches", type=int, default=12, help="timed, of each contender and turn")
    add_flags(parser, threads=False)
    parser.add_argument("--against", default=AGAINST, help="the contender of ratios")
    parser.add_argument(
        "--contenders", nargs="+", default=CONTENDERS, help='each "NAME PROCESSES THREADS"'
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)  # what a process of its own is told
    return parser


def unpacked(images: str, folder: pathlib.Path) -> str:
    """A folder of the JPEGs, of which at most 2,000 are written where they come in an .npz."""
    if not images.endswith(".npz"):
        return images
    with np.load(images) as file:
        offsets, data = file["offsets"][:2001], file["jpeg"]
    for number, (start, end) in enumerate(zip(offsets, offsets[1:], strict=False)):
        (folder / f"{number:05}.jpg").write_bytes(data[start:end].tobytes())
    return str(folder)


def is_installed(contender: str) -> bool:
    """Whether what it needs is there."""
    return all(importlib.util.find_spec(name) for name in NEEDS.get(contender.split()[0], ()))


def in_own_process(contender: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """What a contender finds in a process of its own."""
    given = {name: getattr(arguments, name) for name in ("images", "size", "batch", "batches")}
    flags = [text for name, value in given.items() for text in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "benchmarks.input", "--one", contender, *flags]
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(out.splitlines()[-1])


def measure(
    name: str, workers: str, threads: str, arguments: argparse.Namespace
) -> dict[str, float]:
    """images/s, and the processor's milliseconds an image, once the first batches are there."""
    if name in NEEDS:
        from benchmarks.input_torch import batches

        files = sorted(str(path) for path in pathlib.Path(arguments.images).glob("*.jpg"))
        found = batches(files, name, arguments.size, arguments.batch, int(workers))
    else:
        found = ours(name, int(workers), int(threads), arguments)
    for _ in range(WARM_UP):
        next(found)
    begin, busy = time.perf_counter(), processor_seconds()
    for _ in range(arguments.batches):
        next(found)
    seconds, number = time.perf_counter() - begin, arguments.batches * arguments.batch
    milliseconds = 1e3 * (processor_seconds() - busy) / number
    return {"images/s": round(number / seconds, 1), "CPU ms": round(milliseconds, 2)}


def recipe(size: int) -> str:
    """The full recipe's pipeline."""
    return "|".join((CROP.format(size=size), FLIP, AUGMENT, FINISH))


def ours(name: str, workers: int, threads: int, arguments: argparse.Namespace) -> Iterator[Any]:
    """Endless batches on the device, normalised and erased."""
    import jax

    from vit_jax_xfer.data import open_source, train_stream
    from vit_jax_xfer.data.finish import Finish

    pipeline = recipe(arguments.size)
    finish = jax.jit(Finish.of(pipeline))
    with train_stream(
        open_source(f"folder:{arguments.images}"),
        pipeline,
        batch_size=arguments.batch,
        seed=0,
        workers=workers,
        threads=threads,
        in_bytes=name != "floats",
        draft=name == "draft",
    ) as stream:
        for batch in stream:
            yield jax.block_until_ready(finish(jax.device_put(batch)))


def processor_seconds() -> float:
    """Of this process and its children so far."""
    own = os.times()
    seconds = own.user + own.system
    for task in pathlib.Path("/proc/self/task").glob("*/children"):
        for child in task.read_text().split():
            # The name, in brackets, may hold spaces; 12 and 13 after it are user and system time.
            fields = pathlib.Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            seconds += sum(int(ticks) for ticks in fields[11:13]) / os.sysconf("SC_CLK_TCK")
    return seconds


def stages(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Processor's milliseconds an image in one thread, stage by stage, of ours and of timm's."""
    files = sorted(str(path) for path in pathlib.Path(arguments.images).glob("*.jpg"))
    table = {"ours": our_stages(files[:TIMED_STAGES], arguments.size)}
    if is_installed("timm"):
        table["timm"] = timm_stages(files[:TIMED_STAGES], arguments.size)
    names = dict.fromkeys(stage for found in table.values() for stage in found)
    return {
        stage: {who: round(found[stage], 3) for who, found in table.items() if stage in found}
        for stage in names
    }


def our_stages(files: list[str], size: int) -> dict[str, float]:
    """Each stage is what a pipeline with it takes more than one without."""
    import jax

    from vit_jax_xfer.data.finish import Finish
    from vit_jax_xfer.data.row_maker import PositionRng
    from vit_jax_xfer.data.sources.decode import Picture
    from vit_jax_xfer.data.transforms import parse

    parts = [CROP.format(size=size), FLIP, AUGMENT, FINISH]
    pipelines = [parse("|".join(parts[: n + 1])).in_bytes() for n in range(len(parts))]
    numbers, images = PositionRng(0), []

    def prepared(pipeline: Any) -> None:
        images.clear()
        for place, file in enumerate(files):
            picture = {"image": Picture(file, file)}
            images.append(pipeline(picture, numbers.at(place)))

    found = differences(
        ("decode", lambda: [Picture(file, file).rgb() for file in files]),
        *zip(
            ("crop, resize", "flip", "RandAugment", "normalise, erase"),
            [lambda pipeline=one: prepared(pipeline) for one in pipelines],
            strict=True,
        ),
        number=len(files),
    )
    batch = {name: np.stack([image[name] for image in images]) for name in images[0]}
    finish = jax.jit(Finish.of(recipe(size)))
    send = lambda: jax.block_until_ready(finish(jax.device_put(batch)))  # noqa: E731
    send()
    begin = processor_seconds()
    for _ in range(3):
        send()
    found["transfer, finish in the step"] = 1e3 * (processor_seconds() - begin) / 3 / len(files)
    return found


def timm_stages(files: list[str], size: int) -> dict[str, float]:
    """The same of timm's transforms."""
    import torch

    from benchmarks.input_torch import opened, transforms

    torch.set_num_threads(1)
    steps = transforms("timm", size).transforms

    def prepared(count: int) -> None:
        for file in files:
            image = opened(file)
            for step in steps[:count]:
                image = step(image)

    ends = {"crop, resize": 1, "flip": 2, "RandAugment": 3, "normalise, erase": len(steps)}
    runs = [(stage, lambda count=count: prepared(count)) for stage, count in ends.items()]
    return differences(
        ("decode", lambda: [opened(file) for file in files]), *runs, number=len(files)
    )


def differences(*runs: tuple[str, Any], number: int) -> dict[str, float]:
    """Milliseconds of this thread for each run beyond the run before, of `number` images."""
    found, before = {}, 0.0
    for stage, run in runs:
        times = []
        for _ in range(3):
            begin = time.thread_time()
            run()
            times.append(time.thread_time() - begin)
        taken = 1e3 * min(times) / number
        found[stage], before = taken - before, taken
    return found


def summary(
    contender: str, runs: list[dict[str, Any]], against: str, widest: float
) -> dict[str, Any]:
    """Medians of a contender's runs, the range of images a second, and the ratio to `against`."""
    from benchmarks.rounds import mark, ratio

    name, workers, threads = contender.split()
    row = {"loader": name, "processes": workers, "threads": threads}
    rates = {
        one: [run["images/s"] for run in runs if run["contender"] == one]
        for one in (contender, against)
    }
    own = rates[contender]
    if not own:
        return {**row, "images/s": "not installed"}
    row |= {"images/s": statistics.median(own), "least": min(own), "most": max(own)}
    busy = [run["CPU ms"] for run in runs if run["contender"] == contender]
    row["CPU ms"] = statistics.median(busy)
    if rates[against]:
        found = ratio(own, rates[against])
        said = mark({"ratio": found}, widest)
        row |= found.fields("ratio") | ({"mark": said} if said else {})
    return row


if __name__ == "__main__":
    main()

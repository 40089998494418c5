"""Time and memory of loading a ViT-L/16 of random weights from a .safetensors or .pth file (Linux).

    python -m benchmarks.loading [--ending pth]

Prints one JSON object. The file (1.2 GB, float32, timm's names) goes into a temporary folder and is
in the page cache when it is read. The load runs in a process of its own, whose memory this one
samples: anonymous memory (the model and what building it takes) apart from the file's mapped pages,
which the kernel drops when it needs them. Both without what the process held before the load.
The target is a ratio of 1.3: one copy of the parameters beside one array at a time.
"""

import argparse
import json
import platform
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import process_memory

WIDTH, DEPTH, TARGET = 1024, 24, 1.3
MIB = 2**20


def main() -> None:
    """Writes the file, loads it in another process and prints what that took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--load", help=argparse.SUPPRESS)  # what the other process is told
    endings = ("safetensors", "pth")
    parser.add_argument("--ending", choices=endings, default=endings[0], help="the file's")
    arguments = parser.parse_args()
    if arguments.load:
        load(arguments.load)
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"vit_large_patch16_224.{arguments.ending}"
            write(path)
            print(json.dumps(measure(path)))


def write(path: Path) -> None:
    """A ViT-L/16 with a head of 1000 classes, in timm's names; .pth needs torch to be written."""
    shapes = {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, 197, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, 16, 16),
        "patch_embed.proj.bias": (WIDTH,),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
        "head.weight": (1000, WIDTH),
        "head.bias": (1000,),
    }
    for i in range(DEPTH):
        for name in ("norm1", "norm2"):
            shapes |= {f"blocks.{i}.{name}.{part}": (WIDTH,) for part in ("weight", "bias")}
        sizes = {"attn.qkv": (3, 1), "attn.proj": (1, 1), "mlp.fc1": (4, 1), "mlp.fc2": (1, 4)}
        for name, (out, into) in sizes.items():
            shapes[f"blocks.{i}.{name}.weight"] = (out * WIDTH, into * WIDTH)
            shapes[f"blocks.{i}.{name}.bias"] = (out * WIDTH,)
    random = np.random.default_rng(0)
    state = {name: random.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    if path.suffix == ".pth":
        import torch

        torch.save({name: torch.from_numpy(array) for name, array in state.items()}, path)
    else:
        from safetensors.numpy import save_file

        save_file(state, path)


def measure(path: Path) -> dict[str, Any]:
    """Seconds, and by how many MiB the loading process grew."""
    command = [sys.executable, "-m", "benchmarks.loading", "--load", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as one:
        machine = json.loads(one.stdout.readline())
        before = process_memory.counted(one.pid)
        process_memory.forget_peak(one.pid)
        print("load", file=one.stdin, flush=True)
        samples = [before["RssAnon"]]
        while not select.select([one.stdout], [], [], 0.001)[0]:
            samples.append(process_memory.counted(one.pid)["RssAnon"])
        seconds = json.loads(one.stdout.readline())
        after = process_memory.counted(one.pid)
        print("end", file=one.stdin, flush=True)
    file, peak = path.stat().st_size, max(samples) - before["RssAnon"]
    return {
        **machine,
        "file_MiB": round(file / MIB),
        **seconds,
        "peak_anonymous_MiB": round(peak / MIB),
        "kept_anonymous_MiB": round((after["RssAnon"] - before["RssAnon"]) / MIB),
        "peak_with_file_pages_MiB": round((after["VmHWM"] - before["VmRSS"]) / MIB),
        "samples": len(samples),
        "ratio": round(peak / file, 3),
        "target": TARGET,
    }


def load(path: str) -> None:
    """The other process: says when it has started up, waits, loads, waits to be measured."""
    import jax

    from vit_jax_xfer import VisionTransformer, create_model, load_pretrained

    jax.block_until_ready(jax.numpy.zeros(()))  # starts the backend
    assert VisionTransformer and create_model  # imports what loading would
    machine = {"jax": jax.__version__, "device": jax.devices()[0].device_kind}
    print(json.dumps({**machine, "machine": platform.machine()}), flush=True)
    sys.stdin.readline()
    begin = time.perf_counter()
    _, variables = load_pretrained(path)
    jax.block_until_ready(variables)
    print(json.dumps({"seconds": round(time.perf_counter() - begin, 2)}), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()

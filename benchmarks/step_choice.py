"""Which steps the benchmark takes, and whose: its flags, defaults by the device, ready sets."""

import argparse

from benchmarks.machine_state import multiplies_bfloat16
from benchmarks.shared_flags import add_flags
from benchmarks.step_case import WHATS, Case, Contender, contender, products_beside

CPU: tuple[str, ...] = (
    *("ours float32", "ours float32 maps", "torch eager float32", "torch compiled float32"),
    *("onnxruntime float32", "openvino float32"),
)
# Beside them where the processor multiplies in bfloat16; elsewhere these are slow.
CPU_BFLOAT16: tuple[str, ...] = (
    *("ours bfloat16-products", "torch eager bfloat16", "openvino bfloat16"),
)
ACCELERATOR: tuple[str, ...] = (
    *("ours bfloat16", "ours bfloat16 maps", "ours float32"),
    *("torch eager float32", "torch compiled bfloat16"),
)
SMALL, BASE = "vit_small_patch16", "vit_base_patch16"
# On two cores at 200 GFLOP/s: about 4 minutes, and about 5.
QUICK: dict[str, tuple[Case, ...]] = {
    "inference": (
        Case("inference", SMALL, 224, 1),
        Case("inference", SMALL, 224, 8),
        Case("inference", BASE, 224, 1),
    ),
    "training": (Case("scratch", SMALL, 224, 8), Case("distill", SMALL, 224, 8)),
}
QUICK["all"] = QUICK["inference"] + QUICK["training"]
QUICK_MINUTES = 8.0  # no case of a quick set begins later, so that it ends within ten


def parser(description: str) -> argparse.ArgumentParser:
    """The command line. description: the module's."""
    first, _, rest = description.partition("\n")
    found = argparse.ArgumentParser(
        description=first, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument(
        "--quick",
        nargs="?",
        const="all",
        choices=QUICK,
        help="a ready set, within ten minutes: ViT-S/16's (and of inference B/16's) steps, without "
        "maps; instead of --models, --sizes, --batch and --steps",
    )
    found.add_argument("--models", nargs="+", default=[SMALL])
    found.add_argument("--sizes", nargs="+", type=int, default=[224], help="pixels")
    found.add_argument(
        "--batch", nargs="+", type=int, default=[0], help="0 = by the device and the size"
    )
    found.add_argument("--steps", nargs="+", default=list(WHATS), choices=WHATS)
    found.add_argument("--contenders", nargs="+", help="default: by the device")
    found.add_argument(
        "--limit", type=float, default=60.0, help="seconds; longer steps are only compiled"
    )
    found.add_argument(
        "--minutes",
        type=float,
        help=f"cases that would begin later are left out, and say so (--quick: {QUICK_MINUTES:g})",
    )
    add_flags(found)
    return found


def cases(arguments: argparse.Namespace, cpu: bool) -> list[Case]:
    """What is measured, in this order."""
    if arguments.quick:
        return list(QUICK[arguments.quick])
    return [
        Case(what, model, size, batch or default_batch(cpu, size))
        for size in arguments.sizes
        for model in arguments.models
        for batch in arguments.batch
        for what in arguments.steps
    ]


def default_batch(cpu: bool, size: int) -> int:
    """About as many tokens at every size."""
    return max(1, (8 if cpu else 256) * 224**2 // size**2)


def contenders(arguments: argparse.Namespace, cpu: bool) -> list[Contender]:
    """Who takes the steps, with the products alone in the types of theirs. ValueError: a name."""
    names = arguments.contenders or default_contenders(cpu, quick=bool(arguments.quick))
    chosen = [contender(name) for name in names]
    beside = [one for one in products_beside(chosen) if one.name not in names]
    return chosen + beside


def default_contenders(cpu: bool, quick: bool) -> list[str]:
    """Those of a device; a quick set goes without maps."""
    names = list(CPU) if cpu else list(ACCELERATOR)
    names += CPU_BFLOAT16 if cpu and multiplies_bfloat16() else ()
    return [name for name in names if not (quick and "maps" in name.split())]


def minutes(arguments: argparse.Namespace) -> float:
    """After which no case begins."""
    given = arguments.minutes
    if given is None:
        return QUICK_MINUTES if arguments.quick else float("inf")
    return given

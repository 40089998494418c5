"""What a run would need: python -m vit_jax_xfer.plan --config=configs/scratch.py --devices=64

Compiles the training step of a config for devices that this machine need not have, and prints how
its parameters are sharded, memory and FLOPs a device, and what the devices send each other. Neither
data nor a teacher's weights are needed: --classes takes the place of the data, and the name of a
network that of the teacher, as a placeholder: --config.task.teacher=mae_vit_large_patch16. With the
package libtpu, --topology=v5e:4x8 compiles for real TPUs.

--memory=16GiB says whether a step fits into a device's memory. Exit status: 0 for a plan, 2 for one
that doesn't fit into --memory, 1 for a config that can't run.
"""

import logging
import os
import re
from collections.abc import Sequence
from typing import NoReturn

from absl import flags

from vit_jax_xfer.command_line.config_flag import config_flag, fail, run_by_flags
from vit_jax_xfer.terminal import show

_CONFIG = config_flag()
_DEVICES = flags.DEFINE_integer("devices", None, "How many devices to plan for.", lower_bound=1)
_TOPOLOGY = flags.DEFINE_string(
    "topology", None, "TPUs to plan for instead, such as v5e:4x8 or v5p:2x2x4; needs libtpu."
)
_CLASSES = flags.DEFINE_integer(
    "classes",
    None,
    "Classes of the training set; without it they are read from data.source.",
    lower_bound=1,
)
_IMAGE_SIZE = flags.DEFINE_integer(
    "image-size",
    None,
    "Pixels of a prepared image's side; without it from data.pipeline, or an image.",
    lower_bound=1,
)
_MEMORY = flags.DEFINE_string(
    "memory",
    None,
    "Memory of one device, such as 16GiB or 80GB: says whether a step fits, and exits with 2 where "
    "it does not.",
)

DOES_NOT_FIT = 2
_UNITS = {"MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30}


def main(argv: list[str]) -> int:
    """Prints the plan; 0, 2 where it doesn't fit, or 1 with one line on stderr where none is."""
    if len(argv) > 1:
        return fail(f"unexpected arguments: {' '.join(argv[1:])}")
    if not _CONFIG.value:
        return fail("--config=configs/FILE.py is missing; --help shows an example")
    if (_DEVICES.value is None) == (_TOPOLOGY.value is None):
        return fail("give one of --devices=NUMBER and --topology=TPUS")
    logging.getLogger("jax._src").setLevel(logging.WARNING)
    import jax

    # A plan takes no accelerator away from whoever uses it.
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", _DEVICES.value or 1)

    from vit_jax_xfer.train.run_plan import fit_text, plan_run

    try:
        available = _bytes(_MEMORY.value) if _MEMORY.value else None
        devices = _tpus(_TOPOLOGY.value) if _TOPOLOGY.value else jax.devices()
        plan = plan_run(_CONFIG.value, devices, _CLASSES.value, _IMAGE_SIZE.value)
    except (ValueError, OSError) as error:
        return fail(str(error))
    except jax.errors.JaxRuntimeError as error:
        if not str(error).startswith("RESOURCE_EXHAUSTED"):
            raise
        fail(str(error).splitlines()[0])  # a compiler for TPUs knows what they have
        return DOES_NOT_FIT
    show(plan.text)
    if available is None:
        return 0
    show(fit_text(plan.memory, available))
    return 0 if plan.memory <= available else DOES_NOT_FIT


def _bytes(size: str) -> int:
    """A size such as 16GiB in bytes. ValueError for what is no size."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([MG]i?B)", size)
    if not found:
        raise ValueError(f"--memory: {size!r} is no size; write it as 16GiB, 80GB or 512MiB")
    return int(float(found[1]) * _UNITS[found[2]])


def _tpus(topology: str) -> list:
    """Descriptions of TPUs, which a compiler takes for them. ValueError for unknown ones."""
    from jax.experimental.topologies import get_topology_desc

    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no machine to ask about
    try:
        devices = list(get_topology_desc(topology, platform="tpu").devices)
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"--topology: {topology}: {reason} (needs the package libtpu)") from None
    if any(getattr(device, "core_on_chip", 0) for device in devices):
        # A real v4 joins a chip's two cores into one device, which a description can't.
        raise ValueError(f"--topology: {topology}: described core by core; plan for v5p instead")
    return devices


def command(arguments: Sequence[str] | None = None) -> NoReturn:
    """`main` with these arguments, or the process's own; ends the process with its exit status."""
    run_by_flags(main, "vit_jax_xfer.plan", __name__, __doc__, arguments)


if __name__ == "__main__":
    command()

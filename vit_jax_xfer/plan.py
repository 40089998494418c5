"""What a run would need: python -m vit_jax_xfer.plan --config=configs/scratch.py --devices=64

Compiles the training step of a config for devices that need not be there, and prints where its
parameters lie, memory and FLOPs a device, and what the devices send each other. Neither the data
nor the teacher need be there: --classes stands for the one, and for the other the name of a
network, --config.task.teacher=mae_vit_large_patch16. With the package libtpu, --topology=v5e:4x8
compiles for real TPUs.
"""

import logging
import os

from absl import app, flags

from vit_jax_xfer.command_line import config_flag, fail, parse_flags

_CONFIG = config_flag()
_DEVICES = flags.DEFINE_integer("devices", None, "How many devices to plan for.", lower_bound=1)
_TOPOLOGY = flags.DEFINE_string(
    "topology", None, "TPUs to plan for instead, such as v5e:4x8 or v4:2x2x4; needs libtpu."
)
_CLASSES = flags.DEFINE_integer(
    "classes", None, "Classes of the training set; not needed where it is there.", lower_bound=1
)
_IMAGE_SIZE = flags.DEFINE_integer(
    "image_size", None, "Pixels of a prepared image's side; data.pipeline tells most often."
)


def main(argv: list[str]) -> int:
    """Prints the plan; 0, or 1 with one line on stderr where the config can't run."""
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

    from vit_jax_xfer.train.planning import plan_run

    try:
        devices = _tpus(_TOPOLOGY.value) if _TOPOLOGY.value else jax.devices()
        print(plan_run(_CONFIG.value, devices, _CLASSES.value, _IMAGE_SIZE.value))
    except (ValueError, OSError) as error:
        return fail(str(error))
    return 0


def _tpus(topology: str) -> list:
    """Descriptions of TPUs, which a compiler takes for them. ValueError for unknown ones."""
    from jax.experimental.topologies import get_topology_desc

    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no machine to ask about
    try:
        return list(get_topology_desc(topology, platform="tpu").devices)
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"--topology: {topology}: {reason} (needs the package libtpu)") from None


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)

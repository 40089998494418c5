"""What memory a step needs, from its trace: what can't fit is refused before it is compiled."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from vit_jax_xfer.device_memory import device_memory
from vit_jax_xfer.train.compile import Program
from vit_jax_xfer.train.console import say
from vit_jax_xfer.train.kept_arrays import kept_bytes, plain_bytes
from vit_jax_xfer.train.run_overview import size_text
from vit_jax_xfer.train.sharding import batch_sharding, bytes_a_device

BatchShapes = Mapping[str, jax.ShapeDtypeStruct]

# A step's temporaries, as compiled for a CPU: so many times what it must keep, and such a share of
# the parameters, whose gradients don't all stand at once. See docs/reliability.md.
USUAL_FACTOR, GRADIENTS = 2.5, 0.4
# What an accelerator's compiler may save where memory is short, by making products again: at most
# what model.remat="full" saves of forty blocks, of which it keeps the inputs alone, a twentieth
# (1/20.5 is the most that was seen). Of twelve it is a tenth or less: such a step is refused later
# than it might be, none too early.
REMADE = 21


class Need(NamedTuple):
    """Bytes on one device: of arguments that hang on no batch, of the batch, and kept in a step.

    learnt: of the arguments, the parameters. kept: the least, see `kept_arrays.py`.
    """

    held: int
    learnt: int
    batch: int
    kept: int

    def least(self, platform: str) -> int:
        """No step takes less; on an accelerator, none that its compiler may squeeze."""
        return self.held + self.batch + self.kept // (1 if platform == "cpu" else REMADE)

    def usual(self, batch: float = 1.0, part: float = 1.0) -> float:
        """About what a step takes; of a batch so many times as large, and so a part of it."""
        fixed = self.held + GRADIENTS * self.learnt
        return fixed + batch * self.batch + part * USUAL_FACTOR * self.kept


def argument_bytes(program: Program, batch: BatchShapes) -> dict[str, int]:
    """Bytes on one device of each thing that a step is given: exact."""
    state, places = program.shapes, program.shardings
    split = batch_sharding(places.step.mesh)
    rest = [
        (state.collections, places.collections),
        (state.ema, places.ema),
        (state.ema_collections, places.ema_collections),
    ]
    return {
        "parameters": bytes_a_device(state.params, places.params),
        "optimizer's moments": bytes_a_device(state.opt_state, places.opt_state),
        "averages, statistics": sum(bytes_a_device(*pair) for pair in rest),
        "frozen": bytes_a_device(program.frozen_shapes, program.frozen_shardings),
        "batch": bytes_a_device(batch, dict.fromkeys(batch, split)),
    }


def need_of(program: Program, batch: BatchShapes, plain: bool = False) -> Need:
    """What a step needs. plain: were nothing fused or made again: more than it needs, and sooner.

    What a step keeps is split over all devices at best.
    """
    rows = argument_bytes(program, batch)
    jaxpr = program.traced.jaxpr.jaxpr
    kept = plain_bytes(jaxpr) if plain else kept_bytes(jaxpr)
    of_batch = rows.pop("batch")
    devices = program.shardings.step.mesh.size
    return Need(sum(rows.values()), rows["parameters"], of_batch, kept // devices)


def check_memory(program: Program, batch: BatchShapes, config: ConfigDict) -> None:
    """ValueError, with what to change, for a step that can't fit; a line for one that may not.

    Says and refuses nothing where nobody tells what memory a device has.
    """
    device = program.shardings.step.mesh.local_devices[0]
    available = device_memory(device)
    if available is None or need_of(program, batch, plain=True).usual() <= available:
        return
    need = need_of(program, batch)
    least, usual = need.least(device.platform), need.usual()
    if least > available:
        raise ValueError(
            f"batch_size: a step on {config.batch_size} images needs {size_text(least)} or more "
            f"on each device, which has {size_text(available)}: {advice(need, available, config)}"
        )
    if usual > available:
        say(
            f"memory: the step may need about {size_text(usual)} on each device, which has "
            f"{size_text(available)}: {advice(need, available, config)}"
        )


def advice(need: Need, available: int, config: ConfigDict) -> str:
    """What to change about a step that doesn't fit: the batch that should, and what may help."""
    others = ["model.remat='full'"] if config.model.get("remat", "") in (None, "none") else []
    others += ["mesh.fsdp over several devices", "a smaller model"]
    fitting = []
    if number := _fitting_batch(need, available, config):
        fitting.append(f"batch_size={number} should fit")
    if parts := _fitting_parts(need, available, config):
        fitting.append(f"so should this batch in optim.accumulate={parts} parts")
    if not fitting:
        return f"no batch would fit; what may help: {', '.join(others)}"
    return f"{', '.join(fitting)}; what else may help: {', '.join(others)}"


def _fitting_batch(need: Need, available: int, config: ConfigDict) -> int | None:
    """The largest batch, halved time and again, that should fit; None where none is left."""
    number = config.batch_size
    while number % 2 == 0:
        number //= 2
        share = number / config.batch_size
        if number % config.optim.accumulate == 0 and need.usual(share, share) <= available:
            return number
    return None


def _fitting_parts(need: Need, available: int, config: ConfigDict) -> int | None:
    """The smallest optim.accumulate, doubled time and again, with which the batch should fit."""
    parts = config.optim.accumulate
    while config.batch_size % (2 * parts) == 0:
        parts *= 2
        if need.usual(1.0, config.optim.accumulate / parts) <= available:
            return parts
    return None

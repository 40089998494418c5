"""The learning rate of each step: a warm-up, then a fall, by the rules of published code."""

import numbers
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from vit_jax_xfer.train.config_ranges import check_numbers
from vit_jax_xfer.train.schedule import RunSchedule, learning_rates

COSINES = ("warmup", "start")
MOVES = ("step", "epoch", "epoch_late", "epoch_after_warmup")


def learning_rate_of(config: ConfigDict, run_schedule: RunSchedule) -> optax.Schedule:
    """The learning rate of a config, step → rate; ValueError naming the field that is amiss."""
    optim = config.optim
    for field, known in (("cosine_from", COSINES), ("moves", MOVES)):
        if optim[field] not in known:
            raise ValueError(
                f"optim.{field}: got {optim[field]!r}, expected one of {', '.join(known)}"
            )
    check_numbers(optim, "optim.")
    drops = tuple(optim.drops)
    shares = all(isinstance(one, numbers.Real) for one in drops)
    if not shares or list(drops) != sorted(set(drops)):
        raise ValueError(f"optim.drops: got {drops}, expected rising shares of the run, 0 to 1")
    others = {"poly_power": None, "cosine_epochs": None, "end_lr": 0.0}
    if drops and (other := next((name for name in others if optim[name] != others[name]), "")):
        raise ValueError(
            f"optim.drops, optim.{other}: two ways to fall; leave one out, as by "
            f"optim.{other}={others[other]}"
        )
    return learning_rate(
        *learning_rates(config),
        run_schedule.warmup_steps,
        run_schedule.total_steps,
        warmup_from=optim.warmup_from,
        cosine_steps=run_schedule.cosine_steps,
        cosine_from=optim.cosine_from,
        moves=optim.moves,
        steps_per_epoch=run_schedule.steps_per_epoch,
        power=optim.poly_power,
        drops=[round(share * run_schedule.total_steps) for share in drops],
    )


def learning_rate(
    peak: float,
    end: float,
    warmup_steps: int,
    total_steps: int,
    *,
    warmup_from: float = 0.0,
    cosine_steps: int | None = None,
    cosine_from: str = "warmup",
    moves: str = "step",
    steps_per_epoch: float = 1.0,
    power: float | None = None,
    drops: Sequence[int] = (),
) -> optax.Schedule:
    """Linear over the warm-up, then half a cosine down to `end`: by default at the last step.

    power: falls as (1 - x)^power instead of a cosine, x from 0 to 1, as segmenters do ("poly").
    drops: steps from which on the rate is a tenth of what it was, in place of a fall (detectron2);
    a step that stands there twice makes it a hundredth.

    warmup_from: the rate of the first step. cosine_steps: the step at which the cosine is down,
    None = the last; `end` stays from then on. cosine_from: "start" counts it from step 0, as timm
    and PyTorch do, so that the warm-up covers its first part; "warmup" from there, as MAE does.
    moves: "step" with every step; "epoch" once an epoch of `steps_per_epoch`, as timm does;
    "epoch_late" so too, to what the epoch before should have had, as DeiT's authors step it;
    "epoch_after_warmup" so too, but with every step of the warm-up, as FilterViT's authors do.
    """
    first = warmup_steps if cosine_from == "warmup" else 0
    last = total_steps if cosine_steps is None else cosine_steps
    cosine = optax.cosine_decay_schedule(peak, last - first, alpha=end / peak if peak else 0.0)
    fall = cosine if power is None else optax.polynomial_schedule(peak, end, power, last - first)
    if drops:
        factors = {step - first: 0.1 ** drops.count(step) for step in drops}
        fall = optax.piecewise_constant_schedule(peak, factors)
    warmup = optax.linear_schedule(warmup_from, peak, max(warmup_steps, 1))

    def rate(step: jax.typing.ArrayLike) -> jax.Array:
        epoch = jnp.floor(jnp.asarray(step) / steps_per_epoch)
        began = jnp.maximum(epoch - (moves == "epoch_late"), 0) * steps_per_epoch
        after = fall((step if moves == "step" else began) - first)
        if not warmup_steps:
            return after
        if moves in ("step", "epoch_after_warmup"):
            return jnp.where(step < warmup_steps, warmup(step), after)
        # A warm-up of whole epochs, in steps, is rounded.
        return jnp.where(began + 0.5 < warmup_steps, warmup(began), after)

    return rate

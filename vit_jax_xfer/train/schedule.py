"""When things happen in a run: its length, its warm-up, its evaluations and checkpoints."""

import dataclasses

from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True)
class RunSchedule:
    """All in steps."""

    total_steps: int
    warmup_steps: int
    eval_every: int  # 0 = at the end only
    save_every: int  # 0 = with the evaluations
    cosine_steps: int | None = None  # after which the rate stays at its end; None = at the last
    steps_per_epoch: float = 1.0

    def evaluates_at(self, step: int) -> bool:
        """Whether the state before `step` is evaluated."""
        return step == self.total_steps or _divides(self.eval_every, step)

    def saves_at(self, step: int) -> bool:
        """Whether the state before `step` is saved."""
        return step == self.total_steps or _divides(self.save_every or self.eval_every, step)


def learning_rates(config: ConfigDict) -> tuple[float, float]:
    """Peak and end of the learning rate, scaled with the batch size where the config says so."""
    optim = config.optim
    scale = config.batch_size / optim.lr_for_batch if optim.lr_for_batch else 1.0
    # The published recipes scale the peak alone: their floor is absolute.
    return optim.lr * scale, optim.end_lr


def _divides(every: int, step: int) -> bool:
    return every > 0 and step > 0 and step % every == 0


def make_run_schedule(config: ConfigDict, steps_per_epoch: float) -> RunSchedule:
    """Steps from a config that counts in steps or in epochs; ValueError unless it says one."""
    c = config
    if (c.steps is None) == (c.epochs is None):
        raise ValueError(f"steps, epochs: set exactly one; got {c.steps} and {c.epochs}")
    total = c.steps if c.steps is not None else round(c.epochs * steps_per_epoch)
    if total < 1 and c.task["name"] != "ensemble":
        raise ValueError(f"steps, epochs: {total} steps are none; the run needs at least one")
    if None not in (c.optim.warmup_steps, c.optim.warmup_epochs):
        raise ValueError("optim.warmup_steps, optim.warmup_epochs: set at most one")
    warmup, field = c.optim.warmup_steps or 0, "optim.warmup_steps"
    if c.optim.warmup_epochs is not None:
        warmup, field = round(c.optim.warmup_epochs * steps_per_epoch), "optim.warmup_epochs"
    if total and not 0 <= warmup < total:
        raise ValueError(f"{field}: {warmup} steps of warm-up do not fit in {total} steps")
    if c.log.every < 1:
        raise ValueError(f"log.every: expected 1 or more, got {c.log.every}")
    cosine = None
    if c.optim.cosine_epochs is not None:
        cosine = round(c.optim.cosine_epochs * steps_per_epoch)
        if not warmup < cosine <= total:
            raise ValueError(
                f"optim.cosine_epochs: {cosine} steps, expected more than the {warmup} of the "
                f"warm-up and at most all {total}"
            )
    return RunSchedule(total, warmup, c.eval.every, c.checkpoint.every, cosine, steps_per_epoch)

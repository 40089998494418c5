"""Another length for a run than its config's: steps for epochs and back, the warm-up with it."""

from collections.abc import Collection

from ml_collections import ConfigDict

UNITS = ("steps", "epochs")


def set_length(
    config: ConfigDict,
    unit: str,
    value: float,
    given: Collection[str] = (),
    keep_share: bool = False,
) -> list[str]:
    """Makes a run so many "steps" or "epochs" long; what was said in the other unit is unset.

    A warm-up, and an end of the cosine, keeps its share of the run where it would not fit into it,
    or is said in the unit that is gone; else it stays, so that a run can be made longer.
    keep_share: it keeps its share in any case.
    given: fields that somebody chose, such as "optim.warmup_steps", which stay as they are. Returns
    what else was changed, each "optim.warmup_epochs=20.0 → optim.warmup_steps=100". An error of
    what doesn't fit all the same is `make_run_schedule`'s.
    """
    before = next((one for one in UNITS if config[one] is not None), unit)
    length = config[before]
    changed = []
    with config.unlocked():
        for other in UNITS:
            if other not in (unit, *given) and config[other] is not None:
                changed.append(f"{other}={config[other]} → None")
                config[other] = None
        config[unit] = int(value) if unit == "steps" else float(value)
        if length and "optim.warmup_steps" not in given and "optim.warmup_epochs" not in given:
            changed += _rescale(config, "warmup", before, unit, value / length, keep_share)
        if length and unit == before == "epochs" and "optim.cosine_epochs" not in given:
            changed += _rescale(config, "cosine", before, unit, value / length, keep_share)
    return changed


def _rescale(
    config: ConfigDict, what: str, before: str, unit: str, factor: float, always: bool
) -> list[str]:
    """A part of a run that has become so many times as long, in its new unit."""
    optim, old, new = config.optim, f"{what}_{before}", f"{what}_{unit}"
    part = optim[old]
    if not part or (before == unit and part < config[unit] and not always):
        return []
    optim[old] = None
    optim[new] = round(part * factor) if unit == "steps" else round(part * factor, 6)
    return [f"optim.{old}={part} → optim.{new}={optim[new]}"]

"""Which stages a filter network can be made of."""

from collections.abc import Iterator, Sequence

from vit_jax_xfer.arguments.whole_numbers import check_whole
from vit_jax_xfer.models.filter.filter_blocks import Stage

KINDS = ("pooled", "filter", "full")
# The numbers of a stage, and the least of each.
_LEAST = {"width": 1, "heads": 1, "expand": 1, "layers": 1, "stride": 1, "grid": 1, "reduce": 1}
_LEAST["position_width"] = 0


def check_stages(stages: Sequence[Stage], entering: int, attends: bool) -> None:
    """ValueError, naming the stage and its field, for stages that no network has.

    entering: channels of the map that enters the first. attends: whether its blocks do, for
    otherwise nothing hangs on their heads.
    """
    for i, stage in enumerate(stages):
        for field, least in _LEAST.items():
            check_whole(f"stages: stage {i}: {field}", getattr(stage, field), least)
        if wrong := next(_wrong(stage, entering, attends), None):
            raise ValueError(f"stages: stage {i}: {wrong}")
        entering = stage.width


def _wrong(stage: Stage, entering: int, attends: bool) -> Iterator[str]:
    """What is wrong with a stage that a map of so many channels enters."""
    if stage.kind not in KINDS:
        yield f"kind {stage.kind!r} is none of {', '.join(KINDS)}"
    channels = entering // stage.reduce if stage.kind == "full" else entering
    if attends and (not channels or channels % stage.heads):
        yield f"heads: {stage.heads} do not divide the {channels} channels that attend"
    if attends and stage.kind != "full" and channels % 2:
        yield f"positions take an even number of channels, and {channels} enter"

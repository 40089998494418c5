"""What a finished model remembers of how its images are prepared."""

from vit_jax_xfer.data.geometry import CenterCrop, Resize
from vit_jax_xfer.data.transforms import normalisation_of, parse
from vit_jax_xfer.models.preprocessing import Preprocessing
from vit_jax_xfer.models.protocol import Network


def with_preparation(model: Network, pipeline: str, image_shape: tuple[int, ...]) -> Network:
    """The network with a Preprocessing like an evaluation pipeline, for images (H, W, 3).

    Unchanged where it has one already, has no place for one, or where the pipeline normalises more
    than once, which no Preprocessing says.
    """
    normalisation = normalisation_of(pipeline)
    if model.preprocessing is not None or normalisation is None:
        return model
    height, width = image_shape[:2]
    fields = {"size": height if height == width else (height, width), "crop": 1.0}
    for op in parse(pipeline).ops:
        if isinstance(op, Resize):
            fields["interpolation"] = op.interpolation
            fields["crop_mode"] = _crop_mode(op, square=height == width)
            resized = op.size if isinstance(op.size, int) else max(op.size)
        if isinstance(op, CenterCrop) and "crop_mode" in fields:
            fields["crop"] = min(max(height, width) / resized, 1.0)
            fields["crop_rounds_down"] = op.round_down
            if fields["crop_mode"] == "border":
                fields["fill"] = op.fill
    return model.with_fields(preprocessing=Preprocessing(*normalisation, **fields))


def _crop_mode(op: Resize, square: bool) -> str:
    """What a Preprocessing calls a resize, before a crop that is square or not."""
    if isinstance(op.size, int):
        return "center" if square else "short_side"
    return {"stretch": "squash", "cover": "center", "inside": "border"}[op.fit]

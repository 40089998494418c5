"""Backbones and upsamplers from files, and the extractors that a comparison is made of."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn

from vit_jax_xfer.features.backbone import Backbone, backbone_of
from vit_jax_xfer.features.feature_extractor import FeatureExtractor
from vit_jax_xfer.models.lifting.bilinear import Bilinear
from vit_jax_xfer.models.lifting.joint_bilateral import JointBilateral
from vit_jax_xfer.models.registry import network_classes
from vit_jax_xfer.pretrained.file_to_model import load_pretrained
from vit_jax_xfer.pretrained.hub import local_source
from vit_jax_xfer.pretrained.saved_models import is_saved_model

# Ways that need no training. plain: as the backbone gives them. larger: of a photograph twice as
# large. bilinear, bilateral: doubled by interpolation, and with the photograph's edges as a guide.
UNTRAINED: tuple[str, ...] = ("plain", "bilinear", "bilateral", "larger")


def load_backbone(
    source: str, family: str | None = None, num_heads: int = 0, **taken: Any
) -> tuple[Backbone, Any]:
    """The frozen network of a file or folder that `load_pretrained` reads, and its variables.

    num_heads: 0 = as the file says. taken: facet, layer, stride, log_bins. ValueError naming the
    file.
    """
    fields = {"num_heads": num_heads} if num_heads else {}
    with _named(source):
        model, variables = load_pretrained(source, family, **fields)
    return backbone_of(model, variables, source, **taken)


def load_upsampler(source: str, backbone: Backbone, variables: Any) -> tuple[nn.Module, Any]:
    """A LiFT or ConvexLiFT and its variables, checked to be one of these features.

    A run's model folder remembers what it was trained on; authors' files don't, and are taken at
    their word. ValueError for another backbone, layer or facet, and for anything that doesn't fit.
    """
    with _named(source):
        saved = is_saved_model(local_source(source))
        fields = {} if saved else {"patch_size": backbone.patch_size}
        model, weights = load_pretrained(source, None if saved else "lift", **fields)
    check_fits(source, model, backbone, variables)
    return model, weights


def check_fits(source: str, model: nn.Module, backbone: Backbone, variables: Any) -> None:
    """ValueError unless a network doubles features of this backbone, layer and facet."""
    if model.predicts != "features":
        doublers = (name for name, x in network_classes().items() if x.predicts == "features")
        kinds = " or ".join(doublers)
        raise ValueError(f"{source}: expected a {kinds}, got a {type(model).__name__}")
    if len(backbone.layers) > 1:
        raise ValueError(f"{source}: doubles features of one layer, got {len(backbone.layers)}")
    if backbone.step != backbone.patch_size or backbone.log_bins:
        raise ValueError(
            f"{source}: a {type(model).__name__} doubles features of patches side by side; drop "
            "stride and log_bins"
        )
    if model.patch_size != backbone.patch_size:
        raise ValueError(
            f"{source}: patch_size: made for {model.patch_size} pixels, and {backbone.name} has "
            f"{backbone.patch_size}"
        )
    if model.width != backbone.width:
        raise ValueError(
            f"{source}: width: made for features of {model.width} channels, and {backbone.name} "
            f"has {backbone.width}"
        )
    if model.source is not None:
        try:
            model.source.check(backbone.source(variables))
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from None


def make_extractors(
    backbone: Backbone,
    variables: Any,
    lifts: Sequence[str] = (),
    steps: Sequence[int] = (1, 2),
    names: Sequence[str] = UNTRAINED,
) -> list[FeatureExtractor]:
    """Those of UNTRAINED that are named, and each trained network at each of `steps`.

    Ordered as UNTRAINED, larger input last. lifts: paths for `load_upsampler`. ValueError for
    unknown names, steps below 1 and files that don't fit the backbone.
    """
    if unknown := sorted(set(names) - set(UNTRAINED)):
        raise ValueError(f"extractors: {unknown[0]!r} is none of {', '.join(UNTRAINED)}")
    if bad := [step for step in steps if step < 1]:
        raise ValueError(f"steps: got {bad[0]}, expected 1 or more")
    extractors = []
    if "plain" in names:
        extractors.append(FeatureExtractor("plain", backbone, (variables, {})))
    if "bilinear" in names:
        extractors += _repeated(
            "bilinear", backbone, variables, Bilinear(backbone.patch_size), {}, steps
        )
    if "bilateral" in names:
        if backbone.step != backbone.patch_size:
            raise ValueError(
                "extractors: bilateral takes features of patches side by side; leave it out, or "
                "drop stride"
            )
        filtered = JointBilateral(patch_size=backbone.patch_size)
        extractors += _repeated("joint bilateral", backbone, variables, filtered, {}, steps)
    loaded = [(path, *load_upsampler(path, backbone, variables)) for path in lifts]
    kinds = [type(model) for _, model, _ in loaded]
    for path, model, weights in loaded:
        label = type(model).__name__
        if kinds.count(type(model)) > 1:
            label += f" {path}"
        extractors += _repeated(label, backbone, variables, model, weights, steps)
    if "larger" in names:
        extractors.append(FeatureExtractor("input ×2", backbone, (variables, {}), enlarge=2))
    return extractors


@contextlib.contextmanager
def _named(source: str) -> Iterator[None]:
    """Errors say which file it was, and where a run's folder has its model."""
    if (Path(source) / "model" / "model.json").is_file():
        raise ValueError(f"{source}: is the folder of a run; its model is {Path(source) / 'model'}")
    try:
        yield
    except ValueError as error:
        raise ValueError(str(error) if source in str(error) else f"{source}: {error}") from error


def _repeated(
    label: str,
    backbone: Backbone,
    variables: Any,
    model: nn.Module,
    weights: Any,
    steps: Sequence[int],
) -> list[FeatureExtractor]:
    return [
        FeatureExtractor(f"{label} ×{step}", backbone, (variables, weights), model, step)
        for step in steps
    ]

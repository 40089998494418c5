"""FilterViT's and DropoutViT's authors' files: their names, and which network they are of.

Source: the state dicts of the public code of 2410.22709. Position tables are not in them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vit_jax_xfer.models.filter.blocks import Stage
from vit_jax_xfer.models.filter.network import PUBLISHED
from vit_jax_xfer.pretrained.families import FAMILIES
from vit_jax_xfer.pretrained.fields import classes_of
from vit_jax_xfer.pretrained.files import Checkpoint
from vit_jax_xfer.pretrained.fill import flatten
from vit_jax_xfer.pretrained.layout import (
    CONV,
    LINEAR,
    POINTWISE,
    PROJ_KERNEL,
    QKV_BIAS,
    QKV_KERNEL,
)
from vit_jax_xfer.pretrained.lazy import LazyState
from vit_jax_xfer.pretrained.names import (
    BATCH_COUNTS,
    Rule,
    State,
    affine,
    batch_norm,
    norm,
    rule,
    to_publisher,
)
from vit_jax_xfer.pretrained.reading import Fields
from vit_jax_xfer.pretrained.recognise import Recognised


def recognise_filter_vit(checkpoint: Checkpoint, given: Fields) -> Recognised:
    """The network in one of the authors' files. given: fields of `FilterViT` by keyword.

    ValueError naming a field that is unknown or disagrees with the file.
    """
    from vit_jax_xfer.models.registry import create_model

    state = LazyState(checkpoint.state)
    if not is_filter_vit(state):
        raise ValueError(
            "family: 'filter_vit' has names as first_conv.0.layer1.0.weight, and the file has "
            f"{', '.join(list(state)[:3])}, …"
        )
    name = published_name(state)
    head = "mlp_head.3.weight" if PUBLISHED[name]["head_width"] else "classifier.0.weight"
    if head not in state:
        raise ValueError(f"{head}: not in the file, and the number of classes is read from it")
    classes = classes_of(state.shape(head)[0], given.get("num_classes"))
    model = create_model(name, **{**given, "num_classes": classes})
    drop = () if classes else ("mlp_head.", "classifier.")
    return Recognised(
        model=model,
        family=FAMILIES["filter_vit"],
        dialect="the authors'",
        state=state.mapped(lambda name: None if name.startswith(drop) else name) if drop else state,
        rules=rules(name),
        ignored=(BATCH_COUNTS,),
        shown=str,
        stored_size=None,
        left_out=checkpoint.left_out,
    )


def is_filter_vit(state: LazyState) -> bool:
    """Whether a file's names are those of the authors' networks."""
    return "first_conv.0.layer1.0.weight" in state and any(
        name.startswith("leaky_att_network.") for name in state
    )


def published_name(state: LazyState) -> str:
    """Which of the published networks a file holds."""
    if any(name.startswith("first_ConvFormer.") for name in state):
        return "filter_vit_xxs"
    if "classifier.0.weight" in state:
        return "filter_vit_s2"
    if state.shape("first_conv.0.layer1.0.weight")[0] == 128:
        return "filter_vit_s"
    scored = any(".leaky_attention.conv." in name for name in state)
    return "filter_vit_xs" if scored else "dropout_vit_xs"


def to_names(variables: Mapping[str, Any]) -> State:
    """{the authors' name: numpy array} of a published network's variables."""
    params = {path: np.asarray(x) for path, x in flatten(variables["params"])}
    stats = {f"batch_stats/{path}": np.asarray(x) for path, x in flatten(variables["batch_stats"])}
    scored = "stage_1/score/kernel" in params
    if "head_hidden/kernel" not in params:
        name = "filter_vit_s2"
    elif params["stem/conv/kernel"].shape[-1] == 128:
        name = "filter_vit_s"
    elif "stage_7/encoder_0/fc1/kernel" in params:
        name = "filter_vit_xs" if scored else "dropout_vit_xs"
    else:
        name = "filter_vit_xxs"
    return to_publisher({**params, **stats}, rules(name))


def rules(name: str) -> tuple[Rule, ...]:
    """The name map of a published network."""
    found = [
        *affine("stem/conv", "first_conv.0.layer1.0", CONV),
        *batch_norm("stem/norm", "first_conv.0.layer1.1"),
        *_residual("stem_residual", "first_conv.1.block"),
    ]
    for i, (stage, theirs) in enumerate(zip(PUBLISHED[name]["stages"], _places(name), strict=True)):
        found += _stage(f"stage_{i}", theirs, stage)
    if PUBLISHED[name]["head_width"]:
        found += affine("head_hidden", "mlp_head.0", LINEAR)
        found += affine("head", "mlp_head.3", LINEAR)
    else:
        found += affine("head", "classifier.0", LINEAR)
    return tuple(found)


def _places(name: str) -> list[str]:
    """The authors' module of each stage."""
    kinds = [stage.kind for stage in PUBLISHED[name]["stages"]]
    full = kinds.count("full")
    places = [f"leaky_att_network.{i}" for i in range(len(kinds) - full)]
    if name == "filter_vit_xxs":
        places = ["first_ConvFormer", *places[:-1]]
    return places + [f"network.{i}" for i in range(full)]


def _stage(ours: str, theirs: str, stage: Stage) -> list[Rule]:
    inside = f"{theirs}.leaky_attention" if stage.kind == "filter" else theirs
    found: list[Rule] = []
    for layer in range(stage.layers):
        found += _encoder(f"{ours}/encoder_{layer}", f"{inside}.trans.{layer}")
    if stage.kind == "filter":
        found += affine(f"{ours}/score", f"{inside}.conv.layer1.0", CONV)
        found += batch_norm(f"{ours}/score/norm", f"{inside}.conv.layer1.1")
    for name, module in (("reduce", "reduce"), ("widen", "expand")):
        found += _residual(f"{ours}/{name}", f"{theirs}.{module}.block")
    last = "conv_block" if stage.kind == "filter" else "conv"
    return [*found, *_residual(f"{ours}/residual", f"{theirs}.{last}.block")]


def _encoder(ours: str, theirs: str) -> list[Rule]:
    return [
        rule(f"{ours}/qkv_kernel", f"{theirs}.self_attn.in_proj_weight", QKV_KERNEL),
        rule(f"{ours}/qkv_bias", f"{theirs}.self_attn.in_proj_bias", QKV_BIAS),
        *affine(f"{ours}/proj", f"{theirs}.self_attn.out_proj", PROJ_KERNEL),
        *affine(f"{ours}/fc1", f"{theirs}.linear1", LINEAR),
        *affine(f"{ours}/fc2", f"{theirs}.linear2", LINEAR),
        *norm(f"{ours}/norm1", f"{theirs}.norm1"),
        *norm(f"{ours}/norm2", f"{theirs}.norm2"),
    ]


def _residual(ours: str, theirs: str) -> list[Rule]:
    found: list[Rule] = []
    for name, module, layout in (
        ("widen", "exp_1x1", POINTWISE),
        ("depthwise", "conv_3x3", CONV),
        ("project", "red_1x1", POINTWISE),
    ):
        found.append(rule(f"{ours}/{name}/kernel", f"{theirs}.{module}.block.conv.weight", layout))
        found += batch_norm(f"{ours}/{name}_norm", f"{theirs}.{module}.block.norm")
    return found

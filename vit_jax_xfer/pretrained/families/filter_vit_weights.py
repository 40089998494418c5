"""FilterViT and DropoutViT (2410.22709): their authors' files, and which network is in one.

Source: the state dicts of the public code. Position tables are not in them.
"""

from vit_jax_xfer.models.filter.filter_blocks import Stage
from vit_jax_xfer.models.filter.network import PUBLISHED
from vit_jax_xfer.models.preprocessing import INCEPTION, Preprocessing
from vit_jax_xfer.pretrained.family_entry import (
    Family,
    Naming,
    OtherNetwork,
    StoredNetwork,
    classes_of,
)
from vit_jax_xfer.pretrained.fields_from_shapes import Fields
from vit_jax_xfer.pretrained.fresh_head import parts_afresh
from vit_jax_xfer.pretrained.lazy_arrays import LazyState
from vit_jax_xfer.pretrained.parameter_rules import (
    BATCH_COUNTS,
    CONV,
    LINEAR,
    POINTWISE,
    PROJ_KERNEL,
    QKV_BIAS,
    QKV_KERNEL,
    Rule,
    State,
    affine,
    batch_norm,
    norm,
    rule,
)
from vit_jax_xfer.pretrained.read_files import Checkpoint
from vit_jax_xfer.pretrained.rename import Dialect

_AUTHORS = Dialect(
    name="the authors'",
    signature=("first_conv.0.layer1.0.weight",),
    ignored=(BATCH_COUNTS,),
)


def _is_in(state: LazyState) -> bool:
    """Whether the names are those of the authors' networks."""
    return "first_conv.0.layer1.0.weight" in state and any(
        name.startswith("leaky_att_network.") for name in state
    )


def _network(checkpoint: Checkpoint, given: Fields) -> StoredNetwork:
    """The network in a file. given: fields of `FilterViT` by keyword.

    ValueError naming a field that is unknown or disagrees with the file.
    """
    from vit_jax_xfer.models.registry import create_model

    state = checkpoint.state
    if not _is_in(state):
        raise ValueError(
            "family: 'filter_vit' has names as first_conv.0.layer1.0.weight, and the file has "
            f"{', '.join(list(state)[:3])}, …"
        )
    name = _name_of_file(state)
    head = "mlp_head.3.weight" if PUBLISHED[name]["head_width"] else "classifier.0.weight"
    if head not in state:
        raise ValueError(f"{head}: not in the file, and the number of classes is read from it")
    stored = state.shape(head)[0]
    classes = classes_of(stored, given.get("num_classes"))
    model = create_model(name, **{**given, "num_classes": classes})
    if classes != stored:
        off = (head.removesuffix("weight"),) if classes else ("mlp_head.", "classifier.")
        state = state.mapped(lambda name: None if name.startswith(off) else name)
    return StoredNetwork(model, rules(name), state, parts_afresh(model, stored))


def _name_of_file(state: LazyState) -> str:
    """Which of the published networks a file holds."""
    if any(name.startswith("first_ConvFormer.") for name in state):
        return "filter_vit_xxs"
    if "classifier.0.weight" in state:
        return "filter_vit_s2"
    if state.shape("first_conv.0.layer1.0.weight")[0] == 128:
        return "filter_vit_s"
    scored = any(".leaky_attention.conv." in name for name in state)
    return "filter_vit_xs" if scored else "dropout_vit_xs"


def _name_of_params(params: State) -> str:
    """Which of the published networks parameters are of."""
    scored = "stage_1/score/kernel" in params
    if "head_hidden/kernel" not in params:
        return "filter_vit_s2"
    if params["stem/conv/kernel"].shape[-1] == 128:
        return "filter_vit_s"
    if "stage_7/encoder_0/fc1/kernel" in params:
        return "filter_vit_xs" if scored else "dropout_vit_xs"
    return "filter_vit_xxs"


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


FILTER_VIT = Family(
    name="filter_vit",
    source="FilterViT and DropoutViT (2410.22709)",
    names={"publisher": Naming(_AUTHORS, rules=lambda params: rules(_name_of_params(params)))},
    fits=lambda evidence: False,  # no vision transformer
    preprocessing=Preprocessing(*INCEPTION, interpolation="bilinear"),
    other=OtherNetwork(_is_in, _network),
)

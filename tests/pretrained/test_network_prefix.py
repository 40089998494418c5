"""A network under any prefix that a trainer put before it: found, or named with the way out."""

import numpy as np
import pytest

from tests.outputs import assert_same_network, prefixed
from vit_jax_xfer.pretrained.families import FAMILIES
from vit_jax_xfer.pretrained.loading_notes import LoadingNote
from vit_jax_xfer.pretrained.network_prefix import under_its_prefix
from vit_jax_xfer.pretrained.read_files import read_checkpoint

TIMM = ("cls_token", "patch_embed.proj.weight", "blocks.0.norm1.weight", "head.weight")
HUGGING_FACE = (
    "vit.embeddings.patch_embeddings.projection.weight",
    "vit.encoder.layer.0.layernorm_before.weight",
    "classifier.weight",
)
OPEN_CLIP = ("visual.conv1.weight", "visual.transformer.resblocks.0.attn.in_proj_weight")
OPEN_CLIP_TEXT = ("transformer.resblocks.0.attn.in_proj_weight", "ln_final.weight", "logit_scale")
CLIP = (
    "vision_model.embeddings.patch_embedding.weight",
    "vision_model.encoder.layers.0.self_attn.q_proj.weight",
)
FLAX = ("embedding/kernel", "Transformer/encoderblock_0/LayerNorm_0/scale")
DIALECTS = [dialect for family in FAMILIES.values() for dialect in family.dialects]


def named(*names, prefix="", value=1.0):
    return {prefix + name: np.full((2, 2), value, np.float32) for name in names}


def found(source, weights=None):
    return under_its_prefix(read_checkpoint(source, weights), DIALECTS)


def fails(match, source, weights=None):
    with pytest.raises(ValueError, match=match) as caught:
        found(source, weights)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("source: ")


PREFIXES = [
    *("module.", "model.", "_orig_mod.", "backbone.", "net.", "network.", "encoder.", "vit."),
    *("_forward_module.", "_fsdp_wrapped_module.", "ema_model.module.", "online_encoder."),
    *("image_encoder.", "timm_model.", "module.0.", "module.model.backbone.", "0.", "trunk."),
    *("_orig_mod.module.model.", "model._orig_mod.", "model.vision_tower.", "student.backbone."),
    *("base_model.model.", "model.visual.trunk.", "feature_extractor.backbone.model.net."),
]  # fmt: skip


@pytest.mark.parametrize("wrapper", [None, "state_dict", "module"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_any_prefix_comes_off(prefix, wrapper):
    source = named(*TIMM, prefix=prefix)
    assert set(found({wrapper: source} if wrapper else source).state) == set(TIMM)


@pytest.mark.parametrize(
    "mark", ["_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod."]
)
@pytest.mark.parametrize("prefix", ["", "model."])
def test_marks_in_the_middle_come_off(prefix, mark):
    names = [name.replace("blocks.0.", f"blocks.0.{mark}") for name in TIMM]
    names = [name.replace("norm1.", f"norm1.{mark}") for name in names]
    assert set(found(named(*names, prefix=prefix)).state) == set(TIMM)
    both = {**named(*names, prefix="model."), **named("model.blocks.0.norm1.weight")}
    fails("norm1.weight has the same place as another name", both)


@pytest.mark.parametrize(
    ("names", "prefix", "left"),
    [
        (HUGGING_FACE, "net.", HUGGING_FACE),
        ((*OPEN_CLIP, *OPEN_CLIP_TEXT), "model.", [n.removeprefix("visual.") for n in OPEN_CLIP]),
        ((*CLIP, "text_model.a"), "net.clip.", [n.removeprefix("vision_model.") for n in CLIP]),
        (FLAX, "params/backbone/", FLAX),
    ],
)
def test_other_ways_of_naming(names, prefix, left):
    assert set(found(named(*names, prefix=prefix)).state) == set(left)


@pytest.mark.parametrize("prefix", ["model.", "net.0."])
def test_metrics_and_counters_beside_are_left_out(prefix):
    beside = {
        "train_acc.tp": np.zeros(5, np.float32),
        "val_acc.confmat": np.zeros((5, 5), np.float32),
        "val_loss.mean_value": np.float32(3),
        "n_averaged": np.array(7),
        "seen": np.zeros(9, np.int64),
    }
    with pytest.warns(LoadingNote, match=f"left out beside the prefix '{prefix}': train_acc.tp, "):
        checkpoint = found({**named(*TIMM, prefix=prefix), **beside})
    assert set(checkpoint.state) == set(TIMM) and checkpoint.left_out == tuple(beside)


@pytest.mark.parametrize("beside", ["head.weight", "criterion.weight", "modelx.w", "decoder/w"])
def test_parameters_beside_are_named_with_the_way_out(beside):
    source = {**named(*TIMM[:3], prefix="model.backbone."), **named(beside)}
    fails(f"prefix 'model.backbone.', .* stand {beside}; pass weights='model.backbone'", source)
    for weights in ("model.backbone", "model.backbone."):
        alone = found(source, weights)
        assert set(alone.state) == set(TIMM[:3]) and len(alone.left_out) == 1


def test_several_networks_are_a_choice():
    encoders = ("encoder", "target_encoder")
    flat = {}
    for value, name in enumerate(encoders):
        flat |= named(*TIMM, prefix=f"module.{name}.", value=value)
    flat |= named("module.predictor.blocks.0.norm1.weight")
    fails("several networks, under the prefixes encoder, target_encoder; pass one", flat)
    apart = {
        name: named(*TIMM, prefix="module.", value=value) for value, name in enumerate(encoders)
    }
    apart |= {"predictor": named("module.a.b"), "opt": {"state": {}}, "epoch": 3}
    fails("holds several networks: encoder, target_encoder, predictor; pass one", apart)
    for source in (flat, apart):
        for value, name in enumerate(encoders):
            state = found(source, name).state
            assert set(state) == set(TIMM) and state["cls_token"][0, 0] == value


@pytest.mark.parametrize("average", ["ema_model.module.", "model_ema.", "net_ema.", "ema."])
def test_of_an_average_and_its_network_it_says_which(average):
    source = {**named(*TIMM, prefix="net.", value=1), **named(*TIMM, prefix=average, value=2)}
    with pytest.warns(LoadingNote, match=f"takes net; .*average, pass weights='{average[:-1]}'"):
        assert found(source).state["cls_token"][0, 0] == 1
    assert found(source, average[:-1]).state["cls_token"][0, 0] == 2
    assert found(source, "net").state["cls_token"][0, 0] == 1


@pytest.mark.parametrize(
    "names",
    [
        ("layers.0.blocks.0.norm1.weight", "patch_embed.norm.bias"),  # Swin
        ("text.blocks.0.norm1.weight", "text.embed.weight"),
        ("conv1.weight", "layer1.0.bn1.weight"),
        (*TIMM, "decoder.blocks.0.norm1.weight", "decoder.patch_embed.proj.weight"),
    ],
)
def test_what_has_no_prefix_of_a_network_stays(names):
    assert set(found(named(*names)).state) == set(names)


def test_the_whole_network(golden):
    state = golden("dino/native")
    source = {"state_dict": {**prefixed("net.vit.", state), "acc.total": np.array(3)}, "epoch": 1}
    assert_same_network(source, state, "dino")

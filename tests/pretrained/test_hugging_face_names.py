"""Hugging Face's names, those of its hub's files and those of its newer versions."""

import numpy as np
import pytest

from tests.outputs import assert_same, assert_same_network, prefixed, renamed
from vit_jax_xfer.pretrained import load_pretrained
from vit_jax_xfer.pretrained.file_to_model import load_on_host

OLD_ATTENTION = (
    (r"attention\.q_proj\.", "attention.attention.query."),
    (r"attention\.k_proj\.", "attention.attention.key."),
    (r"attention\.v_proj\.", "attention.attention.value."),
    (r"attention\.o_proj\.", "attention.output.dense."),
)
OLD_VIT = (
    *OLD_ATTENTION,
    (r"(^|\.)layers\.(\d)", r"\1encoder.layer.\2"),
    (r"mlp\.fc1\.", "intermediate.dense."),
    (r"mlp\.fc2\.", "output.dense."),
    (r"(\d)\.relative_position_bias\.", r"\1.attention.attention.relative_position_bias."),
)
HEAD = ("classifier.weight", "classifier.bias")


@pytest.mark.parametrize(
    ("case", "family", "pairs"),
    [
        ("vit", "supervised", OLD_VIT),
        ("deit", "deit", OLD_VIT),
        ("beit", "beit", OLD_VIT),
        ("vit_mae", "dino", OLD_VIT),
        ("dinov2", "dinov2", OLD_ATTENTION),
        ("dinov2_registers", "dinov2", OLD_ATTENTION),
        ("dinov3", "dinov3", ((r"^model\.layer\.", "layer."),)),
    ],
)
def test_names_of_the_hub(golden, case, family, pairs):
    state = golden(f"hf/{case}")
    old = renamed(state, *pairs)
    assert old.keys() != state.keys()
    assert_same_network(old, state, family)


@pytest.mark.parametrize(("case", "prefix"), [("vit", "vit."), ("deit", "deit.")])
def test_a_backbone_alone(golden, case, prefix):
    state = golden(f"hf/{case}")
    alone = {name.removeprefix(prefix): x for name, x in state.items() if name not in HEAD}
    assert_same_network(alone, {k: x for k, x in state.items() if k not in HEAD}, told(alone))


def told(state):
    return load_on_host(state, num_heads=3)[2].family.name


def test_deit_with_its_teacher(golden):
    """Both heads, of which the first is called cls_classifier."""
    state = golden("hf/deit")
    for leaf in ("weight", "bias"):
        state[f"cls_classifier.{leaf}"] = state.pop(f"classifier.{leaf}")
        state[f"distillation_classifier.{leaf}"] = state[f"cls_classifier.{leaf}"] + 1
    model, variables, found = load_on_host(state, num_heads=3)
    assert found.family.name == "deit" and model.has_distillation_head
    heads = (variables["params"][name] for name in ("head", "distillation_classifier"))
    first, second = (head["bias"] for head in heads)
    np.testing.assert_array_equal(first, state["cls_classifier.bias"])
    np.testing.assert_array_equal(second, state["distillation_classifier.bias"])
    # Without its teacher's head the token is there all the same.
    model, _ = load_pretrained(golden("hf/deit"), num_heads=3)
    assert model.distillation_token and not model.has_distillation_head


@pytest.mark.parametrize(("case", "family"), [("clip", "clip"), ("siglip", "siglip")])
def test_towers_and_whole_models(golden, case, family):
    state = golden(f"hf/{case}")
    tower = prefixed("vision_model.", state)
    assert_same_network(tower, state, family)
    positions = {"vision_model.embeddings.position_ids": np.arange(17)[None]}
    text = {
        "text_model.embeddings.token_embedding.weight": np.ones((60, 32)),
        "text_model.encoder.layers.0.self_attn.q_proj.weight": np.ones((32, 32)),
        "logit_scale": np.array(4.6),
    }
    assert_same_network({**tower, **text, **positions}, state, family)
    if family == "clip":
        whole = {**tower, **text, "text_projection.weight": np.ones((24, 32))}
        whole["visual_projection.weight"] = np.arange(24 * 48.0).reshape(24, 48)
        model, variables, _ = load_on_host(whole, num_heads=3)
        assert (model.num_classes, model.head_bias) == (24, False)
        found = variables["params"].pop("head")
        np.testing.assert_array_equal(found["kernel"], whole["visual_projection.weight"].T)
        assert_same(variables, load_pretrained(state, num_heads=3)[1])


@pytest.mark.parametrize("case", ["clip", "siglip"])
def test_classifiers_that_leave_the_pooling_out(golden, case):
    """Transformers' read a mean of the tokens: SigLIP's after the last norm, CLIP's before it."""
    head = {"classifier.weight": np.ones((5, 48)), "classifier.bias": np.arange(5.0)}
    state = {**prefixed("vision_model.", golden(f"hf/{case}")), **head}
    if case == "clip":
        with pytest.raises(ValueError, match="classifier: .*; num_classes=0 loads without it"):
            load_pretrained(state, num_heads=3)
    else:
        model, variables, found = load_on_host(state, num_heads=3)
        assert (found.family.name, model.num_classes, model.pool) == ("siglip", 5, "avg")
        assert not model.norm_after_pool and "attention_pool" not in variables["params"]
        np.testing.assert_array_equal(variables["params"]["head"]["bias"], np.arange(5))
    model, variables = load_pretrained(state, num_heads=3, num_classes=0)
    assert model.pool == {"clip": "cls", "siglip": "map"}[case]
    assert_same(variables, load_pretrained(golden(f"hf/{case}"), num_heads=3)[1])


def test_the_pooler_of_vit(golden):
    """A dense layer and tanh, as in ViT's files of 21 thousand classes."""
    state = {name: x for name, x in golden("hf/vit").items() if name not in HEAD}
    pooler = {"pooler.dense.weight": np.eye(48) + 1, "pooler.dense.bias": np.arange(48.0)}
    alone = {name.removeprefix("vit."): x for name, x in state.items()}
    model, variables, found = load_on_host({**alone, **pooler}, num_heads=3)
    assert (found.family.name, model.pre_logits, model.num_classes) == ("supervised", True, 0)
    found = variables["params"]["representation"]
    np.testing.assert_array_equal(found["kernel"], pooler["pooler.dense.weight"].T)


def test_masked_autoencoders(golden):
    """The decoder's blocks are called three ways."""
    state = golden("mae_pretrain/normpix_0")
    fields = {"num_heads": 3, "decoder_num_heads": 4}
    wanted = load_pretrained(state, **fields)[1]
    new = renamed(
        {name: x for name, x in state.items() if ".attn.qkv." not in name},
        (r"^(cls_token|pos_embed)$", r"vit.embeddings.\1"),
        ("pos_embed$", "position_embeddings"),
        (r"^patch_embed\.proj\.", "vit.embeddings.patch_embeddings.projection."),
        (r"^norm\.", "vit.layernorm."),
        (r"^blocks\.", "vit.layers."),
        (r"^decoder_blocks\.", "decoder.decoder_layers."),
        (r"^(mask_token|decoder_)", r"decoder.\1"),
        (r"decoder_position_embeddings", "decoder_pos_embed"),
        (r"norm1\.", "layernorm_before."),
        (r"norm2\.", "layernorm_after."),
        (r"attn\.proj\.", "attention.o_proj."),
    )
    for name, x in state.items():
        if ".attn.qkv." in name:
            block, leaf = name.split(".attn.qkv.")
            block = block.replace("decoder_blocks", "decoder.decoder_layers")
            block = block.replace("blocks", "vit.layers") if block[0] == "b" else block
            for part, one in zip("qkv", np.split(x, 3), strict=True):
                new[f"{block}.attention.{part}_proj.{leaf}"] = one
    hub = renamed(new, *OLD_VIT)
    saved = renamed(new, (r"decoder_layers\.(\d)", r"decoder_encoder.layer.\1"))
    for other in (new, hub, renamed(saved, *OLD_VIT)):
        model, variables, found = load_on_host(other, **fields)
        assert (found.family.name, model.encoder.norm_eps) == ("mae", 1e-12)
        assert_same(variables, wanted)

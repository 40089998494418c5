"""Weights out of what training scripts and whole models put around them."""

import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.pretrained.loading_notes import LoadingNote
from vit_jax_xfer.pretrained.read_files import read_checkpoint, read_state

NAMES = ("cls_token", "blocks.0.attn.qkv.weight", "head.weight")


def arrays(*names, value=0.0, prefix=""):
    return {prefix + name: np.full(2, value, np.float32) for name in names}


def names(source, weights=None):
    return set(read_checkpoint(source, weights).state)


@pytest.mark.parametrize(
    "wrapper",
    ["model", "state_dict", "model_state_dict", "module", "teacher", "student", "model_ema", "ema"],
)
def test_wrappers_and_prefixes_come_off(wrapper):
    inner = {f"module.backbone.{name}": jnp.ones(2) for name in NAMES}
    source = {wrapper: inner, "epoch": 3, "args": None, "optimizer": {"state": {}}}
    found = read_checkpoint(source)
    assert set(found.state) == set(NAMES) and found.left_out == ()


def test_wrappers_in_wrappers():
    assert names({"model": {"teacher": {"module": arrays(*NAMES)}}}) == set(NAMES)


def test_an_empty_wrapper_is_passed_over():
    assert names({"model": {}, "state_dict": arrays(*NAMES)}) == set(NAMES)
    with pytest.raises(ValueError, match="source: holds no arrays"):
        read_state({"model": {}})


@pytest.mark.parametrize(
    "prefix", ["model.", "_orig_mod.module.", "params/", "opt/target/", "img/"]
)
def test_prefixes_come_off_only_when_all_names_have_them(prefix):
    assert names(arrays(*NAMES, prefix=prefix)) == set(NAMES)
    mixed = {**arrays("a", prefix=prefix), **arrays("elsewhere")}
    assert names(mixed) == set(mixed)


@pytest.mark.parametrize("prefix", ["encoder.", "layers.", "vit.", "blocks."])
def test_prefixes_of_networks_stay(prefix):
    assert names(arrays(*NAMES, prefix=prefix)) == {prefix + name for name in NAMES}


def test_hugging_face_architectures_stay():
    whole = {**arrays("vit.encoder.w", "vit.layernorm.w"), **arrays("decoder.w", "classifier.w")}
    assert names(whole) == set(whole)


def test_choosing_a_wrapper():
    source = {
        "model": arrays("a", "b", value=1),
        "model_ema": arrays("a", "b", value=2),
        "target_encoder": arrays("module.a", value=3),
        "rng_state": np.zeros(3, np.uint8),
        "ema": 0.99,
        "epoch": 1,
    }
    found = read_checkpoint(source)
    assert found.state["a"][0] == 1
    assert found.left_out == (
        "model_ema (2 names)",
        "target_encoder (1 name)",
        "rng_state (1 name)",
    )
    assert read_checkpoint(source, "model_ema").state["a"][0] == 2
    assert read_checkpoint(source, weights="target_encoder").state["a"][0] == 3
    with pytest.raises(ValueError, match="'student'.*; there is model, model_ema, target_encoder$"):
        read_checkpoint(source, weights="student")
    with pytest.raises(ValueError, match="only one network, without a name"):
        read_checkpoint(arrays("a"), weights="student")


def test_dino_files():
    heads = arrays("head.mlp.0.weight", "head.last_layer.weight_v", "head.last_layer.weight_g")
    source = {
        "student": {
            f"module.{k}": x + 1 for k, x in {**arrays("backbone.cls_token"), **heads}.items()
        },
        "teacher": {**arrays("backbone.cls_token"), **heads},
        "dino_loss": {"center": np.zeros(3)},
        "epoch": 1,
    }
    found = read_checkpoint(source)
    assert set(found.state) == {"cls_token"} and found.state["cls_token"][0] == 0
    assert found.left_out == ("student (4 names)", "dino_loss (1 name)", "head.* (3 names)")
    assert read_checkpoint(source, "student").state["cls_token"][0] == 1


def test_dinov2_files():
    source = {
        "model": {
            **arrays("student.backbone.cls_token", "student.dino_head.mlp.0.weight", value=1),
            **arrays("teacher.backbone.cls_token", "teacher.ibot_head.mlp.0.weight", value=2),
            **arrays("dino_loss.center", "ibot_patch_loss.center"),
        },
        "iteration": 3,
    }
    found = read_checkpoint(source)
    assert set(found.state) == {"cls_token"} and found.state["cls_token"][0] == 2
    assert found.left_out == (
        "student.* (2 names)",
        "dino_loss.* (1 name)",
        "ibot_patch_loss.* (1 name)",
        "ibot_head.* (1 name)",
    )
    assert read_checkpoint(source, weights="student").state["cls_token"][0] == 1


def test_a_classifier_beside_a_backbone_stays():
    source = arrays("backbone.cls_token", "head.weight")
    assert names(source) == set(source)


def test_moco_v3_files():
    encoder = ("cls_token", "blocks.0.norm1.weight", "head.0.weight", "head.1.running_mean")
    source = {
        "state_dict": {
            **arrays(*encoder, prefix="module.base_encoder.", value=1),
            **arrays(*encoder, prefix="module.momentum_encoder.", value=2),
            **arrays("module.predictor.0.weight"),
        }
    }
    found = read_checkpoint(source)
    assert set(found.state) == set(encoder[:2]) and found.state["cls_token"][0] == 1
    assert found.left_out == (
        "base_encoder.head.* (2 names)",
        "momentum_encoder.* (4 names)",
        "predictor.* (1 name)",
    )
    assert read_checkpoint(source, "momentum_encoder").state["cls_token"][0] == 2
    assert read_checkpoint(source, "base_encoder").state["cls_token"][0] == 1
    with pytest.raises(ValueError, match="there is state_dict, base_encoder, momentum_encoder$"):
        read_checkpoint(source, "teacher")


def test_open_clip_takes_the_image_tower():
    visual = (
        "class_embedding",
        "positional_embedding",
        "proj",
        "transformer.resblocks.0.ln_1.bias",
    )
    text = (
        "transformer.resblocks.0.ln_1.bias",
        "token_embedding.weight",
        "positional_embedding",
        "ln_final.weight",
        "text_projection",
        "logit_scale",
        "logit_bias",
        "context_length",
        "input_resolution",
        "vocab_size",
    )
    found = read_checkpoint({**arrays(*visual, prefix="visual.", value=1), **arrays(*text)})
    assert set(found.state) == set(visual) and found.state["positional_embedding"][0] == 1
    assert "transformer.* (1 name)" in found.left_out and len(found.left_out) == len(text)


def test_open_clip_towers_of_timm():
    source = arrays("visual.trunk.pos_embed", "visual.trunk.norm.bias", "text.cls.w", "logit_scale")
    assert names(source) == {"pos_embed", "norm.bias"}


def test_hugging_face_clip_keeps_its_projection():
    source = {
        **arrays("vision_model.embeddings.class_embedding", "visual_projection.weight"),
        **arrays("text_model.a", "text_model.b", "text_projection.weight", "logit_scale"),
    }
    found = read_checkpoint(source)
    assert set(found.state) == {"embeddings.class_embedding", "visual_projection.weight"}
    assert found.left_out == (
        "text_model.* (2 names)",
        "text_projection.* (1 name)",
        "logit_scale (1 name)",
    )


@pytest.mark.parametrize("beside", ["visual_projection.weight", "classifier.weight"])
def test_hugging_face_image_towers_alone(beside):
    assert names(arrays("vision_model.embeddings.w", beside)) == {"embeddings.w", beside}


def test_big_vision_takes_the_image_tower():
    source = arrays("params/img/a/kernel", "params/txt/b/kernel", "params/t", "params/b")
    found = read_checkpoint({**source, **arrays("opt/0/mu", "opt/1/mu")})
    assert set(found.state) == {"a/kernel"}
    assert found.left_out == ("opt/* (2 names)", "txt/* (1 name)", "t (1 name)", "b (1 name)")


def test_flax_training_states_leave_the_optimizer_out(tmp_path):
    np.savez(tmp_path / "a.npz", **arrays("opt/target/a/kernel", "opt/state/step"))
    found = read_checkpoint(tmp_path / "a.npz")
    assert set(found.state) == {"a/kernel"} and found.left_out == ("opt/* (1 name)",)


@pytest.mark.parametrize(
    "source",
    [
        arrays("visual.proj", "logit_scale", "strange.weight"),
        arrays("vision_model.a", "text_model.b", "strange.weight"),
        arrays("img/a", "txt/b", "strange.weight"),
        arrays("backbone.a", "dino_head.b", "strange.weight"),
        arrays("base_encoder.a", "predictor.0.weight", "strange.weight"),
        arrays("teacher.a", "student.a", "dino_loss.center", "strange.weight"),
    ],
)
def test_names_that_nothing_is_known_of_stay(source):
    found = names(source)
    assert "strange.weight" in found and len(found) == 2


def test_two_names_of_one_place():
    source = arrays("vision_model.embeddings.w", "embeddings.w", "logit_scale")
    with pytest.raises(ValueError, match="source: .*embeddings.w has the same place as another"):
        read_state(source)


@pytest.mark.parametrize(
    ("content", "taken", "other"),
    [
        # timm's own rule takes the average; others' evaluation takes what was trained.
        (("state_dict", "state_dict_ema"), "state_dict_ema", "state_dict"),
        (("model", "model_ema"), "model", "model_ema"),
        (("params", "ema_params"), "params", "ema_params"),
        (("teacher", "student"), "teacher", "student"),
    ],
)
def test_of_several_it_says_which_is_taken(content, taken, other):
    source = {name: {**arrays("a.b", "c", value=n)} for n, name in enumerate(content)}
    source |= {"optimizer": {"state": {0: {"exp_avg": np.ones((9, 9))}}}, "epoch": 1}
    with pytest.warns(LoadingNote, match=f"source: takes {taken}; for {other}, which it holds too"):
        state = read_checkpoint(source).state
    assert state["c"][0] == content.index(taken)
    for number, name in enumerate(content):
        assert read_checkpoint(source, name).state["c"][0] == number


def test_nothing_is_said_where_there_is_no_choice(recwarn):
    source = {"model": arrays("a.b"), "optimizer": {"state": {0: {"exp_avg": np.ones(9)}}}}
    assert read_checkpoint(source).left_out == ("optimizer (1 name)",)
    assert not recwarn.list


@pytest.mark.parametrize("name", ["net", "backbone", "weights", "generator"])
def test_the_only_state_dict_needs_no_usual_name(name):
    assert names({name: arrays(*NAMES), "epoch": 3, "optimizer": {}}) == set(NAMES)


def test_mappings_without_end_are_refused():
    inside = {"epoch": 1}
    inside["model"] = inside
    for weights in (None, "model"):
        with pytest.raises(ValueError, match="source: .*mappings in one another without an end"):
            read_checkpoint(inside, weights)
    shared = {}
    for _ in range(40):
        shared = {"a": shared, "b": shared}  # 2⁴⁰ ways through it
    with pytest.raises(ValueError, match="source: .*mappings in one another without an end"):
        read_checkpoint({"x": shared})

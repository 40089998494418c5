"""transformers' config.json is read wholly, and what contradicts the weights is an error."""

import json

import numpy as np
import pytest

from tests.pretrained.hugging_face import Network, build
from vit_jax_xfer.data.prepare import preprocess
from vit_jax_xfer.models.transformer.positions import resize_positions
from vit_jax_xfer.pretrained import load_pretrained
from vit_jax_xfer.pretrained.loading_notes import LoadingNote
from vit_jax_xfer.pretrained.transformers_config import TYPES, read_transformers


@pytest.fixture
def folder(golden_case, tmp_path):
    """folder(case, changes) → a folder of transformers whose config.json has these changes."""
    save_file = pytest.importorskip("safetensors.numpy", reason="needs safetensors").save_file

    def write(case, changes, **arrays):
        meta, _, state = golden_case(case)
        save_file({**state, **arrays}, tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_text(json.dumps({**meta["config"], **changes}))
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("case", "changes", "shown"),
    [
        ("hf/vit", {"hidden_size": 96}, "hidden_size is 96, .* width: 48"),
        ("hf/vit", {"num_hidden_layers": 4}, "num_hidden_layers is 4, .* depth: 3"),
        ("hf/vit", {"intermediate_size": 96}, "intermediate_size is 96, .* MLP width: 192"),
        ("hf/vit", {"patch_size": [16, 16]}, "patch_size is 16, .* patch size: 8"),
        ("hf/vit", {"patch_size": [8, 16]}, r"patch_size is \[8, 16\], and patches here are squ"),
        ("hf/vit", {"num_channels": 1}, "num_channels is 1, .* channels: 3"),
        ("hf/vit", {"qkv_bias": False}, "qkv_bias is False, .* a bias of q, k and v: True"),
        ("hf/vit", {"image_size": [16, 16]}, "image_size is 16, 2×2 patches of 8, but .* 17"),
        ("hf/vit", {"image_size": "32"}, "image_size is '32', expected pixels or"),
        ("hf/vit", {"pooler_act": "gelu"}, None),
        ("hf/vit", {"id2label": {"0": "a", "1": "b"}}, "id2label's length is 2, .* classes: 10"),
        ("hf/beit", {"use_relative_position_bias": False}, "relative_position_bias is False, "),
        ("hf/beit", {"use_shared_relative_position_bias": True}, "relative_position_bias is T"),
        ("hf/beit", {"use_absolute_position_embeddings": True}, "a table of positions: False"),
        ("hf/beit", {"layer_scale_init_value": 0}, "init_value is False, .* LayerScale"),
        ("hf/vit", {"hidden_act": "silu"}, "hidden_act is 'silu', .* a gated MLP: False"),
        ("hf/vit", {"quantization_config": {"bits": 4}}, "quantised weights are not read"),
    ],
)
def test_what_the_weights_contradict(folder, case, changes, shown):
    assert load_pretrained(folder(case, {}))[0].num_heads == 3
    if shown is None:  # of a part that this file has not
        load_pretrained(folder(case, changes))
        return
    with pytest.raises(ValueError, match=shown) as caught:
        load_pretrained(folder(case, changes))
    assert str(caught.value).startswith("config.json: ")


@pytest.mark.parametrize("size", [(16, 64), [64, 16], {"height": 16, "width": 64}])
def test_the_stored_size_is_the_configurations(folder, golden_case, size):
    stored = golden_case("hf/vit").state["vit.embeddings.position_embeddings"]
    sides = tuple(size.values()) if isinstance(size, dict) else tuple(size)
    source = folder("hf/vit", {"image_size": size})
    assert load_pretrained(source)[0].image_size == sides
    # Another one is then a size to resize to.
    made = load_pretrained(source, image_size=48)[1]["params"]["pos_embed"]
    grid = tuple(side // 8 for side in sides)
    np.testing.assert_array_equal(made, resize_positions(stored, grid, (6, 6)))


def test_what_a_file_leaves_out_is_the_types_default():
    assert read_transformers({"model_type": "siglip", "vision_config": {}}).fields == {
        "num_heads": 12,
        "norm_eps": 1e-6,
        "activation": "gelu_tanh",
    }
    found = read_transformers({"model_type": "clip", "vision_config": {"num_attention_heads": 2}})
    assert found.fields == {"num_heads": 2, "norm_eps": 1e-5, "activation": "quick_gelu"}
    assert read_transformers({"num_attention_heads": 2}).fields == {"num_heads": 2}
    assert read_transformers({"model_type": "dinov3_vit"}).fields["rotary_base"] == 100.0


@pytest.mark.parametrize(
    ("unknown", "config"),
    [
        ("smolvlm_vision", {"model_type": "smolvlm_vision"}),
        ("llava", {"model_type": "llava", "vision_config": {"model_type": "clip_vision_model"}}),
        ("mlcd", {"model_type": "clip", "vision_config": {"model_type": "mlcd"}}),
        ("siglip2", {"vision_config": {"model_type": "siglip2"}}),
    ],
)
def test_types_that_are_not_known_are_refused_by_name(unknown, config):
    with pytest.raises(ValueError, match=rf"^config.json: model_type '{unknown}' is not known to"):
        read_transformers(config)
    with pytest.warns(LoadingNote, match="is taken for the family's, as asked"):
        assert read_transformers({**config, "num_attention_heads": 3}, forced=True)


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"model_type": ["vit"]}, r"model_type is \['vit'\], expected a name"),
        ({"vision_config": {"model_type": 3}}, "model_type is 3, expected a name"),
        ({"rope_parameters": "default"}, "rope_parameters is 'default', expected an object"),
        (
            {"rope_parameters": {"rope_type": "yarn"}},
            "rope_type 'yarn' is none that",
        ),
        ({"image_size": [1, 2, 3]}, r"image_size is \[1, 2, 3\], expected pixels or"),
        ({"image_size": {"height": 224}}, "image_size is "),
    ],
)
def test_what_is_no_configuration(config, match):
    with pytest.raises(ValueError, match=f"^config.json: .*{match}"):
        read_transformers(config)


@pytest.mark.parametrize(("said", "mlp"), [(None, "geglu"), ("silu", "swiglu"), ("gelu", "geglu")])
def test_a_gate_takes_the_hidden_activation(said, mlp):
    config = {"model_type": "dinov3_vit", "use_gated_mlp": True}
    config |= {"hidden_act": said} if said else {}
    assert read_transformers(config).fields["mlp"] == mlp


def test_every_type_is_transformers_own(transformers):
    """Its defaults are those of the class, and every key that is checked is one of them."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    for name, kind in TYPES.items():
        config = CONFIG_MAPPING[name]().to_dict()
        config |= config.get("rope_parameters") or {}
        assert {key: config[key] for key in kind.defaults} == dict(kind.defaults), name
        assert set(kind.shown) <= set(config) | {"num_register_tokens", "qkv_bias"}, name


def test_a_remainder_is_left_out_as_transformers_does(transformers, tmp_path):
    """As SigLIP at 384 pixels with patches of 14, on what its image processor gives."""
    import torch

    config = transformers.SiglipVisionConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=30,
        patch_size=8,
    )
    network = transformers.SiglipVisionModel(config).eval()
    network.save_pretrained(tmp_path)
    size = {"height": 30, "width": 30}
    said = {"image_processor_type": "SiglipImageProcessor", "size": size, "resample": 3}
    said = {"image_processor": {**said, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}}
    (tmp_path / "processor_config.json").write_text(json.dumps(said))
    model, variables = load_pretrained(tmp_path)
    assert (model.image_size, model.grid, model.preprocessing.size) == (30, (3, 3), 30)
    picture = np.random.default_rng(0).integers(0, 256, (33, 47, 3), np.uint8)
    images = preprocess(model, picture)
    with torch.no_grad():
        wanted = network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).last_hidden_state
    found = model.apply(variables, images, method="forward").tokens
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)


WIDE = {"image_size": [16, 64], "patch_size": 8}


@pytest.mark.parametrize(
    ("said", "stored"),
    [
        ({"model_type": "vit"}, (16, 64)),
        ({"model_type": "dinov2"}, 32),
        ({"model_type": "dinov2_with_registers"}, 32),
        ({"model_type": "beit", "use_relative_position_bias": True}, (64, 16)),
        ({"model_type": "beit", "use_shared_relative_position_bias": True}, (64, 16)),
        ({"model_type": "beit", "use_absolute_position_embeddings": True}, 32),
        ({"model_type": "dinov3_vit"}, (16, 64)),
    ],
)
def test_which_grid_transformers_takes_a_table_for(said, stored):
    found = read_transformers({**WIDE, **said})
    assert (found.image_size, found.seen) == (stored, (16, 64))
    square = read_transformers({**WIDE, **said, "image_size": 32})
    assert (square.image_size, square.seen) == (32, 32)


def test_two_grids_at_once_are_refused():
    both = {"use_absolute_position_embeddings": True, "use_relative_position_bias": True}
    with pytest.raises(ValueError, match="image_size is .* absolute and relative positions"):
        read_transformers({**WIDE, "model_type": "beit", **both})


@pytest.mark.parametrize(
    ("network", "config", "fields"),
    [
        ("ViTModel", "ViTConfig", {**WIDE, "layer_norm_eps": 1e-2, "hidden_act": "gelu_new"}),
        ("DeiTForImageClassificationWithTeacher", "DeiTConfig", WIDE),
        ("Dinov2Model", "Dinov2Config", WIDE),
        ("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", WIDE),
        ("BeitModel", "BeitConfig", {**WIDE, "use_relative_position_bias": True}),
        ("BeitModel", "BeitConfig", {**WIDE, "use_absolute_position_embeddings": True}),
        ("IJepaForImageClassification", "IJepaConfig", WIDE),
        ("DINOv3ViTModel", "DINOv3ViTConfig", {**WIDE, "key_bias": True}),
        ("DINOv3ViTModel", "DINOv3ViTConfig", {**WIDE, "use_gated_mlp": True}),
        ("SiglipVisionModel", "SiglipVisionConfig", {"image_size": 37, "vision_use_head": False}),
        ("CLIPVisionModelWithProjection", "CLIPVisionConfig", {"image_size": 37}),
        ("ChineseCLIPVisionModel", "ChineseCLIPVisionConfig", {"image_size": 32}),
        ("AltCLIPVisionModel", "AltCLIPVisionConfig", {"image_size": 32}),
    ],
)
def test_equals_transformers(transformers, tmp_path, network, config, fields):
    """What no other test has: images that aren't square, remainders, keys far from the usual."""
    import torch

    theirs = build(transformers, Network(network, config, "", fields))
    theirs.save_pretrained(tmp_path)
    model, variables = load_pretrained(tmp_path)
    size = fields["image_size"]
    shape = (1, *([size] * 2 if isinstance(size, int) else size), 3)
    images = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    with torch.no_grad():
        wanted = theirs(pixel_values=torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    result = next(
        x
        for x in ("logits", "image_embeds", "pooler_output", "last_hidden_state")
        if wanted.get(x) is not None
    )
    found = model.apply(variables, images, method="forward")
    ours = found.tokens if result == "last_hidden_state" else found.result
    expected = wanted[result].numpy()
    np.testing.assert_allclose(ours, expected, atol=2e-5 * np.abs(expected).max())

"""open_clip_config.json: what a folder of open_clip says of its tower and its images."""

import json

import numpy as np
import pytest

from tests.other_libraries import library
from vit_jax_xfer.models.preprocessing import CLIP, INCEPTION, Preprocessing
from vit_jax_xfer.pretrained import load_pretrained
from vit_jax_xfer.pretrained.loading_notes import LoadingNote
from vit_jax_xfer.pretrained.open_clip_config import open_clip_preprocessing, read_open_clip

TOWER = {"layers": 2, "width": 48, "head_width": 16, "patch_size": 8, "image_size": 32}


def config(quick_gelu=False, **tower):
    said = {"embed_dim": 24, "vision_cfg": {**TOWER, **tower}, "text_cfg": {}}
    return {"model_cfg": {**said, "quick_gelu": quick_gelu}}


def read(**changes):
    return read_open_clip(config(**changes)).fields


def test_fields():
    usual = {"num_heads": 3, "norm_eps": 1e-5, "activation": "gelu", "pool": "cls"}
    assert read() == {**usual, "pool_norm": False}
    assert read(quick_gelu=True)["activation"] == "quick_gelu"
    assert read(act_kwargs={"approximate": "tanh"})["activation"] == "gelu_tanh"
    assert read(norm_kwargs={"eps": 1e-6})["norm_eps"] == 1e-6
    found = read_open_clip(config(pool_type="avg", final_ln_after_pool=True))
    assert (found.fields["pool"], found.fields["pool_norm"]) == ("avg", True)
    assert found.renames == {"norm.": "fc_norm."}
    assert read(pool_type="avg")["pool_norm"] is False
    assert read_open_clip(config(image_size=[32, 64])).image_size == (32, 64)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"attentional_pool": True}, "attentional_pool is True, which no network"),
        ({"qk_norm": True}, "qk_norm is True"),
        ({"scale_attn": True}, "scale_attn is True"),
        ({"scaled_cosine_attn": True}, "scaled_cosine_attn is True"),
        ({"block_type": "custom"}, "block_type is 'custom'"),
        ({"layers": [3, 4, 6, 3]}, "a ResNet's"),
        ({"pool_type": "none"}, "pool_type is 'none', expected tok or avg"),
        ({"patch_size": [8, 16]}, "patches here are square"),
        ({"act_kwargs": {"approximate": "x"}}, "act_kwargs is"),
        ({"norm_kwargs": [1]}, r"norm_kwargs is \[1\], expected an object"),
        ({"head_width": 0}, "head_width is 0, expected a whole number above 0"),
        ({"width": "768"}, "width is '768'"),
        ({"norm_kwargs": {"bias": False}}, "norm_kwargs is .* expected eps alone"),
        ({"quick_gelu": True, "act_kwargs": {"approximate": "tanh"}}, "beside quick_gelu"),
        ({"timm_model_name": "vit_medium_patch16_gap_256"}, "timm_proj is 'linear'"),
        ({"timm_model_name": "convnext_base", "timm_proj": None}, "architecture 'convnext_base'"),
    ],
)
def test_what_no_network_here_has(changes, match):
    with pytest.raises(ValueError, match=match):
        read(**changes)


def test_a_tower_of_timms_is_what_its_name_says():
    said = {"timm_model_name": "vit_base_patch16_siglip_224", "timm_proj": "none"}
    found = read_open_clip(config(**said, timm_pool="map")).fields
    assert (found["pool"], found["num_classes"], found["class_token"]) == ("map", 0, False)
    said = {"timm_model_name": "eva02_base_patch16_clip_224", "timm_pool": "token"}
    assert read_open_clip(config(**said, timm_proj=None)).fields["num_classes"] == 24


@pytest.mark.parametrize(
    ("said", "size", "fields"),
    [
        ({}, 32, {}),
        ({"mean": [0.5] * 3, "std": 0.5}, 32, {"mean": INCEPTION[0], "std": INCEPTION[1]}),
        ({"interpolation": "bilinear", "resize_mode": None}, 32, {"interpolation": "bilinear"}),
        ({"interpolation": "bilinear"}, (32, 64), {}),  # always bicubic there
        ({"interpolation": "random"}, 32, {}),
        ({"resize_mode": "squash"}, 32, {"crop_mode": "squash"}),
        ({"resize_mode": "longest"}, 32, {"crop_mode": "border", "fill": (0, 0, 0)}),
        (
            {"resize_mode": "longest", "fill_color": 9},
            32,
            {"crop_mode": "border", "fill": (9,) * 3},
        ),
    ],
)
def test_preprocessing(said, size, fields):
    usual = {"mean": CLIP[0], "std": CLIP[1], "crop": 1.0, "size": size}
    found = open_clip_preprocessing({"preprocess_cfg": said}, size)
    assert found == Preprocessing(**{**usual, **fields})


@pytest.mark.parametrize(
    ("said", "match"),
    [({"mode": "L"}, "mode is 'L'"), ({"resize_mode": "x"}, "resize_mode is 'x'")],
)
def test_other_preparations_are_refused(said, match):
    with pytest.raises(ValueError, match=f"^open_clip_config.json: {match}"):
        open_clip_preprocessing({"preprocess_cfg": said}, 32)


@pytest.fixture
def folder(tmp_path):
    """folder(config, changes of the arrays) → a folder of open_clip with weights of that size."""
    save_file = pytest.importorskip("safetensors.numpy", reason="needs safetensors").save_file
    rng = np.random.default_rng(0)

    def draw(*shape):
        return rng.normal(0, 0.1, shape).astype(np.float32)

    def write(said, **arrays):
        tower = {"proj": draw(48, 24), "conv1.weight": draw(48, 3, 8, 8)}
        tower |= {"class_embedding": draw(48), "positional_embedding": draw(17, 48)}
        block = {"attn.in_proj_weight": draw(144, 48), "attn.in_proj_bias": draw(144)}
        for name, shape in (
            ("attn.out_proj", (48, 48)),
            ("mlp.c_fc", (192, 48)),
            ("mlp.c_proj", (48, 192)),
            ("ln_1", (48,)),
            ("ln_2", (48,)),
        ):
            block |= {f"{name}.weight": draw(*shape), f"{name}.bias": draw(shape[0])}
        for i in range(2):
            tower |= {f"transformer.resblocks.{i}.{name}": x for name, x in block.items()}
        for name in ("ln_pre", "ln_post"):
            tower |= {f"{name}.weight": draw(48), f"{name}.bias": draw(48)}
        state = {**{f"visual.{name}": x for name, x in tower.items()}, **arrays}
        state |= {"text_projection": draw(4, 24), "logit_scale": draw(1)}
        state = {name: x for name, x in state.items() if x is not None}
        save_file(state, tmp_path / "open_clip_model.safetensors")
        (tmp_path / "open_clip_config.json").write_text(json.dumps(said))
        return tmp_path

    return write


def test_a_folder_is_read_by_it(folder):
    said = {**config(), "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    model, _ = load_pretrained(folder(said))
    assert (model.activation, model.num_heads, model.num_classes) == ("gelu", 3, 24)
    assert model.preprocessing == Preprocessing(*INCEPTION, crop=1.0, size=32)
    with pytest.raises(ValueError, match="open_clip_config.json: layers is 3, .* depth: 2"):
        load_pretrained(folder(config(layers=3)))
    with pytest.raises(ValueError, match="mlp_ratio is 2, .* MLP width: 192"):
        load_pretrained(folder(config(mlp_ratio=2)))
    with pytest.raises(ValueError, match=r"^open_clip_config.json: image_size is 64, 8×8 patches"):
        load_pretrained(folder(config(image_size=64)))


def test_the_file_whose_weights_they_are_counts(folder):
    path = folder(config())
    other = {"model_type": "clip", "vision_config": {"num_attention_heads": 6}}
    (path / "config.json").write_text(json.dumps(other))
    (path / "preprocessor_config.json").write_text("{}")
    assert load_pretrained(path)[0].num_heads == 3


def test_a_folder_of_both_formats_and_a_file_of_it_alone(folder):
    path = folder(config(quick_gelu=True))
    (path / "open_clip_pytorch_model.bin").write_bytes(b"the same again")
    assert load_pretrained(path)[0].activation == "quick_gelu"
    with pytest.warns(LoadingNote, match="open_clip_config.json beside it is not read; pass the"):
        load_pretrained(path / "open_clip_model.safetensors", num_heads=3)


WITHOUT = {f"visual.ln_pre.{leaf}": None for leaf in ("weight", "bias")}


def test_without_a_norm_before_the_blocks(folder):
    said = config(no_ln_pre=True, pool_type="avg", final_ln_after_pool=True)
    model, variables = load_pretrained(folder(said, **WITHOUT))
    assert (model.pre_norm, model.pool, model.norm_after_pool) == (False, "avg", True)
    assert "head_norm" in variables["params"] and "norm" not in variables["params"]
    path = folder(said, **WITHOUT)
    with pytest.raises(ValueError, match="no ln_pre: .* load the folder with its open_cl"):
        load_pretrained(path / "open_clip_model.safetensors", num_heads=3)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"quick_gelu": True, "ls_init_value": 0.1},
        {"act_kwargs": {"approximate": "tanh"}, "norm_kwargs": {"eps": 1e-3}},
        {"pool_type": "avg", "image_size": [16, 32]},
        {"pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True, "mlp_ratio": 2.0},
    ],
)
def test_equals_open_clip(changes, tmp_path):
    """The features that open_clip makes of the same folder."""
    open_clip, torch = library("open_clip"), library("torch")
    from safetensors.numpy import save_file

    said = config(**changes)
    text = {"width": 16, "heads": 1, "layers": 1, "vocab_size": 9, "context_length": 4}
    network = open_clip.CLIP(**{**said["model_cfg"], "text_cfg": text}).eval()
    state = {name: x.detach() for name, x in network.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    state = {k: x + 0.2 * torch.randn(x.shape, generator=generator) for k, x in state.items()}
    network.load_state_dict(state)
    save_file({k: x.numpy() for k, x in state.items()}, tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(json.dumps(said))
    model, variables = load_pretrained(tmp_path)
    h, w = (model.image_size,) * 2 if isinstance(model.image_size, int) else model.image_size
    images = np.random.default_rng(0).normal(size=(1, h, w, 3)).astype(np.float32)
    with torch.no_grad():
        wanted = network.encode_image(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    found = np.asarray(model.apply(variables, images))
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())

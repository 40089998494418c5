"""What config.json and preprocessor_config.json tell of a network."""

import pytest

from vit_jax_xfer.models.preprocessing import IMAGENET, INCEPTION, Preprocessing
from vit_jax_xfer.pretrained.config_json import config_fields, config_preprocessing


@pytest.mark.parametrize(
    ("config", "fields"),
    [
        (None, {}),
        ({}, {}),
        ({"num_attention_heads": 6}, {"num_heads": 6}),
        (
            {"layer_norm_eps": 1e-12, "hidden_act": "gelu"},
            {"norm_eps": 1e-12, "activation": "gelu"},
        ),
        ({"hidden_act": "quick_gelu"}, {"activation": "quick_gelu"}),
        ({"hidden_act": "gelu_pytorch_tanh"}, {"activation": "gelu_tanh"}),
        ({"hidden_act": "silu"}, {}),
        # The whole CLIP keeps the image tower's apart, beside its text tower's.
        (
            {"vision_config": {"num_attention_heads": 16}, "text_config": {"hidden_act": "relu"}},
            {"num_heads": 16},
        ),
        ({"rope_theta": 50.0}, {"rotary_base": 50.0}),
        ({"rope_parameters": {"rope_theta": 50.0, "rope_type": "default"}}, {"rotary_base": 50.0}),
        ({"decoder_num_attention_heads": 16}, {"decoder_num_heads": 16}),
        # Only where no table of positions tells it.
        ({"model_type": "dinov3_vit", "image_size": 256}, {"image_size": 256}),
        ({"model_type": "vit", "image_size": 256}, {}),
    ],
)
def test_fields(config, fields):
    assert config_fields(config) == fields


@pytest.mark.parametrize(
    ("config", "activation"),
    [
        (
            {"architecture": "vit_base_patch16_clip_224", "pretrained_cfg": {"tag": "laion2b"}},
            "gelu",
        ),
        (
            {"architecture": "vit_base_patch16_clip_224", "pretrained_cfg": {"tag": "openai"}},
            "quick_gelu",
        ),
        ({"architecture": "vit_base_patch16_clip_quickgelu_224"}, "quick_gelu"),
        ({"architecture": "vit_base_patch16_224", "hidden_act": "relu"}, "gelu"),
    ],
)
def test_activation_of_timm(config, activation):
    assert config_fields(config)["activation"] == activation


def test_preprocessing_of_timm():
    published = {
        "mean": list(IMAGENET[0]),
        "std": list(IMAGENET[1]),
        "input_size": [3, 256, 256],
        "interpolation": "bilinear",
        "crop_pct": 0.95,
    }
    found = config_preprocessing({"pretrained_cfg": published}, None, 224)
    assert found == Preprocessing(*IMAGENET, "bilinear", crop=0.95, size=256)
    published |= {"crop_mode": "squash", "input_size": [3, 256, 128]}
    found = config_preprocessing({"pretrained_cfg": published}, None, 224)
    assert (found.crop_mode, found.size) == ("squash", (256, 128))


@pytest.mark.parametrize(
    ("arguments", "fixed", "size"),
    [
        ({"img_size": 64}, True, 64),
        ({"img_size": [64, 64]}, True, 64),
        ({"img_size": 64}, False, 256),
        ({"img_size": 64, "dynamic_img_size": True}, True, 256),
        ({"img_size": 64, "strict_img_size": False}, True, 256),
        ({"num_heads": 6}, True, 256),
        (None, True, 256),
    ],
)
def test_images_are_of_the_size_that_the_network_was_made_for(arguments, fixed, size):
    """Its name's usual images are none that timm's network takes then."""
    published = {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 256, 256]}
    published["fixed_input_size"] = fixed
    config = {"architecture": "x", "model_args": arguments, "pretrained_cfg": published}
    assert config_preprocessing(config, None, 64).size == size


def test_the_preprocessors_own_file_counts_first():
    said = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 64, "width": 64}}
    said["resample"] = 3
    config = {"pretrained_cfg": {"mean": [0, 0, 0], "std": [1, 1, 1]}}
    assert config_preprocessing(config, said, 224).mean == (0.5, 0.5, 0.5)
    assert config_preprocessing({"model_type": "vit"}, None, 224) is None
    assert config_preprocessing(None, None, 224) is None


def test_other_places_of_timms_preprocessing():
    published = {"mean": [0.5] * 3, "std": [0.5] * 3, "crop_mode": "border", "crop_pct": 1.0}
    wanted = Preprocessing(*INCEPTION, crop=1.0, crop_mode="border", size=224)
    assert config_preprocessing(published, None, 224) == wanted  # files of older versions
    wrapped = {"image_processor_type": "TimmWrapperImageProcessor", "pretrained_cfg": published}
    assert config_preprocessing({"architecture": "x"}, wrapped, 224) == wanted
    with pytest.raises(ValueError, match="input_size is 224, expected channels, height and width"):
        config_preprocessing({**published, "input_size": 224}, None, 224)
    with pytest.raises(ValueError, match="crop_mode: 'random' is none of center, short_side"):
        config_preprocessing({**published, "crop_mode": "random"}, None, 224)

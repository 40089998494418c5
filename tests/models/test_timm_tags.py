"""timm's full names as networks of ours."""

import pytest

from vit_jax_xfer.models.preprocessing import CLIP, IMAGENET, INCEPTION, Preprocessing
from vit_jax_xfer.models.registry import create_model
from vit_jax_xfer.models.timm_tags import tagged


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        (
            "vit_base_patch16_224.augreg_in21k",
            {
                "width": 768,
                "num_classes": 21843,
                "preprocessing": Preprocessing(*INCEPTION, crop=0.9),
            },
        ),
        (
            "vit_tiny_patch16_384.augreg_in21k_ft_in1k",
            {
                "image_size": 384,
                "num_classes": 1000,
                "preprocessing": Preprocessing(*INCEPTION, crop=1.0, size=384),
            },
        ),
        (
            "vit_small_patch14_reg4_dinov2.lvd142m",
            {
                "registers": 4,
                "class_position": False,
                "mask_token": False,
                "num_classes": 0,
                "preprocessing": Preprocessing(*IMAGENET, crop=1.0, size=518),
            },
        ),
        ("vit_base_patch16_clip_224.openai", {"activation": "quick_gelu", "num_classes": 512}),
        ("vit_base_patch16_clip_224.openai_ft_in1k", {"activation": "gelu", "num_classes": 1000}),
        ("vit_large_patch14_clip_336.laion2b_ft_in1k", {"num_classes": 1000, "norm_eps": 1e-5}),
        ("vit_base_patch16_gap_224.untrained", {"num_heads": 16, "pool": "avg"}),
        ("vit_base_patch16_224", {"num_classes": 1000, "preprocessing": None}),
        ("vit_base_patch16_siglip_512.v2_webli", {"pool": "map", "image_size": 512}),
        ("deit3_large_patch16_384.fb_in22k_ft_in1k", {"layer_scale": 1e-6, "depth": 24}),
        (
            "eva02_large_patch14_448.mim_m38m_ft_in22k_in1k",
            {
                "rotary": "eva02",
                "preprocessing": Preprocessing(*CLIP, crop=1.0, crop_mode="squash", size=448),
            },
        ),
    ],
)
def test_a_full_name_is_a_network(name, fields):
    model = create_model(name)
    assert {field: getattr(model, field) for field in fields} == fields


def test_fields_are_changed_as_ever():
    model = create_model("vit_base_patch16_224.mae", image_size=64, depth=2)
    assert (model.image_size, model.depth, model.preprocessing.size) == (64, 2, 64)
    # Without a tag, a name that is listed is the publisher's network.
    assert create_model("vit_small_patch14_dinov2").mask_token


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vit_base_patch16_225.mae", "is unknown; nearest: .*vit_base_patch16_224"),
        ("vit_base_patch16_224.mea", "tag 'mea' of 'vit_base_patch16_224' is not known"),
        ("vit_base_patch16_rpn_224.sw_in1k", "block_fn='ResPostBlock'"),
        ("vit_pe_core_base_patch16_224.fb", "attn_type='rope'"),
    ],
)
def test_what_is_no_network_here(name, said):
    with pytest.raises(ValueError, match=f"model {name!r}.*{said}") as error:
        create_model(name)
    assert "\n" not in str(error.value)


def test_tags_of_one_word_differ_by_architecture():
    for architecture, crop in (("deit_base_patch16_224", 0.9), ("deit_base_patch16_384", 1.0)):
        assert tagged(architecture, "fb_in1k", 768)["preprocessing"].crop == crop

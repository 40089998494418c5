"""Preprocessing as a value: its pipeline, its checks, and what Hugging Face's files say."""

import dataclasses

import numpy as np
import pytest

from vit_jax_xfer.data import images, parse_pipeline
from vit_jax_xfer.models.preprocessing import (
    CLIP,
    IMAGENET,
    INCEPTION,
    INTERPOLATIONS,
    Preprocessing,
    from_hugging_face,
)

HALF = "normalize(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))"
HF = {"resample": 3, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
CROP = {"do_center_crop": True, "crop_size": {"height": 224, "width": 224}}
WHOLE = {"crop": 1.0, "crop_mode": "squash"}
# Hugging Face's crops begin at the pixel before the middle of an odd margin.
SHORT_SIDE = {"crop_mode": "short_side", "crop_rounds_down": True}
SQUASHED = {"crop_mode": "squash", "crop_rounds_down": True}


def half(**fields):
    return Preprocessing(*INCEPTION, **fields)


@pytest.mark.parametrize(
    ("fields", "start"),
    [
        ({}, "resize(256, interpolation='bicubic')|center_crop(224)"),
        (
            {"crop": 0.9, "size": (224,) * 2},
            "resize(248, interpolation='bicubic')|center_crop(224)",
        ),
        (
            {"crop": 1.0, "size": 384, "interpolation": "bilinear"},
            "resize(384, interpolation='bilinear')|center_crop(384)",
        ),
        # timm covers a size that is not square, and transformers resizes the short side.
        (
            {"size": (96, 128)},
            "resize((109, 146), interpolation='bicubic', fit='cover')|center_crop((96, 128))",
        ),
        (
            {"size": (96, 128), "crop_mode": "short_side", "crop_rounds_down": True},
            "resize(146, interpolation='bicubic')|center_crop((96, 128), round_down=True)",
        ),
        (
            {"size": (96, 128), "crop_mode": "border"},
            "resize((109, 146), interpolation='bicubic', fit='inside')"
            "|center_crop((96, 128), fill=(128, 128, 128))",
        ),
        (
            {"crop": 1.0, "crop_mode": "border", "fill": [0, 0, 0]},
            "resize((224, 224), interpolation='bicubic', fit='inside')"
            "|center_crop(224, fill=(0, 0, 0))",
        ),
        ({"crop": 1.0, "crop_mode": "squash"}, "resize((224, 224), interpolation='bicubic')"),
        (
            {"crop_mode": "squash", "size": [28, 14]},
            "resize((32, 16), interpolation='bicubic')|center_crop((28, 14))",
        ),
    ],
)
def test_pipeline(fields, start):
    preprocessing = half(**fields)
    assert preprocessing.pipeline() == f"{start}|{HALF}"
    image = np.random.default_rng(0).integers(0, 256, (70, 50, 3), dtype=np.uint8)
    made = parse_pipeline(preprocessing.pipeline())({"image": image}, np.random.default_rng(0))
    assert made["image"].shape == (*preprocessing.height_width, 3)
    assert made["image"].dtype == np.float32


def test_a_value_that_hashes_and_survives_a_dictionary():
    listed = Preprocessing(list(CLIP[0]), np.array(CLIP[1]).tolist(), size=[224, 112])
    same = Preprocessing(*CLIP, size=(224, 112))
    assert listed == same and hash(listed) == hash(same)
    assert Preprocessing(**dataclasses.asdict(same)) == same
    assert Preprocessing(*IMAGENET) != Preprocessing(*CLIP)


def test_every_filter_is_one_that_the_pipelines_have():
    from PIL import Image

    assert set(INTERPOLATIONS) == set(images.INTERPOLATIONS)
    assert [Image.Resampling[name.upper()] for name in INTERPOLATIONS] == list(range(6))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mean": 0.5}, "mean: got 0.5, expected three numbers"),
        ({"mean": (0.5, float("nan"), 0.5)}, "mean: got"),
        ({"std": (0.5, 0, 0.5)}, "std: got .*greater than 0"),
        ({"interpolation": "cubic"}, "interpolation: 'cubic' is none of nearest"),
        ({"crop": 0.0}, "crop: got 0.0, expected a share"),
        ({"crop": 1.1}, "crop: got 1.1"),
        ({"crop": None}, "crop: got None"),
        ({"crop_mode": "crop"}, "crop_mode: 'crop' is none of center, short_side, squash, border"),
        ({"size": 0}, "size: got 0"),
        ({"size": (224,)}, "size: got"),
        ({"size": 224.0}, "size: got 224.0, expected a positive int"),
    ],
)
def test_errors_name_the_field(fields, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(**{"mean": IMAGENET[0], "std": IMAGENET[1], **fields})


@pytest.mark.parametrize(
    ("said", "fields"),
    [
        # DINOv2's, CLIP's, SigLIP's and DeiT's files, as they are today.
        ({"size": {"shortest_edge": 256}, **CROP}, SHORT_SIDE),
        ({"size": {"shortest_edge": 224}, **CROP}, {"crop": 1.0, **SHORT_SIDE}),
        ({"size": {"height": 384, "width": 384}}, {"size": 384, **WHOLE}),
        ({"size": {"height": 256, "width": 256}, **CROP}, SQUASHED),
        # Older ones, whose bare numbers each class reads in its own way.
        ({"size": 256, "feature_extractor_type": "CLIPFeatureExtractor", **CROP}, SHORT_SIDE),
        (
            {"size": 256, "image_processor_type": "DeiTImageProcessor", **CROP},
            SQUASHED,
        ),
        ({"size": 256, **CROP}, SHORT_SIDE),
        ({"size": 224, "feature_extractor_type": "ViTFeatureExtractor"}, WHOLE),
        (
            {"size": [224, 112], "crop_size": 96, "do_center_crop": False},
            {"size": (224, 112), **WHOLE},
        ),
        # What is not there: a crop, a size.
        ({"size": {"shortest_edge": 224}}, {"crop": 1.0, **SHORT_SIDE}),
        ({}, {"size": 518, **WHOLE}),
        (
            {"size": {"shortest_edge": 240}, **CROP, "crop_size": {"height": 120, "width": 240}},
            {"size": (120, 240), "crop": 1.0, **SHORT_SIDE},
        ),
    ],
)
def test_hugging_face(said, fields):
    assert from_hugging_face({**HF, **said}, size=518) == half(**fields)


@pytest.mark.parametrize("crop_size", [7, 96, 127, 224, 250])
@pytest.mark.parametrize("side", [256, 257, 353, 1000])
def test_hugging_face_resizes_to_the_very_pixel(side, crop_size):
    said = {"size": {"shortest_edge": side}, "do_center_crop": True, "crop_size": crop_size}
    made = from_hugging_face({**HF, **said})
    assert made.pipeline().startswith(f"resize({side}, ")
    assert made.size == crop_size


@pytest.mark.parametrize(
    ("said", "black", "white"),
    [
        ({}, -1, 1),
        ({"do_normalize": False}, 0, 1),
        ({"do_rescale": False}, -1, 509),
        ({"rescale_factor": 1 / 127.5}, -1, 3),
        ({"do_normalize": False, "rescale_factor": 1 / 127.5}, 0, 2),
    ],
)
def test_hugging_face_rescales_bytes_before_it_normalises(said, black, white):
    pipeline = parse_pipeline(from_hugging_face({**HF, **said}, size=2).pipeline())
    image = np.array([[[0] * 3, [255] * 3]] * 2, np.uint8)
    made = pipeline({"image": image}, np.random.default_rng(0))["image"]
    np.testing.assert_allclose(made[0, :, 0], [black, white], rtol=1e-5)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"do_resize": False}, "do_resize: got false"),
        ({"size": {"shortest_edge": "224"}}, "size: got '224'"),
        ({"size": {"height": 0, "width": 224}}, "size: got"),
        ({"rescale_factor": 0}, "rescale_factor: got 0"),
        ({"rescale_factor": "1/255"}, "rescale_factor: got '1/255'"),
        ({"do_pad": True}, "do_pad: got True, which no preprocessing here does"),
        ({"crop_pct": 0.875}, "crop_pct: got 0.875"),
        ({"size": {"shortest_edge": 224, "longest_edge": 448}}, "size: got"),
        ({"image_processor_type": "Siglip2ImageProcessor"}, "'Siglip2ImageProcessor' may prepare"),
        ({"image_processor_type": "ConvNextImageProcessorFast"}, "image_processor_type: 'ConvNe"),
        ({"feature_extractor_type": "MobileViTFeatureExtractor"}, "'MobileViTFeatureExtractor'"),
        ({"resample": None}, "resample: got None, expected PIL's number"),
        ({"resample": 6}, "resample: got 6"),
        ({"image_mean": None}, "image_mean: got None"),
        ({"image_std": [0.5]}, "image_std: got"),
        ({"size": None}, "size: got None"),
        ({"size": {"max_height": 3, "max_width": 3}}, "size: got"),
        ({"do_center_crop": True, "crop_size": 257, "size": 256}, "crop_size: 257 is greater"),
        (
            {"do_center_crop": True, "crop_size": 224, "size": {"height": 256, "width": 300}},
            "crop_size: .* not the same share of both sides",
        ),
    ],
)
def test_hugging_face_errors_name_the_key(said, message):
    with pytest.raises(ValueError, match=message):
        from_hugging_face({**HF, "size": 224, **said})

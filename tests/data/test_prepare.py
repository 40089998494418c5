"""preprocess: any images to the batch that a model wants, as other libraries prepare it."""

import json
import types

import numpy as np
import pytest
from PIL import Image

from tests.other_libraries import library
from vit_jax_xfer.data.prepare import preprocess
from vit_jax_xfer.models.preprocessing import IMAGENET, INCEPTION, Preprocessing, from_hugging_face
from vit_jax_xfer.models.registry import create_model

SMALL = Preprocessing(*IMAGENET, size=28)  # resized to 32
SIZES = [(60, 60), (45, 90), (90, 60), (24, 36)]


def picture(height, width, seed=0):
    """Something with edges and slopes, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 5 + 1, width // 5 + 1, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST))
    return np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)


IMAGES = [picture(*size, seed) for seed, size in enumerate(SIZES)]
# With margins of 3 modulo 4, whose half Hugging Face rounds down and torchvision up.
ODD = [*IMAGES, picture(60, 62, 4), picture(66, 60, 5)]


def test_against_the_steps_by_hand():
    made = preprocess(SMALL, IMAGES[1])
    resized = Image.fromarray(IMAGES[1]).resize((64, 32), Image.Resampling.BICUBIC)
    cut = np.asarray(resized.crop((18, 2, 46, 30)), np.float64) / 255
    np.testing.assert_allclose(made[0], (cut - IMAGENET[0]) / IMAGENET[1], atol=1e-5)
    assert made.shape == (1, 28, 28, 3)
    assert made.dtype == np.float32


def test_every_form_of_an_image_gives_the_same(tmp_path):
    image = Image.fromarray(IMAGES[0])
    path = tmp_path / "a.png"
    image.save(path)
    whole = preprocess(SMALL, [IMAGES[0], image, path, str(path), IMAGES[2]])
    assert whole.shape == (5, 28, 28, 3)
    for row in whole[1:4]:
        np.testing.assert_array_equal(row, whole[0])
    np.testing.assert_array_equal(preprocess(SMALL, path), whole[:1])
    np.testing.assert_array_equal(preprocess(SMALL, np.stack([IMAGES[0]] * 2)[1]), whole[:1])


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_modes_become_rgb(mode, tmp_path):
    image = Image.fromarray(IMAGES[0]).convert(mode)
    expected = preprocess(SMALL, np.asarray(image.convert("RGB")))
    np.testing.assert_array_equal(preprocess(SMALL, image), expected)
    path = tmp_path / ("a.tiff" if mode == "CMYK" else "a.png")
    image.save(path)
    np.testing.assert_array_equal(preprocess(SMALL, path), expected)


def test_a_file_is_turned_as_its_exif_says(tmp_path):
    """A photograph of a file is turned as viewers show it; a PIL image is what its pixels are."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(IMAGES[1]).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(
        preprocess(SMALL, tmp_path / "a.png"), preprocess(SMALL, np.rot90(IMAGES[1], -1))
    )
    with Image.open(tmp_path / "a.png") as opened:
        np.testing.assert_array_equal(preprocess(SMALL, opened), preprocess(SMALL, IMAGES[1]))


def test_models_and_sizes():
    model = types.SimpleNamespace(preprocessing=SMALL)
    np.testing.assert_array_equal(preprocess(model, IMAGES), preprocess(SMALL, IMAGES))
    assert preprocess(model, IMAGES, size=14).shape == (4, 14, 14, 3)


def test_a_network_and_its_masked_autoencoder():
    from vit_jax_xfer.models.mae import MaskedAutoencoder
    from vit_jax_xfer.models.vit import VisionTransformer

    fields = {"width": 16, "depth": 1, "num_heads": 2, "num_classes": 0, "pool": "none"}
    model = VisionTransformer(**fields)
    for empty in (model, MaskedAutoencoder(model)):
        with pytest.raises(ValueError, match="model.preprocessing is None; pass a Preprocessing"):
            preprocess(empty, IMAGES)
    model = model.clone(preprocessing=SMALL)
    assert hash(model) == hash(model.clone())
    expected = preprocess(SMALL, IMAGES)
    np.testing.assert_array_equal(preprocess(model, IMAGES), expected)
    masked = MaskedAutoencoder(model)
    np.testing.assert_array_equal(preprocess(masked, IMAGES), expected)
    assert preprocess(masked, IMAGES, size=(14, 28)).shape == (4, 14, 28, 3)


def test_errors(tmp_path):
    torn = tmp_path / "torn.jpg"
    Image.fromarray(IMAGES[1]).save(torn)
    torn.write_bytes(torn.read_bytes()[:-600])
    for path in (torn, tmp_path / "none.png"):
        with pytest.raises(ValueError, match=f"cannot read image .*{path.name}: ") as caught:
            preprocess(SMALL, [IMAGES[0], path])
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="cannot read image .*torn.jpg: "):
        preprocess(SMALL, Image.open(torn))
    with pytest.raises(ValueError, match="model.preprocessing is None; pass a Preprocessing"):
        preprocess(types.SimpleNamespace(), IMAGES)
    with pytest.raises(ValueError, match=r"images\[1\]: got float32 of shape \(8, 8, 3\)"):
        preprocess(SMALL, [IMAGES[0], np.ones((8, 8, 3), np.float32)])
    with pytest.raises(ValueError, match=r"images: got uint8 of shape \(8, 8\)"):
        preprocess(SMALL, np.ones((8, 8), np.uint8))
    with pytest.raises(ValueError, match=r"images\[0\]: mode I;16, expected 8 bits"):
        preprocess(SMALL, [Image.new("I;16", (8, 8))])
    with pytest.raises(ValueError, match="images: got an empty list"):
        preprocess(SMALL, [])
    with pytest.raises(ValueError, match="size: got 0"):
        preprocess(SMALL, IMAGES, size=0)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("CLIP", {"size": {"shortest_edge": 30}, "crop_size": 28}),
        ("CLIP", {"size": 28, "crop_size": 28}),
        ("CLIP", {"size": {"shortest_edge": 36}, "crop_size": {"height": 20, "width": 36}}),
        ("Bit", {"size": {"shortest_edge": 32}, "crop_size": 28, "resample": 1}),
        ("ViT", {"size": 28}),
        ("ViT", {"size": {"height": 20, "width": 28}, "do_normalize": False}),
        ("DeiT", {"size": 32, "crop_size": 28, "image_mean": [0.4, 0.5, 0.6]}),
        ("Siglip", {"size": {"height": 28, "width": 28}}),
        ("Siglip", {"size": {"height": 28, "width": 28}, "rescale_factor": 1 / 127.5}),
    ],
)
def test_equals_hugging_face(kind, fields):
    transformers = library("transformers")
    try:
        processor = getattr(transformers, f"{kind}ImageProcessorPil")(**fields)
    except (AttributeError, ImportError) as error:
        pytest.skip(f"needs transformers 5 and its image processors: {error}")
    said = json.loads(processor.to_json_string())
    preprocessing = from_hugging_face(said)
    expected = [processor(Image.fromarray(image))["pixel_values"][0] for image in ODD]
    np.testing.assert_allclose(
        preprocess(preprocessing, ODD).transpose(0, 3, 1, 2), np.stack(expected), atol=1e-5
    )


def test_squash_sees_the_whole_image():
    made = preprocess(Preprocessing(*INCEPTION, crop=1.0, crop_mode="squash", size=16), IMAGES[1])
    resized = Image.fromarray(IMAGES[1]).resize((16, 16), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(made[0], np.asarray(resized) / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize("crop", [1.0, 0.875])
@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", [(28, 28), (14, 56), (48, 20), (28, 42)])
def test_equals_timm(size, mode, crop):
    transform = library("timm").data.create_transform(
        input_size=(3, *size),
        crop_pct=crop,
        crop_mode=mode,
        interpolation="bicubic",
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
    )
    preprocessing = Preprocessing(*INCEPTION, crop=crop, crop_mode=mode, size=size)
    made = preprocess(preprocessing, ODD).transpose(0, 3, 1, 2)
    for image, ours in zip(ODD, made, strict=True):
        np.testing.assert_allclose(ours, transform(Image.fromarray(image)).numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("mode", "resized", "box"),
    [
        # (300, 500) pixels, for 128×256 of them; worked out from timm's ResizeKeepRatio.
        ("center", (154, 256), (13, 0)),
        ("short_side", (256, 426), (64, 85)),
        ("squash", (128, 256), (0, 0)),
        ("border", (128, 213), (0, -21)),
    ],
)
def test_rectangles_by_hand(mode, resized, box):
    image = picture(300, 500)
    fields = {"crop": 1.0, "crop_mode": mode, "size": (128, 256)}
    made = preprocess(Preprocessing((0,) * 3, (1,) * 3, **fields), image)
    small = Image.fromarray(image).resize(resized[::-1], Image.Resampling.BICUBIC)
    top, left = box
    expected = small.crop((left, top, left + 256, top + 128))
    np.testing.assert_allclose(made[0], np.asarray(expected, np.float32) / 255, atol=1e-6)


@pytest.mark.parametrize("name", ["centre_detector", "segmentation"])
def test_a_dense_network_sees_all_of_a_photograph(name):
    """So that what it finds lies where it is in the photograph, times one factor."""
    told = Preprocessing((0.2,) * 3, (0.5,) * 3, crop=0.5, size=32)
    model = create_model(name, backbone="vit_micro_patch4", image_size=32, preprocessing=told)
    image = picture(40, 20)
    made = preprocess(model, image)
    assert made.shape == (1, 32, 32, 3)
    whole = Image.fromarray(image).resize((16, 32), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(made[0, :, :16], (np.asarray(whole) / 255 - 0.2) / 0.5, atol=1e-5)
    np.testing.assert_allclose(made[0, :, 16:], 0, atol=1e-5)
    assert preprocess(model, image, size=64).shape == (1, 64, 64, 3)

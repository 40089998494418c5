"""The corruptions do what their formulas say, the same one for the same image."""

import numpy as np
import pytest

from vit_jax_xfer.suites.corruptions import OWN_CORRUPTIONS, corrupt_image


def photograph(side=20):
    """Smooth colours with edges."""
    y, x = np.mgrid[:side, :side]
    waves = [np.sin(x / 3) + np.cos(y / 2), np.cos(x / 2), (x // 4 + y // 4) % 2]
    return np.stack([60 + 50 * wave for wave in waves], axis=-1).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", OWN_CORRUPTIONS)
def test_each_severity_spoils_more(name):
    image = photograph().astype(int)
    changes = [
        np.abs(corrupt_image(photograph(), name, severity) - image).mean() for severity in (1, 2, 3)
    ]
    assert 0.5 < changes[0] < changes[1] < changes[2]


@pytest.mark.parametrize("name", OWN_CORRUPTIONS)
def test_draws_hang_on_seed_and_pixels_alone(name):
    first = corrupt_image(photograph(), name, 2, seed=7)
    corrupt_image(photograph(16), name, 1, seed=7)
    np.testing.assert_array_equal(corrupt_image(photograph().copy(), name, 2, seed=7), first)
    drawn = name in ("gaussian_noise", "fog")
    assert drawn == (corrupt_image(photograph(), name, 2, seed=8) != first).any()


def test_noise_has_its_deviation_and_the_same_draw_at_each_severity():
    grey = np.full((60, 60, 3), 128, np.uint8)
    one, two = (corrupt_image(grey, "gaussian_noise", severity) - 128.0 for severity in (1, 2))
    np.testing.assert_allclose([one.std(), two.std()], [0.05 * 255, 0.1 * 255], rtol=0.03)
    np.testing.assert_allclose(two, 2 * one, atol=1.6)


def test_another_image_has_another_noise():
    greys = [np.full((20, 20, 3), level, np.uint8) for level in (120, 130)]
    noises = [corrupt_image(grey, "gaussian_noise", 1) - grey.mean() for grey in greys]
    assert abs(np.corrcoef(noises[0].ravel(), noises[1].ravel())[0, 1]) < 0.2


def test_blur_is_a_share_of_the_shorter_side():
    dot = np.zeros((80, 100, 3), np.uint8)
    dot[40, 50] = 255
    spread = corrupt_image(np.where(dot, dot, 0), "gaussian_blur", 2)[..., 0].astype(float)
    # A peak of 1 / (2 π σ²), σ = 0.035 · 80.
    assert spread.max() == round(255 / (2 * np.pi * 2.8**2))
    wide = np.full((40, 50, 3), 90, np.uint8)
    np.testing.assert_array_equal(corrupt_image(wide, "gaussian_blur", 3), wide)


def test_fog_is_a_smooth_grey_between_half_and_one():
    found = corrupt_image(np.zeros((40, 60, 3), np.uint8), "fog", 2) / 255
    np.testing.assert_array_equal(found[..., 0], found[..., 2])
    assert 0.249 < found.min() < found.max() < 0.501
    assert found.std() > 0.02
    assert np.abs(np.diff(found[..., 0], axis=0)).max() < 0.04


def test_contrast_keeps_the_mean_and_a_share_of_the_differences():
    image = photograph()
    wanted = image.mean() + 0.3 * (image - image.mean())
    np.testing.assert_allclose(corrupt_image(image, "contrast", 2), wanted, atol=0.51)


def test_pixelate_repeats_means_of_blocks():
    image = photograph()
    found = corrupt_image(image, "pixelate", 3)  # 20 · 0.3 = 6 blocks a side
    assert len(np.unique(found.reshape(-1, 3), axis=0)) <= 36
    np.testing.assert_array_equal(found[:3, :3], np.broadcast_to(found[0, 0], (3, 3, 3)))
    np.testing.assert_allclose(found[0, 0], image[:4, :4].mean((0, 1)), atol=12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("snow", 1), "corruptions: 'snow' is none of gaussian_noise,"),
        (("fog", 4), "severity: got 4, expected 1 to 3"),
    ],
)
def test_what_is_unknown_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        corrupt_image(photograph(), *arguments)


def test_images_of_another_type_are_refused():
    with pytest.raises(ValueError, match=r"image: got float64 \(20, 20, 3\), expected uint8"):
        corrupt_image(photograph() / 255, "fog", 1)

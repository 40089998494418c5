"""A teacher's own view of the student's image, against PyTorch and PIL."""

import jax
import numpy as np
import pytest
from PIL import Image

from vit_jax_xfer.data.transforms import normalisation_of
from vit_jax_xfer.models.preprocessing import CLIP, IMAGENET, INCEPTION
from vit_jax_xfer.transfer.views import Normalisation, size_for_grid, teacher_view

PLAIN = Normalisation((0.0,) * 3, (1.0,) * 3)
SEEN, WANTED = Normalisation(*IMAGENET), Normalisation(*CLIP)
BYTES = np.random.default_rng(0).integers(0, 256, (2, 24, 18, 3), dtype=np.uint8)
PIXELS = (BYTES / 255).astype(np.float32)
SIZES = [(16, 16), (7, 5), (36, 40), (24, 9)]
FILTERS = ["bilinear", "bicubic", "lanczos"]


def normalise(pixels, normalisation):
    return ((pixels - np.array(normalisation[0])) / normalisation[1]).astype(np.float32)


def test_another_normalisation():
    made = teacher_view(normalise(PIXELS, SEEN), SEEN, WANTED)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, normalise(PIXELS, WANTED), atol=2e-6)


def test_nothing_to_change_is_the_very_array():
    images = jax.numpy.asarray(PIXELS)
    for size in (None, (24, 18), [24, 18]):
        assert teacher_view(images, SEEN, Normalisation(*IMAGENET), size) is images


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_resize_equals_pytorch(size, mode):
    torch = pytest.importorskip("torch")
    expected = torch.nn.functional.interpolate(
        torch.tensor(PIXELS).permute(0, 3, 1, 2), size, mode=mode, antialias=True
    )
    expected = expected.permute(0, 2, 3, 1).numpy()
    if (mode, size) == ("bicubic", (36, 40)):
        assert expected.min() < 0 and expected.max() > 1, "nothing to cut off"
    made = teacher_view(normalise(PIXELS, SEEN), SEEN, WANTED, size, mode)
    np.testing.assert_allclose(made, normalise(expected.clip(0, 1), WANTED), atol=5e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", FILTERS)
def test_resize_equals_pil_but_for_its_bytes(size, name):
    # PIL makes whole bytes twice, after the rows and after the columns: it rounds twice, and what
    # overshoots (here nothing does) it also cuts off twice.
    calm = 64 + BYTES // 2
    resample = Image.Resampling[name.upper()]
    expected = [np.asarray(Image.fromarray(x).resize(size[::-1], resample)) for x in calm]
    made = teacher_view(normalise(calm / 255, SEEN), SEEN, PLAIN, size, name)
    np.testing.assert_allclose(255 * made, np.stack(expected), atol=1.6)


@pytest.mark.parametrize("name", FILTERS)
def test_resized_pixels_stay_pixels(name):
    made = np.asarray(teacher_view(normalise(PIXELS, SEEN), SEEN, WANTED, (36, 40), name))
    low, high = normalise(0, WANTED), normalise(1, WANTED)
    assert (made >= low - 1e-6).all() and (made <= high + 1e-6).all()
    if name != "bilinear":
        np.testing.assert_allclose(made.min((0, 1, 2)), low, atol=1e-6)
        np.testing.assert_allclose(made.max((0, 1, 2)), high, atol=1e-6)


def test_inside_jit_and_without_a_new_scale():
    view = jax.jit(lambda x: teacher_view(x, SEEN, WANTED, (16, 12)))
    images = normalise(PIXELS, SEEN)
    np.testing.assert_allclose(
        view(images), teacher_view(images, SEEN, WANTED, (16, 12)), atol=1e-5
    )
    wide = teacher_view(images, SEEN, SEEN, (16, 12))
    pixels = wide * np.float32(IMAGENET[1]) + np.float32(IMAGENET[0])
    np.testing.assert_allclose(pixels, teacher_view(images, SEEN, PLAIN, (16, 12)), atol=1e-5)


def test_errors():
    with pytest.raises(ValueError, match="images: expected shape"):
        teacher_view(PIXELS[0], SEEN, WANTED)
    with pytest.raises(ValueError, match="interpolation: 'box' is none of bilinear, bicubic"):
        teacher_view(PIXELS, SEEN, WANTED, (4, 4), "box")


@pytest.mark.parametrize(
    ("pipeline", "expected"),
    [
        ("resize(64)|flip|normalize", IMAGENET),
        ("normalize(0.5, 0.5)|flip", INCEPTION),
        ("normalize([0.5], (0.5, 0.5, 0.5))", INCEPTION),
        (f"flip|normalize(mean={CLIP[0]}, std={CLIP[1]})", CLIP),
        ("flip", PLAIN),
        ("flip|to_float", PLAIN),
        ("normalize|normalize(0.5, 0.5)", None),
    ],
)
def test_what_a_pipeline_ends_with(pipeline, expected):
    assert normalisation_of(pipeline) == expected


def test_a_pipelines_normalisation_leads_to_the_teachers():
    seen = Normalisation(*normalisation_of("flip|normalize"))
    made = teacher_view(normalise(PIXELS, SEEN), seen, WANTED)
    np.testing.assert_allclose(made, normalise(PIXELS, WANTED), atol=2e-6)


def test_size_for_grid():
    assert size_for_grid((14, 16), 14) == (196, 224)
    assert size_for_grid((3, 5), 4, 2) == (8, 12)

"""segment: classes of pixels at the photograph's size, as pictures and as numbers."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import vit_jax_xfer as vjx
from vit_jax_xfer.data.prepare import photograph_pipeline
from vit_jax_xfer.data.sources.class_files import read_class_file
from vit_jax_xfer.evaluate import dense_models
from vit_jax_xfer.segment import SegmentationProgram, main

NAMES = ("dark", "light")


class Brightness:
    """In place of a network: pixels above the mean are class 1."""

    class_names, num_classes, predicts, image_size, preprocessing = NAMES, 2, "masks", 16, None

    def apply(self, variables, images):
        light = images.mean(-1)
        return jnp.stack([-light, light], -1)


@pytest.fixture
def photographs(tmp_path):
    """Wide photographs, light from the right third on."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for i in range(2):
        pixels = np.zeros((30 + i, 60, 3), np.uint8)
        pixels[:, 40:] = 250
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def run(photographs, out, *flags):
    return main([str(photographs), "--model", "m", "--out", str(out), *flags])


@pytest.mark.parametrize("flags", [(), ("--window", "12", "--window-stride", "4")])
def test_classes_at_the_photographs_size(flags, photographs, tmp_path, monkeypatch, capsys):
    opened = lambda *given, **more: (Brightness(), {})  # noqa: E731
    monkeypatch.setattr(dense_models, "open_dense_network", opened)
    out = tmp_path / "out"
    assert run(photographs, out, "--size", "24", *flags) == 0
    first, _ = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{photographs / '0.png'}: dark 6") and ", light 3" in first
    assert read_class_file(out / "classes.txt") == {0: "dark", 1: "light"}
    for i in range(2):
        classes = np.asarray(Image.open(out / f"{i}_classes.png"))
        assert classes.shape == (30 + i, 60) and not classes[:, :37].any() and classes[:, 43:].all()
        picture = np.asarray(Image.open(out / f"{i}.png"))
        assert picture.shape[1] == 60 and picture.shape[0] > 40 + i  # a legend below
        assert (picture[:30, :37] == picture[0, 0]).all()
    (photographs / "0.png").write_bytes(b"")
    assert run(photographs, out, "--overwrite") == 1
    assert "error: cannot read image" in capsys.readouterr().err


def test_windows_end_with_the_photograph():
    """What they see of the border below it would change its classes."""

    class AboveItsMean(Brightness):
        def apply(self, variables, images):
            light = images.mean(-1)
            return super().apply(variables, images - light.mean((1, 2))[:, None, None, None])

    model = AboveItsMean()
    program = SegmentationProgram(model, {}, photograph_pipeline(model, 24), 12, 6)
    image = np.random.default_rng(0).integers(0, 256, (1, 24, 24, 3)).astype(np.uint8)
    image[:, 18:] = 255
    said = {"content": np.array([[18, 24]], np.float32), "original": np.array([[18, 24]])}
    (found,) = program({"image": image, **said})
    (alone,) = program({"image": image[:, :18], **said})
    np.testing.assert_array_equal(found, alone)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--window-stride", "4"], "--window-stride: is about windows; give --window"),
        (
            ["--window", "4", "--window-stride", "5"],
            "--window-stride: 5 pixels are more than",
        ),
    ],
)
def test_windows_that_leave_pixels_out_are_refused(flags, message, photographs, tmp_path, capsys):
    assert run(photographs, tmp_path / "out", *flags) == 1
    assert message in capsys.readouterr().err


def test_a_real_network(photographs, tmp_path):
    model = vjx.create_model(
        "segmentation", backbone="vit_tiny_patch16", head="linear", depth=1, width=8, num_heads=2,
        image_size=32, num_classes=2, class_names=NAMES,
    )  # fmt: skip
    vjx.save(tmp_path / "model", model, variables := model.init_variables(jax.random.key(0)))
    out = tmp_path / "out"
    assert main([str(photographs), "--model", str(tmp_path / "model"), "--out", str(out)]) == 0
    pipeline = photograph_pipeline(model)
    rows = dense_models.prepare_photograph(photographs / "0.png", pipeline).rows
    (classes,) = SegmentationProgram(model, variables, pipeline)(
        {name: array[None] for name, array in rows.items()}
    )
    np.testing.assert_array_equal(np.asarray(Image.open(out / "0_classes.png")), classes)


def test_prepared_as_the_network_says():
    said = SimpleNamespace(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    model = SimpleNamespace(image_size=(32, 48), preprocessing=said)
    assert photograph_pipeline(model) == (
        "resize_pad((32, 48), fill=(128, 128, 128))|normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))"
    )
    assert photograph_pipeline(model, 64).startswith("resize_pad(64, ")

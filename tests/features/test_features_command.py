"""python -m vit_jax_xfer.features: what it writes, in which sizes, and what is wrong."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from known_extractors import tiny_backbone_file
from PIL import Image

import vit_jax_xfer as vjx
from vit_jax_xfer.explain.image_files import find_images
from vit_jax_xfer.features.__main__ import _check_float16, main
from vit_jax_xfer.features.command import comparison_parser
from vit_jax_xfer.features.feature_files import Sizing
from vit_jax_xfer.features.open_extractors import load_backbone, make_extractors
from vit_jax_xfer.models.lifting.lift import LiFT
from vit_jax_xfer.pretrained.saved_models import save_file


@pytest.fixture
def model(tmp_path):
    return tiny_backbone_file(tmp_path)


@pytest.fixture
def photos(tmp_path):
    files = []
    for i, sides in enumerate(((40, 60), (50, 30), (5, 3))):
        pixels = np.random.default_rng(i).integers(0, 256, (*sides, 3), dtype=np.uint8)
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(pixels).save(files[-1])
    return files


def run(*arguments):
    return main([str(argument) for argument in arguments])


def expected(model, photo, height, width, **made):
    extractor = make_extractors(*load_backbone(model), **{"names": ("plain",), **made})[0]
    image = Image.open(photo).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(extractor(np.asarray(image)[None]))


def test_one_file_of_all(model, photos, tmp_path):
    out = tmp_path / "x.npz"
    # A photograph smaller than a patch is enlarged like any other.
    assert run(*photos, "--model", model, "--out", out) == 0
    found = np.load(out)
    assert found["features"].shape == (3, 4, 4, 64) and found["features"].dtype == np.float32
    for i, photo in enumerate(photos):
        np.testing.assert_array_equal(found["features"][i], expected(model, photo, 32, 32)[0])
    assert found["files"].tolist() == [str(photo) for photo in photos]
    assert found["image_size"].tolist() == [[32, 32]] * 3
    facts = {name: found[name].item() for name in ("facet", "layer", "patch_size", "steps", "lift")}
    layers = load_backbone(model)[0].model.depth
    assert facts == {"facet": "key", "layer": layers - 1, "patch_size": 8, "steps": 0, "lift": ""}
    assert {file.name for file in tmp_path.iterdir()} == {
        "tiny.safetensors", "0.png", "1.png", "2.png", "x.npz"}  # fmt: skip


def test_lifted_twice_in_half_the_bytes(model, photos, tmp_path):
    lift = LiFT(width=64, patch_size=8)
    example = [jnp.zeros(x.shape) for x in lift.example_inputs()]
    weights = lift.init(jax.random.key(1), *example)
    save_file(tmp_path / "lift.safetensors", lift, weights)
    out = tmp_path / "x.npz"
    flags = ["--model", model, "--lift", tmp_path / "lift.safetensors", "--steps", 2, "--size", 40]
    assert run(photos[0], *flags, "--out", out, "--dtype", "float16") == 0
    found = np.load(out)
    assert found["features"].dtype == np.float16 and found["steps"] == 2
    made = {"lifts": [str(tmp_path / "lift.safetensors")], "steps": [2], "names": ()}
    whole = expected(model, photos[0], 40, 40, **made)
    assert whole.shape == (1, 20, 20, 64)
    np.testing.assert_allclose(found["features"], whole, rtol=1e-3, atol=1e-4)


def test_the_pages_python_gives_the_commands_arrays(model, photos, tmp_path, monkeypatch):
    """docs/lift.md, "The same from Python"."""
    page = (pathlib.Path(__file__).parents[2] / "docs/lift.md").read_text()
    block = re.search(r"The same from Python.*?```python\n(.*?)```", page, re.DOTALL)[1]
    lift = LiFT(width=64, patch_size=8)
    example = [jnp.zeros(x.shape) for x in lift.example_inputs()]
    lift_file = tmp_path / "lift.safetensors"
    save_file(lift_file, lift, lift.init(jax.random.key(1), *example))
    photos[0].rename(tmp_path / "photo.jpg")
    for name, file in (("dino_deitsmall16_pretrain.pth", model), ("runs/lift/model", lift_file)):
        assert f'"{name}"' in block
        block = block.replace(f'"{name}"', repr(str(file)))
    monkeypatch.chdir(tmp_path)
    found = {}
    exec(block, found)
    for name, flags in (("features", []), ("fine", ["--lift", lift_file, "--steps", 2])):
        assert run("photo.jpg", "--model", model, "--out", f"{name}.npz", *flags) == 0
        written = np.load(f"{name}.npz")["features"]
        np.testing.assert_allclose(found[name], written, rtol=1e-4, atol=1e-5)


def test_what_is_no_number_or_too_large_is_named(photos, tmp_path, capsys):
    model = vjx.create_model("vit_micro_patch8", image_size=32, depth=1, num_classes=0)
    variables = model.init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    large = jax.tree_util.tree_map_with_path(
        lambda path, x: x * 3e6 if "patch_embed" in str(path) else x, variables
    )
    save_file(tmp_path / "large.safetensors", model, large)
    flags = ["--model", tmp_path / "large.safetensors", "--facet", "token", "--dtype", "float16"]
    for out in ("x.npz", "out"):
        assert run(*photos[:2], *flags, "--out", tmp_path / out) == 1
        errors = capsys.readouterr().err.strip().splitlines()[-2:]
        for photo, error in zip(photos, errors, strict=False):
            assert error.startswith(f"error: {photo}: features: ")
            assert "are beyond float16" in error and "--dtype float32" in error
        assert not (tmp_path / out).exists()
    broken = jax.tree.map(lambda x: x * np.nan, variables)
    save_file(tmp_path / "nan.safetensors", model, broken)
    flags = ["--model", tmp_path / "nan.safetensors", "--out", tmp_path / "x.npz"]
    assert run(photos[0], *flags) == 1
    assert f"{photos[0]}: features: 1024 of 1024 values are NaN" in capsys.readouterr().err


def test_what_half_the_bits_do_not_hold():
    """Too large becomes infinite, too small zero; a channel of zeros among others is neither."""
    features = np.full((2, 3, 4), 0.5, np.float32)
    features[0, 0, :3] = 0, 1e-9, 65504
    _check_float16(features, "a.png")
    features[1, :2], features[1, 2] = 3e-5, 0
    with pytest.raises(ValueError, match="a.png: features: 2 of 6 are smaller in all"):
        _check_float16(features, "a.png")
    features[0, 0, 0] = 65505
    with pytest.raises(ValueError, match="a.png: features: 1 of 24 values are beyond float16"):
        _check_float16(features, "a.png")


def test_a_networks_own_size_may_leave_pixels_over(photos, tmp_path):
    """As SigLIP's 384 in patches of 14: the command's default, and the same from Python."""
    model = vjx.create_model(
        "vit_micro_patch8", image_size=36, depth=1, num_classes=0, drop_remainder=True
    )
    variables = model.init_variables(jax.random.key(0))
    save_file(tmp_path / "own.safetensors", model, variables)
    flags = ["--model", tmp_path / "own.safetensors", "--out", tmp_path / "x.npz"]
    assert run(photos[0], *flags) == 0
    found = np.load(tmp_path / "x.npz")
    assert found["image_size"].tolist() == [[36, 36]] and found["features"].shape == (1, 4, 4, 64)
    images = vjx.dense.prepare_photos(model, [photos[0]])
    assert images.shape == (1, 36, 36, 3)
    python = vjx.dense.descriptors(model, variables, images)
    np.testing.assert_allclose(found["features"], python, rtol=1e-4, atol=1e-5)
    assert run(photos[0], *flags, "--overwrite", "--image-size", 36) == 1


def test_shapes_that_are_kept(model, photos, tmp_path):
    out = tmp_path / "out"
    flags = ["--model", model, "--longest", 48, "--out", out, "--picture", out]
    assert run(*photos, *flags) == 0
    shapes = [np.load(out / f"{i}.npz")["image_size"].tolist() for i in range(3)]
    assert shapes == [[[32, 48]], [[48, 32]], [[48, 32]]]
    found = np.load(out / "0.npz")["features"]
    np.testing.assert_array_equal(found, expected(model, photos[0], 32, 48))
    with Image.open(out / "1.png") as picture:
        assert picture.height > 384 and picture.width > 400
    one = tmp_path / "one.npz"
    assert run(photos[0], "--model", model, "--longest", 48, "--out", one) == 0
    assert np.load(one)["features"].shape == (1, 4, 6, 64)


def test_sizing():
    assert Sizing(16, longest=300).sides(500, 100) == (304, 64)
    assert Sizing(16, longest=16).sides(1000, 10) == (16, 16)
    assert Sizing(14, size=28).sides(1, 9) == (28, 28)
    assert Sizing(14, size=(28, 56)).sides(1, 9) == (28, 56)
    assert Sizing(16, size=41, any_size=True).sides(9, 9) == (41, 41)
    with pytest.raises(
        ValueError, match="--image-size: 8 pixels are smaller than one 16-pixel patch"
    ):
        Sizing(16, size=8)
    with pytest.raises(ValueError, match="--longest: 15 pixels are smaller than one 16-pixel"):
        Sizing(16, longest=15)
    with pytest.raises(
        ValueError, match="--image-size: 41 pixels are not .* patches; 48 is the nearest"
    ):
        Sizing(16, size=41)


def test_broken_images_do_not_stop_the_others(model, photos, tmp_path, capsys):
    photos[1].write_bytes(b"broken")
    out = tmp_path / "x.npz"
    assert run(*photos, "--model", model, "--out", out) == 1
    said = capsys.readouterr()
    assert "wrote the features of 2 images" in said.out
    assert f"error: cannot read image {photos[1]}" in said.err
    found = np.load(out)
    assert found["files"].tolist() == [str(photos[0]), str(photos[2])]
    assert len(found["features"]) == len(found["image_size"]) == 2
    assert run(photos[1], "--model", model, "--out", tmp_path / "y.npz") == 1
    assert not (tmp_path / "y.npz").exists()


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--size", "4"], "--image-size: 4 pixels are smaller than one 8-pixel patch"),
        (["--longest", "48"], "--out: 3 images with --longest need a file each"),
        (["--picture", "p.png"], "--picture: 3 images make as many pictures; give a folder"),
        (["--picture", "p.jpg"], "--picture: p.jpg: give a folder, or a name that ends in .png"),
        (["--out", "nowhere/x.npz"], "--out: there is no folder"),
        (["--out", "0.png"], "--out: 0.png is a file; give a folder, or a name"),
        (["--out", "x.npy"], "--out: x.npy: give a folder, or a name that ends in .npz"),
        (["--out", "x.onnx"], "--out: x.onnx: give a folder, or a name that ends in .npz"),
        (["--pixels", "9000000"], "--pixels: 9000000×9000000 features of 64 channels"),
        (
            ["--lift", "tiny.safetensors"],
            "error: --lift: tiny.safetensors: expected a LiFT or",
        ),
        (["--steps", "2"], "--steps: nothing is doubled without --lift"),
        (["--facet", "keys"], "error: --facet: 'keys' is none of"),
        (["--model", "gone"], "error: --model: gone"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    model, photos, tmp_path, capsys, monkeypatch, flags, message
):
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    assert run(*photos, "--model", model, "--out", "x.npz", *flags) == 1
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert set(tmp_path.iterdir()) == before


def test_the_flag_of_version_0_1_says_its_new_name(capsys):
    parser = comparison_parser("module", "what", "example")
    options = parser.parse_args(["--model", "m", "--ways", "plain, larger"])
    assert options.extractors == ("plain", "larger") and not hasattr(options, "ways")
    assert capsys.readouterr().err == "--ways is now --extractors\n"


def test_files_are_not_overwritten_unasked(model, photos, tmp_path, capsys):
    out = tmp_path / "x.npz"
    out.write_bytes(b"mine")
    assert run(photos[0], "--model", model, "--out", out) == 1
    assert "x.npz exists already; --overwrite" in capsys.readouterr().err
    assert out.read_bytes() == b"mine"
    assert run(photos[0], "--model", model, "--out", out, "--overwrite") == 0
    assert len(np.load(out)["features"]) == 1


def test_a_phones_photograph_and_every_suffix(tmp_path, capsys):
    """Upright as viewers show it, and found in a folder whatever format it has."""
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    upright = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.save(folder / "b.tif")
    upright.transpose(Image.Transpose.ROTATE_90).save(folder / "a.png", exif=exif)
    upright.save(folder / "c.PPM")
    files = find_images([folder], tmp_path / "out")
    assert [file.name for file in files] == ["a.png", "b.tif", "c.PPM"]
    (folder / "d.HEIC").write_bytes(b"a phone's")
    assert len(find_images([folder], tmp_path / "out")) == 3
    assert "photos: left out 1 .heic: not read; save them as JPEG" in capsys.readouterr().err
    (tmp_path / "phone").mkdir()
    (folder / "d.HEIC").rename(tmp_path / "phone/d.HEIC")
    with pytest.raises(
        ValueError, match="phone: holds no image files .* but 1 .heic, which aren't"
    ):
        find_images([tmp_path / "phone"], tmp_path / "out")
    model = vjx.create_model("vit_micro_patch8", image_size=32, num_classes=0)
    images = vjx.dense.prepare_photos(model, files)
    assert images.shape == (3, 32, 32, 3) and images.dtype == np.float32
    np.testing.assert_array_equal(images[0], images[1])
    np.testing.assert_array_equal(images[0], images[2])
    assert vjx.dense.prepare_photos(model, pixels, longest=48).shape == (1, 48, 32, 3)
    with pytest.raises(ValueError, match="longest: the photographs get .* one shape at a time"):
        vjx.dense.prepare_photos(model, [pixels, pixels[:, :1]], longest=48)
    for bad, message in (([], "empty list"), ([pixels[0]], r"photos\[0\]: got uint8 of shape")):
        with pytest.raises(ValueError, match=message):
            vjx.dense.prepare_photos(model, bad)

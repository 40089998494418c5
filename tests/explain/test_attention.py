"""python -m vit_jax_xfer.explain.attention: whose look is drawn where, and what is refused."""

import jax
import numpy as np
import pytest
from PIL import Image

import vit_jax_xfer as vjx
from vit_jax_xfer.explain.attention import main
from vit_jax_xfer.models.preprocessing import IMAGENET, Preprocessing
from vit_jax_xfer.pretrained.saved_models import save_file

SIZES = {"image_size": 16, "width": 16, "depth": 2, "num_heads": 2, "num_classes": 3}
PREFIX = 3  # a class token and two registers


def variables_of(model, seed):
    """Numbers so large that attention is far from even."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 16, 16, 3), np.float32))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.standard_normal(x.shape).astype(x.dtype), shapes)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """(path, model, variables) with registers."""
    view = Preprocessing(*IMAGENET, size=16, crop=0.5)
    model = vjx.create_model("vit_micro_patch4", registers=2, preprocessing=view, **SIZES)
    variables = variables_of(model, 0)
    path = tmp_path_factory.mktemp("saved") / "plain.safetensors"
    save_file(path, model, variables)
    return str(path), model, variables


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A wide, a high and a broken one."""
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for name, size in (("wide", (40, 80)), ("high", (64, 32))):
        pixels = generator.integers(0, 255, (*size, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def drawn(out, name):
    with np.load(out / f"{name}.npz") as arrays:
        return dict(arrays)


def maps_of(saved, file):
    """(L, H, T, T) of a photograph, by the library."""
    _, model, variables = saved
    images = vjx.preprocess(model, [file])
    return np.asarray(vjx.extract(model, variables, images, attention=True).attention[:, 0])


def test_the_class_token_looks(saved, photos, tmp_path):
    out = tmp_path / "out"
    assert main([str(photos), "--model", saved[0], "--out", str(out), "--overlays"]) == 0
    for name in ("wide", "high"):
        found, maps = drawn(out, name), maps_of(saved, photos / f"{name}.png")
        for layer in range(2):
            seen, before = found[f"block{layer}_maps"], found[f"block{layer}_prefix"]
            expected = maps[layer, :, 0, PREFIX:].reshape(2, 4, 4)
            np.testing.assert_allclose(seen, expected, atol=1e-6)
            np.testing.assert_allclose(seen.sum((1, 2)) + before.sum(1), 1, atol=1e-5)
            own = maps[layer, :, 1:3, PREFIX:].mean(0).reshape(2, 4, 4)
            np.testing.assert_allclose(found[f"block{layer}_registers"], own, atol=1e-6)
    # Half of the shorter side is seen: what was cut away has no colour, and what was seen has.
    overlay = np.asarray(Image.open(out / "wide_block1.png")).astype(int)
    assert overlay.shape == (40, 80, 3)
    grey = np.ptp(overlay, axis=-1) == 0
    assert grey[:9].all() and grey[:, :29].all() and grey[:, -29:].all()
    assert not grey[11:29, 31:49].any()


def test_the_patch_under_a_pixel_looks(saved, photos, tmp_path):
    for name, at, patch in (("wide", (31.5, 28.5), 12), ("high", (16.1, 24.5), 2)):
        out = tmp_path / name
        given = [str(photos / f"{name}.png"), "--model", saved[0], "--out", str(out)]
        assert main([*given, "--at", f"{at[0]},{at[1]}", "--layers=-1", "--heads", "1"]) == 0
        found = drawn(out, name)
        assert "block0_maps" not in found
        expected = maps_of(saved, photos / f"{name}.png")[1, :, PREFIX + patch, PREFIX:]
        np.testing.assert_allclose(found["block1_maps"].reshape(2, 16), expected, atol=1e-6)
        all_heads = Image.open(out / f"{name}.png").width
    assert main([*given, "--overwrite", "--layers=-1"]) == 0
    assert Image.open(out / f"{name}.png").width > all_heads


def test_without_class_token_the_mean_over_patches_looks(photos, tmp_path):
    model = vjx.create_model(
        "vit_micro_patch4", class_token=False, pool="avg",
        preprocessing=Preprocessing(*IMAGENET, size=16), **SIZES,
    )  # fmt: skip
    variables = variables_of(model, 1)
    path, file = tmp_path / "x.safetensors", photos / "high.png"
    save_file(path, model, variables)
    given = [str(file), "--model", str(path), "--out", str(tmp_path / "out")]
    assert main(given) == 0
    maps = maps_of((None, model, variables), file)
    found = drawn(tmp_path / "out", "high")
    np.testing.assert_allclose(found["block0_maps"].reshape(2, 16), maps[0].mean(axis=1), atol=1e-6)


def errors(capsys, *given):
    assert main([str(x) for x in given]) == 1
    return capsys.readouterr().err.splitlines()


def test_what_does_not_fit_is_said_in_one_line(saved, photos, tmp_path, capsys):
    rest = ("--model", saved[0], "--out", tmp_path / "out")
    wide, high = photos / "wide.png", photos / "high.png"
    (cut,) = errors(capsys, wide, *rest, "--at", "10,20")
    assert cut.startswith("error: --at: (10, 20) was cut off; the network sees x from 30 to 50")
    (outside,) = errors(capsys, wide, *rest, "--at", "40,50", "--overwrite")
    assert "--at: (40, 50) is outside of its 80×40 pixels" in outside
    (layers,) = errors(capsys, wide, *rest, "--layers", "2")
    assert layers == "error: --layers: 2 is not a layer of a network of depth 2"
    (heads,) = errors(capsys, wide, *rest, "--heads", "0,2")
    assert heads == "error: --heads: 0,2 are not different heads of 2"
    (tmp_path / "x.jpg").write_bytes(b"no image")
    (broken,) = errors(capsys, tmp_path / "x.jpg", high, *rest)
    assert broken.startswith("error: cannot read image") and (tmp_path / "out/high.png").is_file()
    lift = vjx.create_model("lift", patch_size=4)
    save_file(tmp_path / "lift.safetensors", lift, {"params": {"x": np.zeros(1)}})
    (other,) = errors(
        capsys, wide, "--model", tmp_path / "lift.safetensors", "--out", tmp_path / "y"
    )
    assert "has no attention from patch to patch" in other


def test_attention_that_is_no_number_names_the_photograph(photos, tmp_path, capsys):
    """Also of a network of which patches alone are looked at."""
    model = vjx.create_model(
        "vit_micro_patch4", class_token=False, pool="avg",
        preprocessing=Preprocessing(*IMAGENET, size=16), **SIZES,
    )  # fmt: skip
    variables = jax.tree.map(lambda x: np.full_like(x, np.nan), variables_of(model, 1))
    save_file(tmp_path / "x.safetensors", model, variables)
    given = ("--model", tmp_path / "x.safetensors", "--out", tmp_path / "out")
    (said,) = errors(capsys, photos / "high.png", *given)
    assert "high.png: attention: some values are NaN or infinite" in said

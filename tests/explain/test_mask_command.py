"""python -m vit_jax_xfer.explain.filter_masks: what it writes, leaves alone and refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import vit_jax_xfer as vjx
from vit_jax_xfer.explain.cells import stage_cells
from vit_jax_xfer.explain.filter_masks import main
from vit_jax_xfer.models.filter.filter_blocks import Stage
from vit_jax_xfer.models.filter.network import FilterViT
from vit_jax_xfer.models.preprocessing import IMAGENET, Preprocessing
from vit_jax_xfer.pretrained.saved_models import save_file

MODEL = FilterViT(
    (Stage("filter", 8, 2, expand=1, keep=0.25),),
    32,
    stem_width=8,
    stem_expand=1,
    num_classes=3,
    head_width=0,
    preprocessing=Preprocessing(*IMAGENET, size=32),
)


def saved(path, model):
    images = jnp.zeros((1, 32, 32, 3))
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    save_file(path, model, jax.jit(model.init)(keys, images))
    return str(path)


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("scored") / "scored.safetensors", MODEL)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    # As published: drawn anew at every evaluation.
    model = MODEL.clone(choose="random", random_evaluation=True)
    return saved(tmp_path_factory.mktemp("drawn") / "drawn.safetensors", model)


@pytest.fixture
def photos(tmp_path):
    """photos/{a.png, b.jpg, c.png} of different shapes."""
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name, size in (("a.png", (50, 40)), ("b.jpg", (33, 90)), ("c.png", (36, 36))):
        picture = generator.integers(0, 255, (*size, 3)).astype(np.uint8)
        Image.fromarray(picture).save(folder / name)
    return folder


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_sheets_overlays_and_arrays(scored, photos, tmp_path, capsys):
    out = tmp_path / "new" / "out"
    given = [str(photos), "--model", scored, "--out", str(out), "--batch-size", "2"]
    assert main([*given, "--overlays", "--arrays"]) == 0
    assert "wrote 3 sheets to" in capsys.readouterr().out
    kinds = (".npz", ".png", "_stage0_importance.png", "_stage0_kept.png")
    assert names(out) == [f"{name}{kind}" for name in "abc" for kind in kinds]
    model, variables = vjx.load_pretrained(scored)
    (cells,) = stage_cells(model, 32)
    for file in sorted(photos.iterdir()):
        photo = np.asarray(Image.open(file).convert("RGB"))
        for kind in ("kept", "importance"):
            overlay = Image.open(out / f"{file.stem}_stage0_{kind}.png")
            assert overlay.size == photo.shape[1::-1]
        expected = vjx.extract(model, variables, vjx.preprocess(model, [file])).filters[0]
        with np.load(out / f"{file.stem}.npz") as arrays:
            np.testing.assert_array_equal(arrays["stage0_kept"], expected.kept[0])
            np.testing.assert_allclose(
                arrays["stage0_importance"], expected.importance[0], rtol=1e-5
            )
            np.testing.assert_array_equal(arrays["stage0_row_edges"], cells.rows.edges)
            np.testing.assert_array_equal(arrays["stage0_column_centres"], cells.columns.centres)
            box, seen = arrays["box"], arrays["image"]
            assert seen.shape == (32, 32, 3)
        # In the middle of the box the network saw what is in the middle of the photograph.
        assert np.allclose((box[0] + box[2], box[1] + box[3]), photo.shape[:2], atol=3)
        assert abs(seen.mean() - photo.mean()) < 12


def test_any_size_and_the_whole_image(scored, photos, tmp_path):
    given = [str(photos / "b.jpg"), "--model", scored, "--image-size", "21,47", "--arrays"]
    assert main([*given, "--out", str(tmp_path / "cut")]) == 0
    assert main([*given, "--out", str(tmp_path / "all"), "--whole", "--tile", "96"]) == 0
    with np.load(tmp_path / "all" / "b.npz") as arrays:
        assert arrays["stage0_importance"].shape == (9, 22)
        np.testing.assert_array_equal(arrays["box"], [0, 0, 33, 90])
    with np.load(tmp_path / "cut" / "b.npz") as arrays:
        assert arrays["box"][1] > 5
    small, large = (Image.open(tmp_path / x / "b.png").width for x in ("all", "cut"))
    assert small < large < 3 * 448 + 100


def test_a_broken_image_is_named_and_the_others_are_drawn(scored, photos, tmp_path, capsys):
    (photos / "aa.jpg").write_bytes((photos / "b.jpg").read_bytes()[:150])
    (photos / "empty.png").write_bytes(b"")
    out = tmp_path / "out"
    assert main([str(photos), "--model", scored, "--out", str(out)]) == 1
    assert names(out) == ["a.png", "b.png", "c.png"]
    said = capsys.readouterr()
    assert "wrote 3 sheets" in said.out
    lines = said.err.splitlines()
    assert len(lines) == 2
    for line, name in zip(lines, ("aa.jpg", "empty.png"), strict=True):
        assert line.startswith(f"error: cannot read image {photos / name}")


def test_only_broken_images(scored, tmp_path, capsys):
    (tmp_path / "x.jpg").write_bytes(b"no image")
    given = [str(tmp_path / "x.jpg"), "--model", scored, "--out", str(tmp_path / "out")]
    assert main(given) == 1
    assert names(tmp_path / "out") == []
    assert "error: cannot read image" in capsys.readouterr().err


def test_random_tokens_are_the_evaluations_or_a_seeds(drawn, photos, tmp_path):
    found = {}
    for name, seed in (("own", ()), ("again", ()), ("one", (1,)), ("two", (2,))):
        given = [str(photos), "--model", drawn, "--out", str(tmp_path / name), "--arrays"]
        assert main([*given, "--overlays", *(f"--seed={x}" for x in seed)]) == 0
        assert not list((tmp_path / name).glob("*importance*"))
        draws = []
        for letter in "abc":
            with np.load(tmp_path / name / f"{letter}.npz") as arrays:
                assert "stage0_importance" not in arrays
                draws.append(arrays["stage0_kept"])
        assert (draws[0] == draws[1]).all()
        found[name] = draws[0]
    model, variables = vjx.load_pretrained(drawn)
    model = model.clone(random_evaluation=False)
    images = jnp.zeros((1, 32, 32, 3))
    expected = vjx.extract(model, variables, images).filters[0].kept[0]
    np.testing.assert_array_equal(found["own"], expected)
    np.testing.assert_array_equal(found["own"], found["again"])
    for kept in (found["one"], found["two"]):
        assert kept.shape == expected.shape
        assert (np.diff(kept) > 0).all()
    assert len({kept.tobytes() for kept in found.values()}) == 3


def test_pictures_that_exist_are_left_alone(scored, photos, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "b.png").write_bytes(b"mine")
    given = [str(photos), "--model", scored, "--out", str(out)]
    assert main(given) == 1
    assert f"error: --out: {out / 'b.png'} exists already; --overwrite" in capsys.readouterr().err
    assert names(out) == ["b.png"]
    assert (out / "b.png").read_bytes() == b"mine"
    assert main([*given, "--overwrite"]) == 0
    assert Image.open(out / "b.png").width > 100


def test_names_and_folders(scored, photos, tmp_path):
    out = photos / "masks"
    (photos / "sub").mkdir()
    (photos / ".hidden").mkdir()
    for name in ("sub/a.png", "sub/a.jpg", "sub/d.webp", ".hidden/e.png"):
        Image.open(photos / "a.png").save(photos / name)
    given = ["--model", scored, "--out", str(out)]
    expected = ["a.png.png", "b.png", "c.png", "d.png", "sub_a.jpg.png", "sub_a.png.png"]
    # The second time the folder has the first one's pictures in it; a file counts once.
    for _ in range(2):
        assert main([str(photos), str(photos / "c.png"), *given, "--overwrite"]) == 0
        assert names(out) == expected


def errors(capsys, *given):
    assert main([str(x) for x in given]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_what_does_not_fit_is_said_in_one_line(scored, drawn, photos, tmp_path, capsys):
    out, empty = tmp_path / "out", tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("no image")
    rest = ("--model", scored, "--out", out)
    assert f"{empty}: holds no image files (.jpg, " in errors(capsys, empty, *rest)
    assert "nowhere: no such file or folder" in errors(capsys, tmp_path / "nowhere", *rest)
    said = errors(capsys, photos, "--model", "missing.pth", "--out", out)
    assert said.startswith("error: --model: ") and "no such file" in said
    said = errors(capsys, photos, "--model", scored, "--out", photos)
    assert f"--out: {photos} is the folder of the images" in said
    said = errors(capsys, photos / "a.png", "--model", scored, "--out", photos)
    assert f"--out: {photos / 'a.png'} is one of the images" in said
    said = errors(capsys, photos, "--model", scored, "--out", empty / "notes.txt")
    assert "notes.txt is a file; give a folder" in said
    assert "error: --seed: this network scores its tokens" in errors(
        capsys, photos, *rest, "--seed", 1
    )
    said = errors(capsys, photos, *rest, "--image-size", "4,50")
    assert "error: --image-size: 4×50 pixels; the first convolution needs 5" in said
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("vit_micro_patch4", {"image_size": 32}, "a VisionTransformer has no filter stages"),
        ("mae_vit_micro_patch4", {"image_size": 32}, "a MaskedAutoencoder has no filter stages"),
        ("filter_vit_micro", {"attend": "none"}, "attend: 'none' chooses no tokens"),
        ("filter_vit_micro", {"stages": ()}, "no filter stages"),
    ],
)
def test_other_networks(name, fields, message, photos, tmp_path, capsys):
    model = vjx.create_model(name, **fields)
    save_file(tmp_path / "x.safetensors", model, {"params": {"x": np.zeros(1)}})
    given = (photos, "--model", tmp_path / "x.safetensors", "--out", tmp_path / "out")
    said = errors(capsys, *given)
    assert message in said
    assert "x.safetensors" in said


@pytest.mark.parametrize(
    "options", [["--image-size", "0"], ["--image-size", "3,4,5"], ["--range", "1,0.5"]]
)
def test_options_that_make_no_sense(options, scored, photos, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(photos), "--model", scored, "--out", str(tmp_path / "out"), *options])
    assert "expected" in capsys.readouterr().err


def test_a_network_that_does_not_say_how_images_are_prepared(photos, tmp_path, capsys):
    model = saved(tmp_path / "x.safetensors", MODEL.clone(preprocessing=None))
    given = [str(photos), "--model", model, "--out", str(tmp_path / "out"), "--range", "0.4,1"]
    assert main(given) == 0
    assert "does not say how images are prepared: mean 0.5, std 0.5" in capsys.readouterr().err

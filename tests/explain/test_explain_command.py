"""python -m vit_jax_xfer.explain: maps on photographs, classes by name, a FilterViT's own masks."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

import vit_jax_xfer as vjx
from vit_jax_xfer.explain.__main__ import main, usual_methods
from vit_jax_xfer.explain.attention import main as attention_main
from vit_jax_xfer.explain.cells import even_cells, stage_cells
from vit_jax_xfer.explain.class_choice import class_number
from vit_jax_xfer.explain.compare.__main__ import main as compare_main
from vit_jax_xfer.explain.explained_photos import asked_method
from vit_jax_xfer.explain.kept_share import kept_area, kept_share
from vit_jax_xfer.explain.kept_tokens import StageMask
from vit_jax_xfer.explain.methods.attribution import TABLE
from vit_jax_xfer.explain.network_view import map_cells
from vit_jax_xfer.models.filter.filter_blocks import Stage
from vit_jax_xfer.models.filter.network import FilterViT
from vit_jax_xfer.models.preprocessing import IMAGENET, Preprocessing
from vit_jax_xfer.predict import main as predict_main
from vit_jax_xfer.pretrained.saved_models import save_file
from vit_jax_xfer.suites.imagenet_labels import LANDMARKS

CLASSES = ("rose", "tulip", "7")
VIEW = Preprocessing(*IMAGENET, size=16, crop=0.5)
FILTER = FilterViT(
    (Stage("filter", 8, 2, expand=1, keep=0.25),),
    32,
    stem_width=8,
    stem_expand=1,
    num_classes=3,
    head_width=0,
    preprocessing=Preprocessing(*IMAGENET, size=32, crop=1.0, crop_mode="squash"),
)


def variables_of(model, size):
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, size, size, 3), np.float32))
    rng = np.random.default_rng(0)
    draw = {"mean": 0.0, "var": 1.0}
    return jax.tree_util.tree_map_with_path(
        lambda path, x: (
            np.full(x.shape, draw[path[-1].key], x.dtype)
            if path[-1].key in draw
            else rng.standard_normal(x.shape).astype(x.dtype)
        ),
        shapes,
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = vjx.create_model(
        "vit_micro_patch4", image_size=16, width=16, depth=2, num_heads=2, num_classes=3,
        class_names=CLASSES, preprocessing=VIEW,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("saved") / "plain.safetensors"
    save_file(path, model, variables_of(model, 16))
    return str(path)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for name, size in (("wide", (40, 80)), ("high", (64, 32))):
        pixels = generator.integers(0, 255, (*size, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def test_maps_are_the_librarys_and_lie_where_it_looked(saved, photos, tmp_path, capsys):
    out = tmp_path / "out"
    given = [str(photos), "--model", saved, "--out", str(out), "--heads", "--class", "tulip"]
    methods = ["rollout:head_fusion=max", "gradcam"]
    assert main([*given, "--methods", *methods]) == 0
    assert "explained 2 photographs" in capsys.readouterr().out
    kinds = (".npz", "_gradcam.png", "_rollout_head_fusion_max.png")
    expected = [f"{name}{kind}" for name in ("high", "wide") for kind in kinds]
    assert sorted(x.name for x in out.iterdir()) == sorted([*expected, "heads.png", "sheet.png"])
    model, variables = vjx.load_pretrained(saved)
    images = vjx.preprocess(model, [photos / "high.png", photos / "wide.png"])
    rollout = vjx.explain.attribute(model, variables, images, "rollout", head_fusion="max")
    cam = vjx.explain.attribute(model, variables, images, "gradcam", 1)
    heads = vjx.explain.class_attention(model, variables, images)
    for i, name in enumerate(("high", "wide")):
        with np.load(out / f"{name}.npz") as found:
            np.testing.assert_allclose(found["gradcam"], cam.map[i], atol=1e-4)
            np.testing.assert_allclose(found["rollout_head_fusion_max"], rollout.map[i], atol=1e-4)
            np.testing.assert_allclose(found["heads"], heads[i], atol=1e-4)
            assert found["class"] == 1 and abs(found["probabilities"].sum() - 1) < 1e-5
    # Half of the shorter side was seen, in the middle; a signed map is blue, white or red there.
    overlay = np.asarray(Image.open(out / "wide_gradcam.png")).astype(int)
    assert overlay.shape == (40, 80, 3)
    colourless = np.ptp(overlay, axis=-1) == 0
    assert colourless[:9].all() and colourless[:, :29].all() and colourless[:, -29:].all()
    seen = overlay[11:29, 31:49]
    where = np.repeat(np.repeat(np.asarray(cam.map[1]), 5, 0), 5, 1)[1:19, 1:19]
    strong = np.abs(where) > 0.5 * np.abs(where).max()
    redder = seen[..., 0] > seen[..., 2]
    assert (redder == (where > 0))[strong].all()


def test_a_filter_networks_maps_are_held_to_its_mask(photos, tmp_path, capsys):
    path = tmp_path / "filter.safetensors"
    save_file(path, FILTER, variables_of(FILTER, 32))
    out = tmp_path / "out"
    given = [str(photos), "--model", str(path), "--out", str(out), "--rows", "1"]
    assert main([*given, "--heads", "--methods", "gradcam", "raw_attention"]) == 0
    assert "inside what stage 0 keeps: image " in capsys.readouterr().out
    names = {x.name for x in out.iterdir()}
    assert {"sheet_1.png", "sheet_2.png", "kept_shares.json"} < names
    with np.load(out / "wide.npz") as found:
        # Kept pixels look at kept pixels, and lie where they came from.
        np.testing.assert_allclose(found["heads"].sum((1, 2)), 1, atol=1e-5)
        assert not found["heads"][:, ~found["stage0_kept"]].any()
    shares = json.loads((out / "kept_shares.json").read_text())
    assert set(shares) == {str(photos / f"{name}.png") for name in ("wide", "high")}
    for one in shares.values():
        assert one["stage 0"]["raw_attention"] == pytest.approx(1.0)  # nothing else takes part
        assert one["stage 0"]["image"] == pytest.approx(0.2, abs=0.05)
        assert 0 <= one["stage 0"]["gradcam"] < 1


def test_the_share_inside_is_counted_by_pixels():
    (cells,) = stage_cells(FILTER, 32)
    kept = np.array([0, 1, 14, 15], np.int32)  # four cells in the corner of 14 by 14
    stage = StageMask(cells, kept, None)
    grid = np.zeros((14, 14))
    grid[0, 0], grid[5, 5], grid[13, 13] = 3.0, 1.0, -7.0
    assert kept_share(grid, cells, stage) == pytest.approx(0.75)
    assert kept_share(-np.ones((14, 14)), cells, stage) is None
    even = kept_share(np.ones((32, 32)), even_cells((32, 32), (32, 32)), stage)
    assert even == pytest.approx(kept_area(stage))


def test_maps_of_a_filter_network_lie_on_its_cells():
    (cells,) = stage_cells(FILTER, 32)
    found = map_cells(FILTER, cells.shape, (32, 32))
    np.testing.assert_array_equal(found.rows.edges, cells.rows.edges)
    assert map_cells(FILTER, (2, 2), (32, 32)).rows.edges.tolist() == [0, 16, 32]


def test_patches_that_leave_pixels_out_lie_where_they_are():
    """A strip at the end counts as the last patch's, and moves none."""
    model = vjx.VisionTransformer(image_size=32, patch_size=14, drop_remainder=True)
    rows = map_cells(model, (2, 2), (32, 32)).rows
    assert (rows.edges.tolist(), rows.centres.tolist()) == ([0, 14, 32], [7, 21])
    columns = map_cells(model.clone(drop_remainder=False), (2, 3), (28, 42)).columns
    assert (columns.edges.tolist(), columns.centres.tolist()) == ([0, 14, 28, 42], [7, 21, 35])


def test_classes_go_by_name_or_number():
    model = vjx.create_model("vit_micro_patch4", num_classes=3, class_names=CLASSES)
    assert [class_number(model, x) for x in ("tulip", "7", "0")] == [1, 2, 0]
    with pytest.raises(ValueError, match="class: 'tulips' is none of .*; near are 'tulip'"):
        class_number(model, "tulips")
    with pytest.raises(ValueError, match="class: 3 is none of the network's 0 to 2"):
        class_number(model, "3")
    unnamed = vjx.create_model("vit_micro_patch4", num_classes=3)
    assert class_number(unnamed, "2") == 2
    with pytest.raises(ValueError, match="doesn't say what its classes are called; give a number"):
        class_number(unnamed, "tulip")
    with pytest.raises(ValueError, match="the network has no head"):
        class_number(vjx.create_model("vit_micro_patch4", num_classes=0), "tulip")
    twice = model.clone(class_names=("crane", "tulip", "crane"))
    with pytest.raises(ValueError, match="class: 'crane' is the name of 0, 2; give a number"):
        class_number(twice, "crane")
    words = tuple(LANDMARKS.get(i, f"thing {i}") for i in range(1000))
    imagenets = model.clone(num_classes=1000, class_names=words)
    assert [class_number(imagenets, x) for x in ("zebra", "n02391049", "340")] == [340] * 3


def test_methods_take_options():
    assert asked_method("rollout").options == ()
    found = asked_method("rollout:discard=0.9,head_fusion=max,start_layer=1")
    assert dict(found.options) == {"discard": 0.9, "head_fusion": "max", "start_layer": 1}
    assert found.file_name == "rollout_discard_0.9_head_fusion_max_start_layer_1"
    with pytest.raises(ValueError, match="expected NAME or NAME:KEY=VALUE"):
        asked_method("rollout:discard")


def test_what_is_explained_by_default_hangs_on_the_network():
    """Without a head, as self-supervised networks are, what needs no class."""
    model = vjx.create_model("vit_micro_patch4", num_classes=3)
    assert usual_methods(model) == ("rollout", "generic_attention", "legrad", "attn_lrp")
    assert usual_methods(model.clone(num_classes=0)) == ("raw_attention", "rollout")
    assert usual_methods(FILTER) == ("gradcam", "attn_lrp", "rollout")
    assert all(not TABLE[name].of_class for name in usual_methods(model.clone(num_classes=0)))


def test_what_does_not_fit_is_said_in_one_line(saved, photos, tmp_path, capsys):
    out = tmp_path / "out"
    rest = [str(photos / "wide.png"), "--model", saved, "--out", str(out)]
    for more, expected in (
        (["--class", "tulp"], "error: --class: 'tulp' is none of the network's 3; near are"),
        (["--methods", "rolout"], "error: --methods: rolout: method: 'rolout' is none of"),
        (["--methods", "rollout:x=1"], "error: --methods: rollout:x=1: x: rollout has"),
        (["--methods", "edges", "edges"], "error: --methods: edges stands there twice"),
    ):
        assert main([*rest, *more]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(expected), line
        assert not out.exists()
    (tmp_path / "x.jpg").write_bytes(b"no image")
    assert main([str(tmp_path / "x.jpg"), *rest, "--methods", "edges"]) == 1
    assert "error: cannot read image" in capsys.readouterr().err
    assert (out / "wide_edges.png").is_file()
    assert main([*rest, "--methods", "edges"]) == 1
    assert "exists already; --overwrite replaces it" in capsys.readouterr().err


def test_what_is_no_number_names_the_photograph(tmp_path, capsys):
    """In all commands that draw on photographs, and in predictions."""
    model = vjx.create_model(
        "vit_micro_patch4", image_size=16, width=8, depth=1, num_heads=2, num_classes=2,
        preprocessing=VIEW,
    )  # fmt: skip
    broken = jax.tree.map(lambda x: x * np.nan, variables_of(model, 16))
    save_file(tmp_path / "m.safetensors", model, broken)
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    photo, weights = str(tmp_path / "a.png"), str(tmp_path / "m.safetensors")
    flags = [photo, "--model", weights, "--out", str(tmp_path / "out")]
    masks = tmp_path / "masks"
    masks.mkdir()
    for name in "abcd":
        Image.new("RGB", (20, 20)).save(tmp_path / f"{name}.png")
        Image.fromarray(np.eye(20, dtype=np.uint8)).save(masks / f"{name}.png")
    compared = ["--model", weights, "--masks", f"masks:{tmp_path}:{masks}", "--methods", "edges"]
    compared += ["--figures", "deletion", "--image-size", "16"]
    for command, arguments in (
        (main, [*flags, "--methods", "raw_attention"]),
        (compare_main, compared),
        (attention_main, flags),
        (predict_main, [weights, photo]),
    ):
        assert command(arguments) == 1
        error = capsys.readouterr().err.strip().splitlines()[-1]
        # Of four photographs with masks the last one is scored.
        named = photo if command is not compare_main else str(tmp_path / "d.png")
        assert named in error and "NaN or infinit" in error

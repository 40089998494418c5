"""Correspondence on pairs whose answers are known, on PF-WILLOW, and as a command."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from colour_extractor import colours
from PIL import Image

import vit_jax_xfer as vjx
from vit_jax_xfer.evaluate.correspondence.__main__ import main
from vit_jax_xfer.evaluate.correspondence.correspondence_benchmark import (
    Correspondence,
    open_correspondence,
)
from vit_jax_xfer.evaluate.correspondence.feature_cache import FeatureCache, in_blocks
from vit_jax_xfer.evaluate.correspondence.keypoint_pair import KeypointPair, inside
from vit_jax_xfer.evaluate.correspondence.letterbox import letterbox, placement
from vit_jax_xfer.evaluate.correspondence.pair_table import PairTable
from vit_jax_xfer.features.backbone import backbone_of
from vit_jax_xfer.features.feature_extractor import FeatureExtractor
from vit_jax_xfer.models.cell_places import patch_places
from vit_jax_xfer.models.lifting.bilinear import Bilinear
from vit_jax_xfer.pretrained.saved_models import save_file

WIDTH, HEIGHT, SIDE = 32, 24, 32


@pytest.fixture
def photos(tmp_path):
    """Noise, no two pixels alike, and the same five pixels to the right."""
    noise = np.random.default_rng(0).integers(1, 256, (HEIGHT, WIDTH, 3), np.uint8)
    paths = tmp_path / "source.png", tmp_path / "target.png"
    for path, pixels in zip(paths, (noise, np.roll(noise, 5, axis=1)), strict=True):
        Image.fromarray(pixels).save(path)
    return paths


def pair(photos, given, wanted, category="cat", reference=40.0):
    size = WIDTH, HEIGHT
    points = (inside(np.asarray(p, float).reshape(-1, 2), size) for p in (given, wanted))
    return KeypointPair(category, *photos, *points, size, size, reference)


GIVEN = np.array([[3, 4], [10, 20], [20, 11]])


def test_perfect_transfer(photos):
    reports = []
    benchmark = Correspondence("fake", [pair(photos, GIVEN, GIVEN + [5, 0])], SIDE)
    result = benchmark(colours(), lambda *done: reports.append(done))
    assert result.figures == {"PCK@0.1": 1, "PCK@0.05": 1, "PCK@0.01": 1}
    assert result.skipped == {"keypoints": 0, "pairs": 0}
    assert reports == [(1, 1)] and (benchmark.name, benchmark.size) == ("fake", SIDE)


@pytest.mark.parametrize("off, expected", [(1.9, (1, 1, 0)), (2, (1, 0, 0)), (4, (0, 0, 0))])
def test_known_errors(photos, off, expected):
    # Of a box of 40 pixels: less than 4, 2 and 0.4 pixels.
    benchmark = Correspondence("fake", [pair(photos, GIVEN, GIVEN + [5, off])], SIDE)
    assert tuple(benchmark(colours()).figures.values()) == expected


def test_categories_are_averaged(photos):
    wrong = GIVEN + [[5, 0], [5, 0], [-8, 0]]
    pairs = [
        pair(photos, GIVEN, GIVEN + [5, 0], "ant"),
        pair(photos, GIVEN, wrong, "bee"),
        pair(photos, GIVEN[:1], GIVEN[:1] - [3, 0], "bee"),
    ]
    # Pooled within bees, 2 of 4; then one half beside all of the ants.
    figures = Correspondence("fake", pairs, SIDE)(colours()).figures
    assert figures["PCK@0.1"] == pytest.approx(0.75)


def test_what_is_skipped(photos):
    nowhere = np.array([[np.nan] * 2, [3, -2], [3, HEIGHT]])  # the last ones lie in the black part
    pairs = [
        pair(photos, np.r_[GIVEN, nowhere], np.r_[GIVEN + [5, 0], nowhere]),
        pair(photos, [], []),
        pair(photos, nowhere, GIVEN),
        pair(photos, GIVEN, GIVEN, reference=0.0),
    ]
    result = Correspondence("fake", pairs, SIDE)(colours())
    assert result.figures["PCK@0.01"] == 1
    assert result.skipped == {"keypoints": 3 + 3 + 3, "pairs": 3}
    nothing = Correspondence("fake", pairs[1:2], SIDE)(colours())
    assert np.isnan(nothing.figures["PCK@0.1"])
    assert nothing.skipped == {"keypoints": 0, "pairs": 1}


class Larger:
    """A vector for each cell of 32 × 32; every second photograph's five to the right."""

    enlarge = 2

    def __init__(self):
        self.asked = 0

    def side(self, size):
        return 2 * size

    def __call__(self, photos):
        assert photos.shape == (1, 64, 64, 3)
        features = np.eye(1024, dtype=np.float32).reshape(1, 32, 32, 1024)
        self.asked += 1
        return jax.numpy.asarray(np.roll(features, 5 * (self.asked - 1), axis=2))


def test_larger_input(photos):
    # Points, box and distances are measured in the pixels of what the network gets.
    given, wanted = GIVEN + 0.5, GIVEN + [5.5, 0.5]
    figures = Correspondence("fake", [pair(photos, given, wanted)], SIDE)(Larger()).figures
    assert tuple(figures.values()) == (1, 1, 1)
    off = [pair(photos, given, wanted + [0, 3])]
    assert tuple(Correspondence("fake", off, SIDE)(Larger()).figures.values()) == (1, 0, 0)


def test_overlapping_cells_lie_where_their_patches_do(photos):
    # Patches of 8 pixels every 2, whose features are where they lie: transfer is the identity.
    places = patch_places((SIDE, SIDE), 8, 2)
    rows, columns = (SIDE * axis.middles() for axis in places)

    class Overlapping:
        enlarge, name = 1, "overlapping"

        def side(self, size):
            return size

        def places(self, image_size):
            assert image_size == (SIDE, SIDE)
            return places

        def __call__(self, given):
            y, x = np.meshgrid(rows, columns, indexing="ij")
            waves = [f(v / 9) for v in (x, y) for f in (np.sin, np.cos)]
            return jax.numpy.asarray(np.stack(waves, -1)[None], jax.numpy.float32)

    inner = np.array([[8.5, 10.5], [20.5, 19.5], [14.5, 12.5]])
    table = PairTable()
    benchmark = Correspondence("fake", [pair(photos, inner, inner, reference=100.0)], SIDE)
    benchmark.pair_scored = table
    assert benchmark(Overlapping()).figures["PCK@0.01"] == 1
    assert benchmark.photographs == 2
    lines = table.text().splitlines()
    assert lines[0].endswith("keypoints,skipped,PCK@0.1,PCK@0.05,PCK@0.01")
    source, target = photos
    assert lines[1:] == [f"overlapping,cat,{source},{target},3,0,1.0,1.0,1.0"]


def test_features_that_are_no_numbers_name_the_photograph(photos):
    spoiled = colours()
    compute, spoiled._compute = spoiled._compute, lambda *x: compute(*x) / 0
    with pytest.raises(ValueError, match=r"source\.png: features: .* NaN or infinite"):
        Correspondence("fake", [pair(photos, GIVEN, GIVEN)], SIDE)(spoiled)


def test_broken_photograph(photos):
    photos[1].write_bytes(photos[1].read_bytes()[:300])
    benchmark = Correspondence("fake", [pair(photos, GIVEN, GIVEN)], SIDE)
    with pytest.raises(ValueError, match=r"cannot read image .*target\.png"):
        benchmark(colours())


def test_letterbox(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 47, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    square = letterbox(tmp_path / "x.png", 64)
    # 30 × 64 / 47 = 40.9 rows, 41, below 11 black ones.
    expected = np.asarray(Image.fromarray(pixels).resize((64, 41), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(square[11:52], expected)
    assert square.shape == (64, 64, 3) and not square[:11].any() and not square[52:].any()
    place = placement((47, 30), 64)
    np.testing.assert_allclose(place.points(np.array([[0, 0], [47, 15]])),
                               [[0, 11], [64, 11 + 15 * 64 / 47]])  # fmt: skip
    assert placement((300, 1), 64).size == (64, 1)


def test_cache_is_bounded():
    asked = []

    def compute(path):
        asked.append(path.name)
        return np.zeros(10, np.float32)

    cache = FeatureCache(compute, limit=100)
    for name in "aababcacb":
        cache(Path(name))
    assert "".join(asked) == "abcab" and cache.computed == 5
    # However large they are, both of a pair are kept.
    assert FeatureCache(compute, limit=1).capacity(np.zeros(10)) == 2


def test_order_of_pairs_spares_features():
    names = [Path(str(k)) for k in range(12)]
    empty = np.zeros((0, 2))
    pairs = [
        KeypointPair("x", a, b, empty, empty, (1, 1), (1, 1), 1.0)
        for a in names
        for b in names
        if a != b
    ]
    ordered = in_blocks(pairs, 6)
    assert sorted(map(id, ordered)) == sorted(map(id, pairs))

    def computed(order):
        cache = FeatureCache(lambda path: np.zeros(1, np.float32), limit=4 * 6)
        for one in order:
            cache(one.source), cache(one.target)
        return cache.computed

    assert computed(in_blocks(pairs, 12)) < 132 and computed(ordered) < 0.7 * computed(pairs)


@pytest.fixture(scope="module")
def micro():
    model = vjx.create_model("vit_micro_patch8", image_size=32, num_classes=0)
    return model, model.init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))


def test_real_willow_is_reproducible(shared, micro):
    data = f"willow:{shared / 'data' / 'pf_willow'}"
    backbone, variables = backbone_of(*micro, "micro")
    extractor = FeatureExtractor("bilinear", backbone, (variables, {}), Bilinear(8))
    benchmark = open_correspondence(data, 64, pairs_per_category=3)
    first = benchmark(extractor)
    assert 0 < first.figures["PCK@0.05"] < first.figures["PCK@0.1"] < 0.5
    assert first.skipped == {"keypoints": 0, "pairs": 0}
    assert benchmark(extractor) == first
    # Two photographs' features at a time give the same.
    pairs = benchmark._pairs
    assert len(pairs) == 30 and Correspondence("x", pairs, 64, cache_bytes=1)(extractor) == first
    assert len(open_correspondence(data, 64, limit=7)._pairs) == 7


def test_command(shared, micro, tmp_path, capsys):
    save_file(tmp_path / "micro.safetensors", *micro)
    arguments = [
        "--data", f"willow:{shared / 'data' / 'pf_willow'}", "--limit", "10", "--size", "32",
        "--model", str(tmp_path / "micro.safetensors"), "--extractors", "plain,larger",
        "--out", str(tmp_path / "table.json"),
    ]  # fmt: skip
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("| features | grid | PCK@0.1 | PCK@0.05 | PCK@0.01 | skipped keyp")
    assert [line.split(" | ")[:2] for line in lines[2:]] == [["| plain", "4×4"],
                                                             ["| input ×2", "8×8"]]  # fmt: skip
    assert "willow, 2 of 2: input ×2" in err
    table = json.loads((tmp_path / "table.json").read_text())
    assert [row["extractor"] for row in table["rows"]] == ["plain", "input ×2"]
    # By the names of version 0.1 too.
    assert [row["way"] for row in table["rows"]] == ["plain", "input ×2"]
    assert table["ways"] == table["extractors"] == ["plain", "larger"]
    assert table["benchmark"] == "willow" and table["limit"] == 10
    assert main(arguments) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main([*arguments[:-2], "--size", "31"]) == 1
    error = "error: --image-size 31: plain: image_size: 31×31"
    assert capsys.readouterr().err.splitlines()[-1].startswith(error)

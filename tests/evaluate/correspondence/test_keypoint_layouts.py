"""SPair-71k's and PF-WILLOW's files: what is read from them, and what is refused by name."""

import json
import re

import numpy as np
import pytest
import scipy.io
from clutter import clutter
from PIL import Image

from vit_jax_xfer.evaluate.correspondence.keypoint_layouts import open_pairs
from vit_jax_xfer.evaluate.correspondence.keypoint_pair import draw


def annotation(**changed):
    fields = {
        "src_imname": "a.png",
        "trg_imname": "b.png",
        "src_imsize": [32, 24, 3],
        "trg_imsize": [20, 30, 3],
        "src_bndbox": [0, 0, 31, 23],
        "trg_bndbox": [2, 3, 12, 28],
        "category": "cat",
        "src_kps": [[1, 2], [31.5, 23.5], [32, 3]],
        "trg_kps": [[19, 29], [4, 5], [6, 7]],
        "kps_ids": ["0", "1", "4"],
        "mirror": 0,
        "viewpoint_variation": 1,
    }
    return {name: value for name, value in (fields | changed).items() if value is not ...}


@pytest.fixture
def spair(tmp_path):
    """A function that makes a tree of annotations {file: fields} and gives the data's name."""

    def make(**files):
        (tmp_path / "PairAnnotation" / "test").mkdir(parents=True)
        for category in ("cat", "ant"):
            folder = tmp_path / "JPEGImages" / category
            folder.mkdir(parents=True)
            Image.new("RGB", (32, 24)).save(folder / "a.png")
            Image.new("RGB", (20, 30)).save(folder / "b.png")
        for name, fields in files.items():
            text = fields if isinstance(fields, str) else json.dumps(fields)
            (tmp_path / "PairAnnotation" / "test" / f"{name}.json").write_text(text)
        return f"spair:{tmp_path}"

    return make


def test_spair(spair, tmp_path):
    # Null, and outside: x = 32 of 32 pixels.
    hidden = annotation(category="ant", src_kps=[None, [1, 1], [2, 2]])
    nothing = annotation(src_kps=[], trg_kps=[])
    data = spair(one=annotation(), two=hidden, three=nothing)
    clutter(tmp_path)
    name, pairs = open_pairs(data)
    assert name == "spair"
    assert [pair.category for pair in pairs] == ["ant", "cat", "cat"]
    ant, first, empty = pairs if len(pairs[1].shown) else (pairs[0], pairs[2], pairs[1])
    np.testing.assert_array_equal(first.source_points, [[1, 2], [31.5, 23.5], [np.nan] * 2])
    np.testing.assert_array_equal(first.target_points, [[19, 29], [4, 5], [6, 7]])
    np.testing.assert_array_equal(first.shown, [True, True, False])
    np.testing.assert_array_equal(ant.shown, [False, True, True])
    assert empty.source_points.shape == (0, 2) and not empty.shown.any()
    assert first.reference == 25 and first.target_size == (20, 30)
    assert (first.source.name, first.source.parent.name) == ("a.png", "cat")


@pytest.mark.parametrize(
    "fields, message",
    [
        ("{", "one.json: not a pair's annotation"),
        ("[]", "one.json: not a pair's annotation"),
        (annotation(trg_kps=...), "one.json: no field 'trg_kps'"),
        (annotation(mirror=1), "one.json: .*mirrored"),
        (annotation(src_kps=[[1, 2]]), "src_kps has 1 keypoints, trg_kps has 3"),
        (annotation(src_kps=[[1, 2, 3], [1]]), "one.json: not a pair's annotation"),
        (annotation(trg_bndbox=[5, 5, 5, 5]), r"one.json: trg_bndbox .* empty"),
        (annotation(trg_bndbox=[12, 3, 2, 28]), "one.json: trg_bndbox .* ends before it starts"),
        (annotation(trg_bndbox=[2, float("nan"), 12, 28]), "one.json: trg_bndbox .*nan.* is empty"),
        ("[" * 100_000, "one.json: not a pair's annotation: .*too deep"),
        (annotation(src_imname="../ant/a.png"), "one.json: .*'cat/../ant/a.png' is no name of a"),
        (annotation(category="/etc"), "one.json: .*'/etc/a.png' is no name of a"),
        (annotation(src_imname="c.png"), "c.png: this image is missing"),
        (annotation(src_imsize=[24, 32, 3]), r"a.png: 32×24, but .*one.json was made for \[24, 32"),
    ],
)
def test_spair_refused(spair, fields, message):
    with pytest.raises(ValueError, match=message):
        open_pairs(spair(one=fields))


def test_unreadable_photograph(spair, tmp_path):
    data = spair(one=annotation())
    (tmp_path / "JPEGImages" / "cat" / "b.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"cannot read image .*b\.png"):
        open_pairs(data)


def test_truncated_photograph(spair, tmp_path):
    data = spair(one=annotation())
    photo = tmp_path / "JPEGImages" / "cat" / "b.png"
    noise = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
    Image.fromarray(noise).save(photo)
    photo.write_bytes(photo.read_bytes()[:900])
    with pytest.raises(ValueError, match=r"1 broken image .* cannot read image .*b\.png"):
        open_pairs(data)


@pytest.mark.parametrize("data", ["spair", "willow:", "voc:/tmp", "spair:/nowhere/at/all"])
def test_unknown_data(data):
    with pytest.raises(ValueError, match="data: "):
        open_pairs(data)


def test_spair_without_pairs(spair, tmp_path):
    with pytest.raises(ValueError, match=r"test: no \.json files"):
        open_pairs(spair())
    with pytest.raises(ValueError, match="expected the data set's folder PairAnnotation"):
        open_pairs(f"spair:{tmp_path / 'JPEGImages'}")


@pytest.fixture
def willow(tmp_path):
    """Two sub-classes with two and three photographs, all of 40 × 30 pixels."""
    root = tmp_path / "PF-dataset-WILLOW"
    for folder, number in (("car(S)", 2), ("duck(S)", 3)):
        (root / folder).mkdir(parents=True)
        for k in range(number):
            Image.new("RGB", (40, 30)).save(root / folder / f"{k}.png")
            points = np.stack([np.linspace(1, 30, 10), np.linspace(1, 11 + k, 10)])
            scipy.io.savemat(root / folder / f"{k}.mat", {"pts_coord": points})
    return tmp_path


def test_willow(willow):
    clutter(willow)
    name, pairs = open_pairs(f"willow:{willow}")
    assert name == "willow" and len(pairs) == 2 * 1 + 3 * 2
    assert len({(pair.source, pair.target) for pair in pairs}) == 8
    assert all(pair.source.parent == pair.target.parent != pair.source for pair in pairs)
    first = pairs[0]
    # MATLAB's first pixel has its centre at 1.
    np.testing.assert_allclose(first.source_points[0], [0.5, 0.5])
    assert first.reference == pytest.approx(29) and first.category == "car(S)"


def test_willow_of_other_formats(willow):
    """One's own photographs in its layout; of two of one name one has no keypoints."""
    folder = willow / "PF-dataset-WILLOW" / "car(S)"
    Image.new("RGB", (40, 30)).save(folder / "0.jpg")
    with pytest.raises(ValueError, match=r"0\.jpg: no keypoints, 0\.mat is missing or another's"):
        open_pairs(f"willow:{willow}")
    (folder / "0.png").unlink()
    assert open_pairs(f"willow:{willow}")[1][0].source.name == "0.jpg"
    for file in (folder / "0.jpg", folder / "0.mat"):  # as cameras and older systems write names
        file.rename(file.with_suffix(file.suffix.upper()))
    pairs = open_pairs(f"willow:{willow}")[1]
    assert len(pairs) == 8 and pairs[0].source.name == "0.JPG"


def test_willow_list(willow):
    rows = ["imageA,imageB,XA1", "x/duck(S)/0.png,x/duck(S)/2.png,3", "car(S)/1.png,car(S)/0.png,1"]
    (willow / "test_pairs.csv").write_text("\n".join(rows))
    _, pairs = open_pairs(f"willow:{willow}")
    names = [(p.category, p.source.name, p.target.name) for p in pairs]
    assert names == [("duck(S)", "0.png", "2.png"), ("car(S)", "1.png", "0.png")]
    (willow / "test_pairs.csv").write_text("\n".join([rows[0], "car(S)/9.png,car(S)/0.png"]))
    with pytest.raises(ValueError, match=r"test_pairs\.csv: line 2: .*9\.png"):
        open_pairs(f"willow:{willow}")


def test_willow_refused(willow):
    folder = willow / "PF-dataset-WILLOW" / "duck(S)"
    scipy.io.savemat(folder / "0.mat", {"pts_coord": np.ones((2, 9))})
    with pytest.raises(ValueError, match=r"0\.mat: pts_coord: expected \(2, 10\), got \(2, 9\)"):
        open_pairs(f"willow:{willow}")
    scipy.io.savemat(folder / "0.mat", {"points": np.ones((2, 10))})
    with pytest.raises(ValueError, match=r"0\.mat: no variable pts_coord"):
        open_pairs(f"willow:{willow}")
    (folder / "0.mat").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"0\.mat: not a MATLAB file"):
        open_pairs(f"willow:{willow}")
    (folder / "0.mat").unlink()
    with pytest.raises(ValueError, match=r"0\.png: no keypoints, 0\.mat is missing"):
        open_pairs(f"willow:{willow}")


def test_draw(willow):
    _, pairs = open_pairs(f"willow:{willow}")
    assert draw(pairs) == pairs
    three = draw(pairs, per_category=3)
    assert [p.category for p in three] == ["car(S)"] * 2 + ["duck(S)"] * 3
    assert len(set(map(id, three))) == 5 and three == draw(pairs, per_category=3)
    assert {tuple(map(id, draw(pairs, 3, seed=seed))) for seed in range(9)} != {
        tuple(map(id, three))
    }
    # A limit is spread over the categories.
    assert sorted(p.category for p in draw(pairs, limit=3)) in (
        ["car(S)"] * 2 + ["duck(S)"],
        ["car(S)"] + ["duck(S)"] * 2,
    )
    # Another category's absence changes nothing.
    ducks = [p for p in pairs if p.category == "duck(S)"]
    assert draw(ducks, per_category=3) == [p for p in three if p.category == "duck(S)"]


def test_real_willow(shared):
    _, pairs = open_pairs(f"willow:{shared / 'data' / 'pf_willow'}")
    assert len(pairs) == 900 and len({pair.category for pair in pairs}) == 10
    assert all(pair.shown.all() and len(pair.shown) == 10 for pair in pairs)
    assert all(re.fullmatch(r".+\((S|M|G|wC|woC)\)", pair.category) for pair in pairs)
    assert min(pair.reference for pair in pairs) > 50


def test_a_list_without_a_header_loses_no_pair(willow):
    rows = ["car(S)/0.png,car(S)/1.png", "car(S)/1.png,car(S)/0.png"]
    texts = ["\n".join(rows), "\n".join(["source_image,target_image", *rows])]
    # As a spreadsheet writes it where commas are decimal, and Windows its paths; with blank lines.
    texts += [texts[0].replace(",", ";").replace("/", "\\") + "\n\n", "\n" + texts[1]]
    for text in texts:
        (willow / "test_pairs.csv").write_text(text)
        assert [pair.source.name for pair in open_pairs(f"willow:{willow}")[1]] == [
            "0.png",
            "1.png",
        ]
    (willow / "test_pairs.csv").write_text("car(S)/9.png,car(S)/0.png")
    with pytest.raises(ValueError, match=r"test_pairs\.csv: line 1: .*9\.png"):
        open_pairs(f"willow:{willow}")
    (willow / "test_pairs.csv").write_text(rows[0] + "\ncar(S)/1.png,car(S)/1.png")
    with pytest.raises(ValueError, match=r"pairs .*1\.png with itself"):
        open_pairs(f"willow:{willow}")
    (willow / "test_pairs.csv").write_text("source_image,target_image")
    with pytest.raises(ValueError, match=r"test_pairs\.csv: lists no pairs"):
        open_pairs(f"willow:{willow}")

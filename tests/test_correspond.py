"""The command on two photographs: a picture, points where they lie, and what is wrong."""

import csv

import numpy as np
import pytest
from known_extractors import tiny_backbone_file
from PIL import Image

from vit_jax_xfer.correspond import as_csv, draw_matches, main


def test_lines_go_from_point_to_point(tmp_path):
    photos = np.zeros((48, 64, 3), np.uint8), np.full((96, 48, 3), 90, np.uint8)
    points = np.array([[32.0, 24.0]]), np.array([[12.0, 48.0]])
    draw_matches(tmp_path / "m.png", photos, points)
    picture = np.asarray(Image.open(tmp_path / "m.png")).astype(int)
    assert picture.shape == (480, 640 + 8 + 240, 3)
    colour = picture[240, 320]
    assert colour.sum() > 100 and (picture[240, 648 + 60] == colour).all()
    assert as_csv(*points, [0.5]).splitlines()[1] == "32.0,24.0,12.0,48.0,0.5"


def test_a_photograph_and_its_shifted_self(tmp_path, capsys):
    rng = np.random.default_rng(0)
    noise = np.kron(rng.integers(0, 256, (6, 9, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
    # By a whole patch, so that patches are the same; values of the first block see little else.
    Image.fromarray(noise[:, :64]).save(tmp_path / "a.png")
    Image.fromarray(noise[:, 8:]).save(tmp_path / "b.png")
    out, table = tmp_path / "m.png", tmp_path / "m.csv"
    flags = [str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--out", str(out)]
    flags += ["--model", tiny_backbone_file(tmp_path), "--csv", str(table), "--longest", "64"]
    assert main([*flags, "--facet", "value", "--layer", "0", "--points", "5"]) == 0
    assert "wrote 5 of" in capsys.readouterr().out and out.exists()
    rows = np.array([list(map(float, row)) for row in list(csv.reader(table.open()))[1:]])
    assert rows.shape == (5, 5) and (np.diff(rows[:, 4]) <= 0).all()
    moved = rows[:, 2:4] - rows[:, :2]
    assert (moved == [-8, 0]).all(1).mean() >= 0.6
    assert main(flags) == 1
    assert "m.png exists already; --overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--out", "nowhere/m.png"], "error: --out: there is no folder"),
        (["--out", "m.jpg"], "error: --out: m.jpg doesn't end in .png"),
        (["--steps", "2"], "error: --steps: nothing is doubled without --lift"),
        (["--csv", "m.png"], "error: --csv: m.png is --out's; give another file"),
        (["--out", "a.png", "--overwrite"], "error: --out: a.png is one of the images"),
        ([], "error: cannot read image gone.png"),
    ],
)
def test_what_is_wrong(tmp_path, capsys, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("a.png")
    first = "gone.png" if not flags else "a.png"
    assert main([first, "a.png", "--model", "gone", "--out", "m.png", *flags]) == 1
    assert message in capsys.readouterr().err.strip().splitlines()[-1]

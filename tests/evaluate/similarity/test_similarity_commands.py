"""The study of sizes, and the commands that print it and that draw sheets."""

import json

import numpy as np
import pytest
from known_extractors import KnownExtractor, tiny_backbone_file
from PIL import Image

from vit_jax_xfer.evaluate.scale_invariance import main as scale_main
from vit_jax_xfer.evaluate.similarity.__main__ import main as draw_main
from vit_jax_xfer.evaluate.similarity.cka import aligned_rows, minibatch_cka, scale_cka
from vit_jax_xfer.evaluate.similarity.scale_study import ScaleStudy


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(9):
        pixels = rng.integers(0, 256, (6, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((90, 60)).save(folder / f"{i}.png")
    return folder


def study(photos, *sizes, **fields):
    return ScaleStudy(sorted(photos.glob("*.png")), sizes, **fields)


def test_what_does_not_change_is_one_and_noise_is_none(photos):
    pure = study(photos, 32, 64, 96)(KnownExtractor(lambda means: means))
    assert list(pure.figures) == ["CKA 32/96", "CKA 64/96"]
    assert 0.9 < pure.figures["CKA 32/96"] < pure.figures["CKA 64/96"] <= 1

    def noise(means):
        seed = means.shape[1]
        return np.random.default_rng(seed).standard_normal(means.shape).astype(np.float32)

    assert abs(study(photos, 32, 64)(KnownExtractor(noise)).figures["CKA 32/64"]) < 0.1


def test_it_is_the_mean_of_batches_without_one_left_out(photos):
    extractor = KnownExtractor(lambda means: np.sin(9 * means))
    seen = []
    found = study(photos, 64, 32, pairwise=True)(extractor, lambda *done: seen.append(done))
    assert seen == [(5, 9), (9, 9)]
    maps = []
    for size in (32, 64):
        images = [Image.open(file).resize((size, size), 2) for file in sorted(photos.glob("*"))]
        maps.append(np.asarray(extractor(np.stack([np.asarray(image) for image in images]))))
    parts = [(maps[0][s], maps[1][s]) for s in (slice(0, 5), slice(5, 9))]
    expected = minibatch_cka([aligned_rows(*part) for part in parts])
    np.testing.assert_allclose(found.figures["CKA 32/64"], expected, rtol=1e-5)
    np.testing.assert_allclose(scale_cka(*maps), expected, atol=0.1)


def test_pairs_and_enlarged_extractors(photos):
    fields = study(photos, 64, 16, 32, pairwise=True)
    assert fields.pairs == [(16, 32), (16, 64), (32, 64)] and fields.size == 64
    extractor = KnownExtractor(lambda means: means, enlarge=2)
    fields(extractor)
    assert {shape[1] for shape in extractor.calls} == {32, 64, 128}
    for sizes in ((), (64,), (64, 64)):
        with pytest.raises(ValueError, match="sizes: expected two or more different ones"):
            study(photos, *sizes)


def test_too_few_cells(photos):
    few = ScaleStudy(sorted(photos.glob("*.png"))[:3], (8, 32))
    with pytest.raises(ValueError, match="sizes: 3 images have 3 cells together at 8 pixels, 4"):
        few(KnownExtractor(lambda means: means))


def test_the_table(photos, tmp_path, capsys):
    arguments = [str(photos), "--model", tiny_backbone_file(tmp_path), "--limit", "3"]
    arguments += ["--extractors", "plain,bilinear", "--steps", "1", "--sizes", "16,32"]
    out = tmp_path / "t.json"
    assert scale_main([*arguments, "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| features | grid | CKA 16/32 | ms") and len(lines) == 4
    written = json.loads(out.read_text())
    assert written["files"] == 3 and written["benchmark"] == "scale"
    rows = written["rows"]
    assert [row["extractor"] for row in rows] == ["plain", "bilinear ×1"]
    assert rows[0]["seconds"] is None
    assert scale_main([*arguments, "--sizes", "16,30"]) == 1
    said = capsys.readouterr().err
    assert "error: --sizes 30: plain: " in said and "30×30 pixels are not a whole number" in said
    assert "; 32 is the nearest that is" in said
    # A flag that would do nothing isn't taken, or only as the beginning of --sizes.
    assert scale_main([*arguments, "--size", "32"]) == 1
    assert "error: --sizes: expected two or more different ones, got 32" in capsys.readouterr().err
    for flags in (["--steps", ""], ["--sizes", "32,32"]):
        with pytest.raises(SystemExit):
            scale_main([*arguments, *flags])
    assert "expected different numbers" in capsys.readouterr().err
    (photos / "2.png").write_bytes(b"broken")
    assert scale_main(arguments) == 1
    assert "2.png" in capsys.readouterr().err


def test_sheets(photos, tmp_path, capsys):
    (photos / "1.png").write_bytes(b"broken")
    arguments = [str(photos), "--model", tiny_backbone_file(tmp_path), "--limit", "3"]
    arguments += ["--size", "32", "--steps", "1", "--out", str(tmp_path / "out")]
    assert draw_main([*arguments, "--point", "89,59"]) == 1
    said = capsys.readouterr()
    assert "wrote 2 sheets" in said.out and "cannot read image" in said.err
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["0.png", "2.png"]
    assert draw_main(arguments) == 1
    assert "exists already; --overwrite" in capsys.readouterr().err
    assert draw_main([*arguments, "--overwrite", "--point", "90,0"]) == 1
    assert "--point: (90, 0) is outside" in capsys.readouterr().err
    assert draw_main(arguments[:-2]) == 1
    assert "--out: give the folder" in capsys.readouterr().err

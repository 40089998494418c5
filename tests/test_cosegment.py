"""The command on several photographs: masks and pictures of what they have in common."""

import numpy as np
import pytest
from known_extractors import tiny_backbone_file
from PIL import Image

from vit_jax_xfer.cosegment import main


def test_a_common_square(tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    thing = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    for n in range(3):
        ground = np.tile(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8), (8, 8, 1))
        ground[16:48, 16 + 8 * (n % 2) : 48] = np.tile(thing, (4, 4 - n % 2, 1))
        Image.fromarray(ground).save(folder / f"{n}.png")
    out = tmp_path / "out"
    flags = [str(folder), "--model", tiny_backbone_file(tmp_path), "--out", str(out)]
    flags += ["--facet", "value", "--layer", "0", "--image-size", "64"]
    assert main(flags) == 0
    assert "wrote 3 masks to" in capsys.readouterr().out
    for n in range(3):
        mask = np.asarray(Image.open(out / f"{n}_mask.png"))
        expected = np.zeros((64, 64), np.uint8)
        expected[16:48, 16 + 8 * (n % 2) : 48] = 1
        assert (mask == expected).mean() > 0.95
        assert Image.open(out / f"{n}.png").size == (64, 64)
    assert main(flags) == 1
    assert "exists already; --overwrite" in capsys.readouterr().err
    (folder / "0.png").write_bytes(b"no")
    (folder / "1.png").unlink()
    assert main([*flags, "--overwrite"]) == 1
    said = capsys.readouterr().err
    assert "PHOTO: 1 can be read; what is common needs two" in said and "0.png" in said


@pytest.mark.parametrize(
    ("photos", "flags", "message"),
    [
        ("ab", ["--clusters", "1"], "--clusters: got 1, expected 2 or more"),
        ("ab", ["--votes", "0"], "--votes: got 0, expected a share above 0"),
        ("a", [], "PHOTO: got 1; what is common needs two or more"),
        # The mask of a.png has the name of the other's picture.
        (["a", "a_mask"], [], "a_mask.png would be two files; take the images in two calls"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_loaded(photos, flags, message, tmp_path, capsys):
    files = [tmp_path / f"{name}.png" for name in photos]
    for file in files:
        Image.new("RGB", (8, 8)).save(file)
    arguments = [*map(str, files), "--model", "nowhere", "--out", str(tmp_path / "out")]
    assert main([*arguments, *flags]) == 1
    assert message in capsys.readouterr().err

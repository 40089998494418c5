"""Where commands write: checked before their work begins, whatever the command."""

import importlib
from pathlib import Path

import pytest
from PIL import Image

from vit_jax_xfer.command_line.out_places import out_file, out_folder, require_different

NEVER = Path("/proc")  # where not even root can make a file


def test_places_that_will_do(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert out_folder("~/a/b", "--out") == tmp_path / "a/b"
    assert out_file("~/x.json", "--out") == tmp_path / "x.json"
    (tmp_path / "x.json").touch()
    assert out_file(tmp_path / "x.json", "--out") == tmp_path / "x.json"
    assert sorted(tmp_path.iterdir()) == [tmp_path / "x.json"]  # nothing else is left of the check


@pytest.mark.parametrize(
    ("call", "path", "message"),
    [
        (out_folder, "file", "--out: .*file is a file; give a folder"),
        (out_folder, "file/inside", "--out: nothing can be written in .*file: Not a directory"),
        (out_file, ".", "--out: .* is a folder; give a file"),
        (out_file, "gone/x.json", "--out: there is no folder .*gone"),
    ],
)
def test_places_that_will_not(call, path, message, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=message):
        call(tmp_path / path, "--out")


def test_two_flags_of_one_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    require_different({"--out": Path("a"), "--csv": Path("b"), "--more": None})
    with pytest.raises(ValueError, match="--csv: a is --out's; give another file"):
        require_different({"--out": tmp_path / "a", "--csv": Path("./a")})


@pytest.mark.skipif(not NEVER.is_dir(), reason="this system has no /proc")
@pytest.mark.parametrize(
    ("command", "given"),
    [
        ("analysis", "gone gone --data digits --out {}/report"),
        ("correspond", "a.png a.png --model gone --out {}/a.png"),
        ("correspond", "a.png a.png --model gone --out m.png --csv {}/m.csv"),
        ("cosegment", "a.png b.png --model gone --out {}/cut"),
        ("detect", "a.png --model gone --out {}/found"),
        ("evaluate.correspondence", "--data spair:. --model gone --out {}/x.json"),
        ("evaluate.correspondence", "--data spair:. --model gone --pairs-csv {}/x.csv"),
        ("evaluate.detection", "gone --data coco:. --results {}/x.json"),
        ("evaluate.knn", "--model gone --data digits --out {}/x.json"),
        ("evaluate.objects", "--data voc:. --model gone --coco {}/x"),
        ("evaluate.objects", "--data voc:. --model gone --pictures {}/x"),
        ("evaluate.scale_invariance", "a.png --model gone --out {}/x.json"),
        ("evaluate.segmentation", "--data voc:. --model gone --out {}/x.json"),
        ("evaluate.similarity", "a.png --model gone --out {}/x"),
        ("evaluate.videos", "--data davis2017:. --model gone --save-masks {}/x"),
        ("explain", "a.png --model gone --out {}/x"),
        ("explain.attention", "a.png --model gone --out {}/x"),
        ("explain.compare", "--model gone --data digits --out {}/x"),
        ("explain.filter_masks", "a.png --model gone --out {}/x"),
        ("features", "a.png --model gone --out {}/x.npz"),
        ("features", "a.png --model gone --out {}/x"),
        ("features", "a.png --model gone --out x --picture {}/x"),
        ("predict", "gone a.png --out {}/x.csv"),
        ("segment", "a.png --model gone --out {}/x"),
    ],
)
def test_no_command_begins_what_it_cannot_write(command, given, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(name)
    try:
        main = importlib.import_module(f"vit_jax_xfer.{command}.__main__").main
    except ModuleNotFoundError:
        main = importlib.import_module(f"vit_jax_xfer.{command}").main
    words = [word.format(NEVER) for word in given.split(" ")]
    flag = next((a for a, b in zip(words, words[1:], strict=False) if b.startswith(str(NEVER))), "")
    assert main(words) == 1
    assert f"error: {flag}: nothing can be written in {NEVER}" in capsys.readouterr().err

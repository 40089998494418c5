"""python -m vit_jax_xfer.convert: what it writes, what it says, what it refuses."""

import jax
import numpy as np
import pytest

from vit_jax_xfer.convert import main
from vit_jax_xfer.pretrained import load_pretrained
from vit_jax_xfer.pretrained.saved_models import write_safetensors
from vit_jax_xfer.whole_files import write_npz

safetensors = pytest.importorskip("safetensors.numpy")
HEADS = ("--field", "num_heads=3")


@pytest.fixture
def registers(golden, tmp_path):
    """A file in Meta's names: DINOv2 with registers."""
    path = tmp_path / "dinov2.safetensors"
    write_safetensors(path, golden("dinov2/registers_native"))
    return path


def same_model(left, right):
    (model, variables), (other, others) = left, right
    assert model == other
    assert jax.tree.structure(variables) == jax.tree.structure(others)
    jax.tree.map(np.testing.assert_array_equal, variables, others)


def test_a_folder_and_a_file_hold_the_same_model(registers, tmp_path, capsys):
    expected = load_pretrained(registers, num_heads=3)
    for out in (tmp_path / "folder" / "model", tmp_path / "own.safetensors"):
        assert main([str(registers), str(out), *HEADS]) == 0
        same_model(load_pretrained(out), expected)
    said = capsys.readouterr().out
    assert "family        dinov2: DINOv2 (2304.07193), with registers" in said
    assert "registers=4" in said
    assert "width 48, depth 3, heads 3, classes 0" in said
    assert "normalize(mean=(0.485, 0.456, 0.406)" in said
    assert f"wrote {tmp_path / 'own.safetensors'}" in said


@pytest.mark.parametrize("names", ["publisher", "timm", "huggingface"])
def test_back_in_a_publishers_names(registers, tmp_path, golden, names, capsys):
    own, out = tmp_path / "model", tmp_path / "back.safetensors"
    assert main([str(registers), str(own), *HEADS]) == 0
    assert main([str(own), str(out), "--names", names, "--family", "dinov2"]) == 0
    assert "not in such a file: how images are prepared" in capsys.readouterr().out
    images = jax.random.normal(jax.random.key(0), (2, 56, 56, 3))
    found, expected = (
        model.apply(variables, images)
        for model, variables in (load_pretrained(x, num_heads=3) for x in (out, registers))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    if names == "publisher":
        back, file = safetensors.load_file(out), golden("dinov2/registers_native")
        assert back.keys() == file.keys()
        for name in file:
            np.testing.assert_array_equal(back[name], file[name])


def test_npz_in_googles_names(golden, tmp_path):
    source, out = tmp_path / "vit.npz", tmp_path / "google.npz"
    write_npz(source, golden("timm/supervised_cls"))
    assert main([str(source), str(out), "--names", "google", *HEADS]) == 0
    with np.load(out) as arrays:
        assert "Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel" in arrays
    _, variables = load_pretrained(out)
    _, expected = load_pretrained(source, num_heads=3)
    jax.tree.map(np.testing.assert_array_equal, variables, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{file}", "{folder}/x"], "num_heads: shapes don't tell it for width 48; pass num_heads="),
        (["{file}", "{file}", *HEADS], "is the source itself"),
        (["{folder}/nothing.pth", "{folder}/x"], "nothing.pth: no such file"),
        (["{file}", "{folder}/x.npz", *HEADS], ".npz is for publishers' names; pass --names"),
        (["{file}", "{folder}/x", "--names", "timm", *HEADS], "ends in .safetensors or .npz"),
        (["{file}", "{folder}/x.pth", *HEADS], "x.pth ends in .pth; give .safetensors, .npz or a"),
        (["{file}", "{folder}/x.Npz", *HEADS], "x.Npz ends in .Npz; give .safetensors, .npz or a"),
        (["{file}", "{folder}/x", "--field", "num_heads"], "--field: got 'num_heads', expected"),
        (["{file}", "{folder}/x", "--family", "beit", *HEADS], "family: 'beit' has qkv_bias"),
        (["{file}", "{folder}/x", "--weights", "student", *HEADS], "student"),
        (["{file}", "{folder}", *HEADS], "exists; --overwrite replaces it"),
    ],
)
def test_what_does_not_fit_is_one_line(registers, tmp_path, capsys, arguments, message):
    before = sorted(tmp_path.rglob("*"))
    filled = [one.format(file=registers, folder=tmp_path) for one in arguments]
    assert main(filled) == 1
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_failed_write_leaves_what_was_there(registers, tmp_path, monkeypatch):
    out = tmp_path / "own.safetensors"
    assert main([str(registers), str(out), *HEADS]) == 0
    before = out.read_bytes()

    def full(*arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    assert main([str(registers), str(out), "--overwrite", *HEADS]) == 1
    assert out.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".partial")] == []

"""The report of two networks: its tables and numbers, copied students, and what is refused."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

import vit_jax_xfer as vjx
from vit_jax_xfer.analysis.__main__ import main
from vit_jax_xfer.analysis.network_pair import AnalysedNetwork, NetworkPair, analyse
from vit_jax_xfer.analysis.report import by_layer
from vit_jax_xfer.models.vit import VisionTransformer

SIZES = {"image_size": 8, "patch_size": 4, "width": 16, "num_heads": 2, "mlp_dim": 16}
SIZES |= {"preprocessing": vjx.Preprocessing((0.5,) * 3, (0.25,) * 3, size=8)}
TEACHER = VisionTransformer(depth=2, num_classes=3, pool="avg", **SIZES)


def draw(model, seed):
    images = jax.ShapeDtypeStruct((1, 8, 8, 3), np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.standard_normal(x.shape).astype(np.float32), shapes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two networks, one without a class token and with registers, and images."""
    folder = tmp_path_factory.mktemp("analysis")
    other = TEACHER.clone(class_token=False, registers=1, num_heads=4, preprocessing=None)
    for name, model, seed in (("teacher", TEACHER, 0), ("twin", TEACHER, 1), ("other", other, 2)):
        vjx.save(folder / f"{name}.npz", model, draw(model, seed))
    rng = np.random.default_rng(0)
    for i in range(6):
        (folder / "test" / "cat").mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (9, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "test" / "cat" / f"{i}.png")
    return folder


def run(folder, *arguments):
    data = ["--data", f"folder:{folder}", "--out", str(folder / "report"), "--batch-size", "4"]
    return main([*data, "--overwrite", *arguments])


def test_a_network_beside_itself(folder, capsys):
    assert run(folder, f"first={folder}/teacher.npz", f"{folder}/teacher.npz") == 0
    said = capsys.readouterr().out
    assert "wrote report.md, numbers.npz and 4 pictures" in said
    numbers = np.load(folder / "report" / "numbers.npz")
    assert numbers["divergence"].shape == (6, 2, 2, 2)
    np.testing.assert_allclose(np.diagonal(numbers["divergence"], axis1=2, axis2=3), 0, atol=1e-6)
    for tokens in ("mean", "class"):
        np.testing.assert_allclose(np.diagonal(numbers[f"cka_{tokens}"]), 1, atol=1e-5)
    for name in ("distance", "class_entropy"):
        np.testing.assert_array_equal(numbers[f"first_{name}"], numbers[f"second_{name}"])
    report = (folder / "report" / "report.md").read_text()
    assert "# first and B: " in report
    assert "| mean | 0.000 | 0.000 | 0.000 | 0.000 | 0.000 |" in report
    for name in ("cka.png", "divergence.png", "heads.png", "attention.png"):
        assert f"![{name}]({name})" in report
        assert Image.open(folder / "report" / name).size[0] > 200


def test_other_tokens_and_heads(folder, capsys):
    assert run(folder, f"{folder}/teacher.npz", f"{folder}/other.npz") == 0
    said = capsys.readouterr().err
    assert said.count("does not say how images are prepared") == 1 and "other.npz does not" in said
    numbers = np.load(folder / "report" / "numbers.npz")
    assert numbers["divergence"].shape == (6, 2, 2, 4)
    assert "class_divergence" not in numbers
    assert "cka_class" not in numbers
    assert "second_patches_to_others" in numbers
    report = (folder / "report" / "report.md").read_text()
    assert "identity |" not in report


def test_a_copied_student_attends_by_the_teachers_maps(folder):
    first, twin = (AnalysedNetwork(x, *vjx.load_pretrained(folder / f"{x}.npz"))
                   for x in ("teacher", "twin"))  # fmt: skip
    images = np.random.default_rng(0).standard_normal((4, 8, 8, 3)).astype(np.float32)
    apart, copied = (
        analyse(NetworkPair(first, twin, copied=copied), [(images, images)])
        for copied in (False, True)
    )
    assert by_layer(apart.divergence)[1]["identity"] > 0.05
    np.testing.assert_allclose(by_layer(copied.divergence)[1]["identity"], 0, atol=1e-6)
    maps = first.watch(images).attention
    given = {f"blocks_{i}": {"attention": {"map": maps[i]}} for i in range(2)}
    wanted = twin.model.apply(
        {**twin.variables, "given": given}, images, mutable=["residual"], method="forward"
    )[1]["residual"]["blocks_1"]["stream"]
    found = twin.watch(images, maps)
    np.testing.assert_allclose(found.class_token[1], wanted[:, 0], rtol=1e-4, atol=1e-5)


def test_windows_have_no_map_of_all_tokens():
    windows = {"class_token": False, "pool": "avg", "window_size": 2, "depth": 4}
    with pytest.raises(ValueError, match="A: its block 0 attends within windows"):
        AnalysedNetwork("A", vjx.VisionTransformer(**windows), {})
    whole = {**windows, "window_blocks": ()}
    assert AnalysedNetwork("A", vjx.VisionTransformer(**whole), {}).model.depth == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "8,12"], "size: A: "),
        (["--limit", "3"], "--data: give 4 images or more at once"),
        (["--copied", "--layers", "last"], "copied: a copy needs networks of the same depth"),
    ],
)
def test_the_command_says_what_is_wrong(folder, capsys, arguments, message):
    second = "other" if "--copied" in arguments else "twin"
    assert run(folder, f"{folder}/teacher.npz", f"{folder}/{second}.npz", *arguments) == 1
    *notes, error = capsys.readouterr().err.splitlines()
    assert message in error
    assert not any("error" in note for note in notes)


def test_a_copied_student_alone_is_refused(folder, capsys):
    config = {"task": {"name": "attention_transfer", "mode": "copy", "teacher": "teacher.npz"}}
    (folder / "run").mkdir()
    (folder / "run" / "config.json").write_text(json.dumps(config))
    assert run(folder, f"{folder}/teacher.npz", f"student={folder}/run") == 1
    said = capsys.readouterr().err
    assert said.startswith("error: B: ")
    assert "is a student that attends by its teacher's maps; give the teacher as A" in said

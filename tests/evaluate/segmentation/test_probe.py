"""The linear probe: what it learns, its gradients by another way, interpolation, its benchmark."""

import json

import jax
import numpy as np
import optax
import pytest
from known_extractors import KnownExtractor, bright_or_not, tiny_backbone_file
from PIL import Image

from vit_jax_xfer.evaluate.open_benchmark import open_benchmark
from vit_jax_xfer.evaluate.segmentation import probe as probes
from vit_jax_xfer.evaluate.segmentation.__main__ import main
from vit_jax_xfer.evaluate.segmentation.segmentation_benchmark import open_segmentation
from vit_jax_xfer.models.cell_places import patch_places


def test_one_step_is_that_of_all_pixels():
    # At 16 × 16 a step looks at all pixels, and from zeros Adam's first moves are signs.
    rng = np.random.default_rng(0)
    features = rng.standard_normal((4, 4, 4, 5)).astype(np.float32) * 3 + 1
    labels = rng.integers(-1, 3, (4, 16, 16)).astype(np.int32)
    mean, std = features.mean((0, 1, 2)), features.std((0, 1, 2))
    found = probes.train_probe(lambda i: (features[i], labels[i]), 4, (mean, std), 3, 1, 0.1)

    def loss(kernel):
        logits = ((features - mean) / std) @ kernel
        pixels = jax.image.resize(logits, (4, 16, 16, 3), "bilinear")
        each = optax.softmax_cross_entropy_with_integer_labels(pixels, np.maximum(labels, 0))
        return (each * (labels >= 0)).sum()

    gradient = np.asarray(jax.grad(loss)(np.zeros((5, 3), np.float32)))
    clear = np.abs(gradient) > 0.1
    assert clear.sum() >= 12
    np.testing.assert_allclose(
        np.asarray(found.kernel)[clear], -0.1 * np.sign(gradient[clear]), rtol=1e-2
    )


def test_logits_are_interpolated():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((3, 4, 6, 5)).astype(np.float32)
    kernel, bias = rng.standard_normal((5, 7)), rng.standard_normal(7)
    probe = probes.Probe(*map(np.float32, (kernel, bias, np.zeros(5), np.ones(5))))
    logits = jax.image.resize(features @ np.float32(kernel) + bias, (3, 20, 20, 7), "bilinear")
    np.testing.assert_array_equal(probes.predict(probe, features, 20), logits.argmax(-1))


def test_every_pixel_has_its_turn():
    seen = np.zeros(39, int)
    rng = np.random.default_rng(0)
    for _ in range(200):
        rows = probes._drawn(rng, 39)
        assert len(rows) == 9 and (np.diff(rows) == 4).all()
        seen[rows] += 1
    assert (seen > 0).all()
    np.testing.assert_array_equal(probes._drawn(rng, 31), np.arange(31))


def test_constant_channels_do_no_harm():
    features = np.ones((2, 2, 2, 3), np.float32) * [0, 5, 1e-9]
    labels = np.zeros((2, 8, 8), np.int32)
    moments = features.mean((0, 1, 2)), features.std((0, 1, 2))
    found = probes.train_probe(lambda i: (features[i], labels[i]), 2, moments, 2, 5, 0.1)
    assert all(np.isfinite(part).all() for part in found)
    assert (np.asarray(probes.predict(found, features, 8)) == 0).all()


def stripes(folder, split, number, unseen=False):
    """Images 64 × 64 of bright and dark stripes, class 40 where bright and 9 elsewhere."""
    rng = np.random.default_rng(number)
    for path in (folder / "i" / split, folder / "m" / split):
        path.mkdir(parents=True)
    for i in range(number):
        bright = np.kron(rng.permutation(4) > 1, np.ones((64, 16), bool))
        ids = np.where(bright, 40, 9).astype(np.uint8)
        ids[0, 16:] = 255
        if unseen:
            ids[:, :4] = 77
        Image.fromarray(ids).save(folder / f"m/{split}/{i}.png")
        Image.fromarray(np.repeat(bright[..., None] * np.uint8(255), 3, 2)).save(
            folder / f"i/{split}/{i}.png"
        )
    return f"masks:{folder}/i:{folder}/m"


@pytest.mark.parametrize("enlarge", [1, 2])
def test_one_hot_features_tell_all(tmp_path, enlarge):
    stripes(tmp_path, "train", 5)
    spec = stripes(tmp_path, "val", 3)
    extractor = KnownExtractor(bright_or_not, patch=4 * enlarge, enlarge=enlarge)
    reports = []
    benchmark = open_segmentation(spec, 64, steps=40, learning_rate=0.05)
    result = benchmark(extractor, lambda *done: reports.append(done))
    # Where cells differ along one axis, logits cross at their border whatever their strength.
    assert result.figures == {"mIoU": 1.0, "accuracy": 1.0}
    assert list(result.figures)[0] == "mIoU"
    assert result.skipped == {
        "images without masks": 0,
        "images without labels": 0,
        "labels that vanish when shrunk": 0,
        "classes unseen in training": 0,
    }
    assert reports[-1] == (5 + 40 * 16 + 3,) * 2
    assert benchmark(extractor).figures == result.figures


def test_useless_features_tell_the_commonest(tmp_path):
    stripes(tmp_path, "train", 5)
    benchmark = open_segmentation(stripes(tmp_path, "val", 3), 64, steps=20)
    result = benchmark(KnownExtractor(lambda means: np.ones((*means.shape[:3], 2), np.float32)))
    assert result.figures["accuracy"] < 0.7 and result.figures["mIoU"] < 0.4


def test_classes_that_training_has_not(tmp_path):
    stripes(tmp_path, "train", 4)
    benchmark = open_segmentation(stripes(tmp_path, "val", 2, unseen=True), 64, steps=40)
    assert benchmark.ids == (9, 40, 77) and benchmark.trained == 2
    result = benchmark(KnownExtractor(bright_or_not, patch=4))
    assert result.skipped["classes unseen in training"] == 1
    # Their pixels are wrong, and the class counts in the mean with 0.
    assert result.figures["accuracy"] == pytest.approx(1 - 4 * 64 / (64 * 64 - 48))
    assert 0.5 < result.figures["mIoU"] < 2 / 3


def test_a_set_of_one_class_is_refused(tmp_path, capsys):
    stripes(tmp_path, "train", 3)
    spec = stripes(tmp_path, "val", 1)
    for file in tmp_path.glob("m/*/*.png"):
        ids = np.asarray(Image.open(file))
        Image.fromarray(np.where(ids == 40, 255, 0).astype(np.uint8)).save(file)
    for ids, hint in (((255,), "masks of 0 and 255 give --ignore ''"), ((0,), "one class, 255")):
        with pytest.raises(ValueError, match="m.train: the training masks have one class") as error:
            open_segmentation(spec, 64, ignore=ids).check_classes()
        assert hint in str(error.value)
    open_segmentation(spec, 64, ignore=()).check_classes()
    # Runs and the command refuse it as well.
    with pytest.raises(ValueError, match="have one class, 0, where 255 is ignored"):
        open_benchmark(f"segmentation:{spec}", 64)


def test_features_that_are_no_numbers_name_the_photograph(tmp_path):
    stripes(tmp_path, "train", 2)
    benchmark = open_segmentation(stripes(tmp_path, "val", 1), 64, steps=1)
    with pytest.raises(ValueError, match=r"0\.png: features: .* NaN or infinite"):
        benchmark(KnownExtractor(lambda means: means / 0))


def test_overlapping_cells_are_interpolated_where_they_lie(tmp_path):
    # A cell every 8 pixels in patches of 32: taken for cells side by side, borders are missed.
    stripes(tmp_path, "train", 4)
    spec = stripes(tmp_path, "val", 2)

    class Overlapping(KnownExtractor):
        def __call__(self, photos):
            fine = np.asarray(super().__call__(photos))  # 8-pixel cells; those of patches' middles
            return (fine[:, 1:-2, 1:-2] + fine[:, 2:-1, 2:-1]) / 2

        def places(self, image_size):
            return patch_places(image_size, 32, 8)

    result = open_segmentation(spec, 64, steps=60, learning_rate=0.05)(Overlapping(bright_or_not))
    assert result.figures["accuracy"] > 0.9


def test_a_single_class_and_none_ignored(tmp_path):
    for i in range(4):
        for kind, picture in (("i", np.zeros((16, 16, 3))), ("m", np.full((16, 16), 3))):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(picture.astype(np.uint8)).save(tmp_path / kind / f"{i}.png")
    spec = f"masks:{tmp_path}/i:{tmp_path}/m"
    benchmark = open_segmentation(spec, 16, ignore=(), steps=1)
    assert benchmark(KnownExtractor(lambda means: means)).figures == {"mIoU": 1.0, "accuracy": 1.0}


@pytest.mark.parametrize("memory", [0.0, 3e-6])
def test_features_that_are_not_kept(tmp_path, memory, monkeypatch):
    stripes(tmp_path, "train", 5)
    spec = stripes(tmp_path, "val", 3)

    # Two channels of noise, so that a wrong place would change what is learnt.
    def extractor():
        return KnownExtractor(lambda means: np.sin(1e3 * means[..., :2] + np.arange(2)), patch=4)

    kept, anew = extractor(), extractor()
    runs = [
        open_segmentation(spec, 64, steps=5, memory=gb)(one)
        for gb, one in ((1.0, kept), (memory, anew))
    ]
    assert runs[0] == runs[1]
    assert len(anew.calls) > len(kept.calls) == 2


def test_moments_of_all_cells(tmp_path):
    from vit_jax_xfer.evaluate.segmentation.training_set import TrainingSet

    spec = stripes(tmp_path, "train", 5)
    stripes(tmp_path, "val", 1)
    images = open_segmentation(spec, 64).data.train
    extractor = KnownExtractor(
        lambda means: 1e3 + means @ np.float32([[1, 2], [0, 1], [3, 0]]), patch=4
    )
    train = TrainingSet(extractor, images, 64, np.zeros(256, np.int32), 1e9, lambda number: None)
    features = train(np.arange(5))[0].reshape(-1, 2).astype(np.float64)
    np.testing.assert_allclose(train.mean, features.mean(0), rtol=1e-9)
    np.testing.assert_allclose(train.std, features.std(0), rtol=1e-6)


def test_arguments_are_checked(tmp_path):
    stripes(tmp_path, "train", 2)
    spec = stripes(tmp_path, "val", 1)
    for changed, message in (
        ({"steps": 0}, "steps: got 0"),
        ({"learning_rate": 0.0}, "learning_rate: got 0, expected more than 0"),
        ({"learning_rate": float("nan")}, "learning_rate: got nan"),
        ({"ignore": (9, 40, 255)}, "no class in any training mask, where 9, 40, 255 is ignored"),
    ):
        with pytest.raises(ValueError, match=message):
            open_segmentation(spec, 64, **changed)
    Image.new("L", (64, 64), 255).save(tmp_path / "m/val/0.png")
    with pytest.raises(ValueError, match="no class in any scored mask, where 255 is ignored"):
        open_segmentation(spec, 64)


def test_colours_tell_a_little_of_real_images(shared):
    spec = f"segmentation:coco128:{shared}/data/coco128"
    benchmark = open_benchmark(spec, 32, 10)
    benchmark.steps = 60
    score = benchmark(KnownExtractor(lambda means: means, patch=4))
    assert 0.05 < score.figures["accuracy"] < 0.6
    assert 0 < score.figures["mIoU"] < score.figures["accuracy"]
    assert score.skipped["classes unseen in training"] > 0


def test_the_command(shared, tmp_path, capsys):
    arguments = ["--data", f"coco128:{shared}/data/coco128", "--limit", "3", "--size", "32"]
    arguments += ["--model", tiny_backbone_file(tmp_path), "--probe-steps", "3", "--steps", "1"]
    out = tmp_path / "t.json"
    assert main([*arguments, "--extractors", "plain,bilinear", "--out", str(out)]) == 0
    text = capsys.readouterr()
    assert text.out.startswith("| features | grid | mIoU | accuracy | skipped images without masks")
    assert "the probe is trained on 3 images and scored on 3" in text.err
    table = json.loads(out.read_text())
    assert [row["grid"] for row in table["rows"]] == [[4, 4], [8, 8]]
    assert table["probe_steps"] == 3
    for flag, value in (("--probe-lr", "-1"), ("--memory", "nan"), ("--ignore", "a")):
        with pytest.raises(SystemExit):
            main([*arguments, flag, value])
        assert f"error: argument {flag}: got '{value}'" in capsys.readouterr().err


def test_the_commands_defaults_are_the_benchmarks():
    from vit_jax_xfer.evaluate.segmentation import __main__ as command
    from vit_jax_xfer.evaluate.segmentation import segmentation_benchmark

    defaults = (
        segmentation_benchmark.PROBE_STEPS,
        segmentation_benchmark.PROBE_LR,
        segmentation_benchmark.MEMORY,
    )
    assert defaults == (command._STEPS, command._LR, command._MEMORY)

"""Figures on a synthetic ImageNet tree, against a count by hand, and the command around them."""

import csv
import json
import re
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

import vit_jax_xfer as vjx
from tests.suites.imagenet_tree import make_tree, picture, save
from vit_jax_xfer import data
from vit_jax_xfer.evaluate.classification import suite_scores
from vit_jax_xfer.evaluate.classification.__main__ import main
from vit_jax_xfer.evaluate.classification.suite_scores import (
    output_names,
    score_set,
    suite_pipeline,
    summary,
)
from vit_jax_xfer.models.preprocessing import Preprocessing
from vit_jax_xfer.suites.imagenet_labels import alexnet_errors, synsets, synsets_of
from vit_jax_xfer.suites.known_suites import SUITES, open_suite

PREPARED = Preprocessing((0.5,) * 3, (0.25,) * 3, "bilinear", crop=0.8, size=16)
FIELDS = {"image_size": 16, "patch_size": 8, "width": 16, "depth": 1, "num_heads": 2}
NAMES = ("imagenet", "real", "a", "r", "sketch", "v2", "c")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("suites")
    return root, make_tree(root)


@pytest.fixture(scope="module")
def network(tree):
    """A classifier whose classes are ImageNet's, in another order and by name.

    It prefers some that are right, so that there are hits at all.
    """
    names = tuple(np.random.default_rng(5).permutation(synsets()).tolist())
    model, variables = built(names)
    return model, preferring(variables, names, tree[1])


def preferring(variables, names, truths):
    """The variables with a head that is biased to two right classes of each set."""
    liked = {name for found in truths.values() for _, right in found[1:3] for name in right}
    bias = 12.0 * np.isin(names, list(liked))
    head = {**variables["params"]["head"], "bias": jax.numpy.asarray(bias, "float32")}
    return {"params": {**variables["params"], "head": head}}


def built(names, **fields):
    model = vjx.VisionTransformer(
        **FIELDS, num_classes=len(names) if names else 1000, class_names=names,
        head_init_std=1.0, preprocessing=PREPARED, **fields,
    )  # fmt: skip
    return model, model.init_variables(jax.random.key(1))


def by_hand(network, truths, only=None, crop_only=False):
    """{"top1", "top5", "images"} counted one image after the other."""
    model, variables = network
    names, found = output_names(model), []
    for seed, right in truths:
        if not right:
            continue
        prepared = PREPARED if not crop_only else Preprocessing((0.5,) * 3, (0.25,) * 3, crop=1.0,
                                                                size=16)  # fmt: skip
        image = vjx.preprocess(prepared, picture(seed, 16 if crop_only else 24))
        logits = np.asarray(model.apply(variables, image))[0]
        ranked = [names[i] for i in np.argsort(-logits) if only is None or names[i] in only]
        found.append((ranked[0] in right, bool(set(ranked[:5]) & set(right))))
    top1, top5 = np.mean(found, axis=0)
    return {"images": len(found), "top1": top1, "top5": top5}


@pytest.mark.parametrize("name", NAMES[:-1])
def test_figures_are_those_counted_by_hand(name, tree, network):
    root, truths = tree
    (one,) = open_suite(name, root, partial=True)
    only = set(synsets_of(name)) if name in "ar" else None
    wanted = by_hand(network, truths[name], only)
    found = score_set(*network, one, batch_size=8)
    if only is not None:
        assert found.pop("top1_all") == pytest.approx(by_hand(network, truths[name])["top1"])
    assert found == pytest.approx(wanted)
    assert wanted["top5"] > 0
    if name == "real":
        assert found["images"] == 8  # of 12, four have no right class


def test_logits_that_are_no_numbers_name_the_image(tree, network):
    (one,) = open_suite("imagenet", tree[0], partial=True)
    model, variables = network
    broken = jax.tree.map(lambda x: x * np.nan, variables)
    with pytest.raises(ValueError, match=r"\.(JPEG|png|jpg): logits: some values are NaN"):
        score_set(model, broken, one, batch_size=8)


def test_mean_corruption_error(tree, network):
    root, truths = tree
    sets = open_suite("c", root, partial=True)
    assert len(sets) == 75
    # All networks have some hits, so that the errors differ: right where the class is the nearest.
    figures = {one.name: score_set(*network, one, batch_size=8) for one in sets[:2]}
    for one in sets[:2]:
        wanted = by_hand(network, truths[one.name], crop_only=True)
        assert figures[one.name] == pytest.approx(wanted)
    every = {one.name: {"images": 1, "top1": 0.25, "top5": 0.5} for one in sets}
    every[sets[0].name]["top1"] = 1.0
    relative = [5 * 0.75 / sum(alexnet_errors(one.name.split("/")[1])) for one in sets[::5]]
    relative[0] -= 0.75 / sum(alexnet_errors(sets[0].name.split("/")[1]))
    assert summary(sets, every)["mce"] == pytest.approx(np.mean(relative))


def test_corrupted_images_are_cropped_and_never_shrunk(tree, network, tmp_path):
    """As their authors' script does: the middle of an image that is larger than the network's."""
    root, truths = tree
    name = "c/gaussian_noise/1"
    ((seed, (synset,)),) = truths[name]
    for side in (24, 16, 12):
        file = tmp_path / str(side) / f"imagenet-{name}" / synset / "x.JPEG"
        save(file, seed, side)
        (one,) = open_suite("c", tmp_path / str(side), partial=True)
        (image,) = (batch["image"] for batch in data.eval_batches(
            one.source, suite_pipeline(network[0], one), batch_size=1
        ))  # fmt: skip
        whole = np.asarray(picture(seed, side))
        inset = (side - 16) // 2
        if side >= 16:
            cropped = whole[inset : inset + 16, inset : inset + 16]
        else:
            cropped = np.asarray(picture(seed, side).resize((16, 16), Image.Resampling.BILINEAR))
        np.testing.assert_allclose(image[0], (cropped / 255 - 0.5) / 0.25, atol=1e-6)


def test_classes_by_number_are_imagenets(tree):
    """A published file has no names; its 1,000 outputs are ImageNet's."""
    root, truths = tree
    model, variables = built(None)
    network = model, preferring(variables, synsets(), truths)
    (one,) = open_suite("v2", root, partial=True)
    assert score_set(*network, one, batch_size=8) == pytest.approx(by_hand(network, truths["v2"]))


def test_what_is_no_set_of_the_networks_is_refused(tree, tmp_path, network):
    root, _ = tree
    with pytest.raises(ValueError, match="imagenet: .* has 12 images of 12 classes, and the whole"):
        open_suite("imagenet", root)
    with pytest.raises(ValueError, match=f"a: not below {tmp_path}; looked for imagenet-a, image"):
        open_suite("a", tmp_path)
    with pytest.raises(ValueError, match="suites: 'b' is none of imagenet, real, a, r"):
        open_suite("b", root)
    shutil.copytree(root / "imagenet-a", tmp_path / "imagenet-a")
    folder = next(path for path in (tmp_path / "imagenet-a").iterdir() if path.is_dir())
    folder.rename(folder.with_name("n00000000"))
    (one,) = open_suite("a", tmp_path, partial=True)
    with pytest.raises(ValueError, match="a: folder:.*: its class 'n00000000' is none of the mod"):
        score_set(*network, one)
    with pytest.raises(ValueError, match="3 outputs have no names"):
        output_names(built(None)[0].clone(num_classes=3))
    with pytest.raises(ValueError, match="no head"):
        output_names(built(None)[0].clone(num_classes=0))


def test_v2_of_other_folders_is_refused(tmp_path):
    save(tmp_path / "imagenet-v2/n01440764/x.png", 1)
    with pytest.raises(ValueError, match="v2: folder 'n01440764', expected numbers of classes"):
        open_suite("v2", tmp_path, partial=True)


def test_real_needs_its_list_and_names_of_files(tree, tmp_path):
    root, _ = tree
    shutil.copytree(root / "imagenet/val", tmp_path / "val")
    with pytest.raises(ValueError, match="real: no real.json beside"):
        open_suite("real", tmp_path, partial=True)
    for wrong in ("{}", "[1]", "[[-1]]", "[[1000]]", "[[true]]", "[["):
        (tmp_path / "real.json").write_text(wrong)
        with pytest.raises(ValueError, match="real: .*real.json is no (list of lists|JSON)"):
            open_suite("real", tmp_path, partial=True)
    (tmp_path / "real.json").write_text("[[1]]")
    with pytest.raises(ValueError, match="real: n.* is not called ILSVRC2012_val_00000001.JPEG"):
        open_suite("real", tmp_path, partial=True)


def test_the_counts_of_whole_sets():
    """Figures of recipes.md 5, by which a set is taken for whole."""
    counts = {name: (suite.images, suite.classes) for name, suite in SUITES.items()}
    assert counts["a"] == (7500, 200) and counts["r"] == (30_000, 200)
    assert counts["sketch"] == (50_889, 1000) and counts["v2"] == (10_000, 1000)
    assert len(set(synsets_of("a")) & set(synsets_of("r"))) == 86
    assert np.mean([np.mean(alexnet_errors(c)) for c in ("gaussian_noise",)]) == pytest.approx(
        0.886428
    )


def test_the_command(tree, tmp_path, network, capsys):
    root, _ = tree
    for name, given in (("first", network), ("second", built(None))):
        vjx.save(tmp_path / f"{name}.safetensors", *given, class_names=given[0].class_names)
    models = [f"{name}={tmp_path / name}.safetensors" for name in ("first", "second")]
    flags = ["--suites", "imagenet,a", "--data", str(root), "--partial", "--batch-size", "8"]
    flags += ["--relative-to", "first"]
    assert main([*models, *flags, "--out", str(tmp_path / "table.json")]) == 0
    shown = capsys.readouterr().out
    title = "| network | imagenet top-1 | imagenet top-5 | a top-1 | a top-5 | a top-1 of all cl"
    assert shown.startswith(title) and shown.count("\n") == 4 and "(-" in shown
    found = json.loads((tmp_path / "table.json").read_text())
    (one,) = open_suite("a", root, partial=True)
    assert found["networks"]["first"]["a"] == pytest.approx(score_set(*network, one))
    first, second = (found["networks"][name]["a"]["top1"] for name in ("first", "second"))
    assert found["gaps"]["second"]["a"]["top1"] == pytest.approx(second - first)
    assert main([*models, *flags, "--out", str(tmp_path / "table.csv")]) == 0
    with (tmp_path / "table.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {line["network"] for line in lines} == {"first", "second"}
    top1 = [line for line in lines if (line["suite"], line["figure"]) == ("a", "top1")]
    assert [float(line["gap"]) for line in top1] == pytest.approx([0.0, second - first])


def test_classes_of_all_suites_are_checked_before_any_is_scored(
    tree, tmp_path, network, capsys, monkeypatch
):
    vjx.save(tmp_path / "x.safetensors", *network)
    root = shutil.copytree(tree[0] / "imagenet-a", tmp_path / "data/imagenet-a").parent
    shutil.copytree(tree[0] / "sketch", root / "sketch")
    next((root / "sketch").iterdir()).rename(root / "sketch/n00000000")
    scored = []
    monkeypatch.setattr(suite_scores, "score_set", lambda *given: scored.append(given))
    flags = ["--suites", "a,sketch", "--data", str(root), "--partial"]
    assert main([str(tmp_path / "x.safetensors"), *flags]) == 1 and not scored
    assert "its class 'n00000000' is none of the model's 1000" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--data", "/nowhere"], "--data: /nowhere is no folder"),
        (["--class-map", "/nowhere.json"], "--class-map: got '/nowhere.json', expected a .json"),
        (["--suites", "b"], "--suites: 'b' is none of imagenet, real"),
        (["--suites", "imagenet"], "--suites: imagenet: .* has 12 images"),
        (["--relative-to", "other"], "--relative-to: 'other' is none of x.safetensors"),
        (["--out", "table.txt"], "--out: table.txt ends in neither of .json, .csv"),
        (["--partial", "--suites", "sketch"], "x.safetensors: .*no such file"),
    ],
)
def test_the_command_says_what_is_wrong(change, message, tree, capsys):
    flags = ["x.safetensors", "--suites", "imagenet", "--data", str(tree[0]), *change]
    assert main(flags) == 1
    assert re.search(f"^error: {message}", capsys.readouterr().err)

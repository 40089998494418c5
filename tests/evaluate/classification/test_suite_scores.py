"""The suites' figures against reference ones: classes left out, several right ones, corruptions."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.evaluate.classification.suite_scores import hit_sums, mean_corruption_error
from vit_jax_xfer.suites.imagenet_labels import (
    CORRUPTIONS,
    SEVERITIES,
    alexnet_errors,
    synsets,
    synsets_of,
)


@pytest.fixture(scope="module")
def golden(shared):
    """Reference figures, and the logits that they are of."""
    folder = shared / "golden" / "recipes"
    table = json.loads((folder / "optim_metrics.json").read_text())["metrics"]
    return table, np.load(folder / "optim_metrics.npz")


@pytest.mark.parametrize("variant", ["a", "r"])
def test_two_hundred_classes_of_a_thousand(variant, golden):
    wanted = golden[0][f"imagenet_{variant}"]
    logits = jnp.asarray(golden[1][f"metric_{variant}_logits"])
    scored = np.isin(synsets(), synsets_of(variant))
    right = np.array(wanted["labels_in_1k"])[:, None]
    found = hit_sums(logits, right, scored)
    assert scored.sum() == 200 and found["images"] == len(right)
    for figure, name in (("top1", "top1_masked"), ("top5", "top5_masked")):
        assert float(found[figure]) / len(right) == pytest.approx(wanted[name])
    assert float(found["top1_all"]) / len(right) == pytest.approx(wanted["top1_unmasked_1000way"])


def test_images_with_several_right_classes_and_with_none(golden):
    wanted, logits = golden[0]["real"], jnp.asarray(golden[1]["metric_real_logits"])
    lists = wanted["labels"]
    right = np.full((len(logits), max(map(len, lists))), -1)
    for row, classes in zip(right, lists, strict=False):
        row[: len(classes)] = classes
    found = hit_sums(logits[: len(lists)], right[: len(lists)], np.ones(1000, bool))
    assert found["images"] == wanted["n_counted"]
    for figure in ("top1", "top5"):
        assert float(found[figure]) / wanted["n_counted"] == pytest.approx(wanted[figure])


def test_errors_over_alexnets(golden):
    wanted = golden[0]["mce"]
    errors = {
        f"{name}/{severity}": error
        for name, row in wanted["model_errors_by_severity"].items()
        for severity, error in zip(SEVERITIES, row, strict=True)
    }
    alexnet = {
        f"{name}/{severity}": error
        for name in CORRUPTIONS
        for severity, error in zip(SEVERITIES, alexnet_errors(name), strict=True)
    }
    assert 100 * mean_corruption_error(errors, alexnet) == pytest.approx(wanted["mce"])
    for name, one in wanted["ce"].items():
        own = {key: error for key, error in errors.items() if key.startswith(name)}
        assert 100 * mean_corruption_error(own, alexnet) == pytest.approx(one)

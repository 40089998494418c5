"""The table of suites: columns of all rows, gaps, and errors over a reference row's."""

import json

import pytest

from vit_jax_xfer.data.sources.arrays import ArraySource
from vit_jax_xfer.evaluate.classification import suite_table
from vit_jax_xfer.evaluate.classification.suite_scores import (
    add_relative_errors,
    corruption_errors,
    summary,
)
from vit_jax_xfer.evaluate.classification.suite_table import corruptions_as_markdown
from vit_jax_xfer.suites.suite_set import SuiteSet

ROWS = {
    "few": {"cifar10": {"images": 4, "top1": 0.5}},
    "many": {"cifar10": {"images": 4, "top1": 0.75, "top5": 1.0}},
}


def test_a_figure_that_only_some_networks_have():
    shown = suite_table.as_markdown(ROWS, "few").splitlines()
    assert shown[0] == "| network | cifar10 top-1 | cifar10 top-5 |"
    assert shown[2:] == ["| few | 50.0 |  |", "| many | 75.0 (+25.0) | 100.0 |"]
    found = json.loads(suite_table.as_json(ROWS, "many"))
    assert found["gaps"] == {"few": {"cifar10": {"top1": -0.25}},
                             "many": {"cifar10": {"top1": 0.0, "top5": 0.0}}}  # fmt: skip


def test_errors_over_those_of_the_reference_row():
    names = [f"corrupted/{kind}/{severity}" for kind in ("fog", "haze") for severity in (1, 2)]
    empty = ArraySource([], [], (), "")
    sets = [SuiteSet(name, empty) for name in names]
    hits = {"one": (0.9, 0.7, 0.5, 0.5), "two": (0.8, 0.6, 0.75, 0.75)}
    every = {
        network: {name: {"images": 4, "top1": x} for name, x in zip(names, row, strict=True)}
        for network, row in hits.items()
    }
    rows = {network: {"corrupted": summary(sets, found)} for network, found in every.items()}
    assert rows["one"]["corrupted"] == {"images": 16, "top1": pytest.approx(0.65)}
    add_relative_errors(rows, every, {"corrupted": sets}, "one")
    # fog (0.2 + 0.4) / (0.1 + 0.3), haze 0.5 / 1.0
    assert rows["two"]["corrupted"]["mce"] == pytest.approx((0.6 / 0.4 + 0.5) / 2)
    assert rows["one"]["corrupted"]["mce"] == pytest.approx(1.0)


def test_no_errors_of_a_reference_that_makes_none():
    sets = [SuiteSet("corrupted/fog/1", ArraySource([], [], (), ""))]
    every = {name: {"corrupted/fog/1": {"images": 1, "top1": 1.0}} for name in ("one", "two")}
    rows = {name: {"corrupted": summary(sets, found)} for name, found in every.items()}
    add_relative_errors(rows, every, {"corrupted": sets}, "one")
    assert "mce" not in rows["two"]["corrupted"]


def figures(*hits):
    names = ("own/fog/1", "own/fog/2", "own/blur/1", "other/fog/1")
    return {name: {"top1": top1, "images": 8} for name, top1 in zip(names, hits, strict=True)}


def test_errors_are_means_over_severities_with_gaps_behind_them():
    found = {"first": figures(0.5, 0.25, 1.0, 0.0), "second": figures(0.5, 0.5, 0.875, 0.0)}
    errors = {name: corruption_errors(one, "own") for name, one in found.items()}
    assert errors == {"first": {"fog": 0.625, "blur": 0.0}, "second": {"fog": 0.5, "blur": 0.125}}
    assert corruptions_as_markdown("own", errors, "first").splitlines() == [
        "| own: errors | fog | blur |",
        "|---|---|---|",
        "| first | 62.5 | 0.0 |",
        "| second | 50.0 (-12.5) | 12.5 (+12.5) |",
    ]
    assert "| second | 50.0 | 12.5 |" in corruptions_as_markdown("own", errors)

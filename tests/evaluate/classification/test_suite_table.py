"""The table of errors by corruption, against a count by hand."""

from vit_jax_xfer.evaluate.classification.suite_scores import corruption_errors
from vit_jax_xfer.evaluate.classification.suite_table import corruptions_as_markdown


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

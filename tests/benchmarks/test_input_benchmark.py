"""The input's benchmark: ratios of rounds, and loaders that aren't installed."""

from benchmarks.input import summary

RUNS = [
    {"contender": name, "images/s": rate * speed, "CPU ms": 4.0}
    for speed in (1.0, 0.5) * 5
    for name, rate in (("ours 2 1", 300.0), ("timm 2 1", 200.0))
]


def test_a_ratio_is_of_each_round():
    row = summary("ours 2 1", RUNS, "timm 2 1", 0.15)
    assert row["images/s"] == 225 and (row["least"], row["most"]) == (150, 300)
    assert row["ratio"] == row["ratio_p10"] == row["ratio_p90"] == 1.5 and "mark" not in row
    few = summary("ours 2 1", RUNS[:6], "timm 2 1", 0.15)
    assert few["mark"] == "3 rounds"
    alone = summary("ours 2 1", [one for one in RUNS if "ours" in one["contender"]], "timm 2 1", 1)
    assert "ratio" not in alone


def test_what_is_not_installed_says_so():
    assert summary("v2 2 1", RUNS, "timm 2 1", 0.15)["images/s"] == "not installed"

"""Turns, the ratios of rounds with their spread, and what makes a row no figure to rely on."""

import argparse
import json

import pytest

from benchmarks import measured_rows, rounds
from benchmarks.measured_rows import PRODUCTS, Report, compare, figures, product_share, refuse
from benchmarks.rounds import Spread, mark, ratio, spread


def test_turns_and_tables():
    calls = []
    times = rounds.alternate(
        {name: lambda name=name: calls.append(name) for name in "ab"}, rounds=2
    )
    assert "".join(calls) == "bbaa" + "aabb" + "bbaa"
    assert [len(values) for values in times.values()] == [2, 2]
    assert rounds.summary([3.0, 1.0, 2.0])["median_ms"] == 2
    rows = [{"x": 1, "y": 2}, {"x": 3, "x_p10": 2, "x_p90": 5}]
    table = rounds.markdown(rows, ("x", "y"))
    assert table == "| x | y |\n| --- | --- |\n| 1 | 2 |\n| 3 (2–5) |  |"


def test_a_contender_may_time_itself():
    class Timed:
        def seconds(self):
            return 0.25

    assert rounds.alternate({"a": Timed()}, rounds=2) == {"a": [250.0, 250.0]}


def test_a_ratio_is_of_each_round():
    # The machine was half as fast in every other round, which a ratio doesn't show.
    ours, theirs = [10.0, 20.0] * 5, [15.0, 30.0] * 5
    assert ratio(theirs, ours) == Spread(1.5, 1.5, 1.5, 10)
    assert spread(ours).width == pytest.approx(10 / 15)
    with pytest.raises(ValueError, match="strict|longer|shorter"):
        ratio(theirs, ours[:-1])


def test_the_spread_leaves_out_a_tenth_at_either_end():
    found = spread([1000.0, 1.0, *[float(n) for n in range(10, 19)]])
    assert found == Spread(14.0, 10.0, 18.0, 11)
    assert found.width == pytest.approx(8 / 14)
    assert Spread(1.23456, 1.1, 1.3, 10).fields("ratio") == {
        "ratio": 1.235,
        "ratio_p10": 1.1,
        "ratio_p90": 1.3,
    }
    with pytest.raises(ValueError, match="no rounds"):
        spread([])


def test_marks():
    narrow, wide = Spread(1.0, 0.95, 1.05, 10), Spread(2.0, 1.5, 2.5, 10)
    assert mark({"ratio": narrow}) == "" == mark({})
    assert mark({"ratio": narrow, "share": wide}) == "too wide: share 50%"
    assert mark({"share": wide}, widest=0.6) == ""
    assert mark({"ratio": narrow._replace(rounds=9)}) == "9 rounds"
    assert mark({"ratio": wide._replace(rounds=3)}) == "too wide: ratio 50%; 3 rounds"
    assert mark({"ratio": Spread(1.0, float("nan"), 1.0, 10)}).startswith("too wide")


def test_the_share_is_of_the_faster_frameworks_products():
    jax, torch = PRODUCTS.values()
    times = {jax: [8.0, 16.0], torch: [9.0, 17.0], "ours": [10.0, 20.0]}
    assert product_share(times, "ours", PRODUCTS.values()) == Spread(80.0, 80.0, 80.0, 2)
    assert product_share(times, "ours", [torch]).median == pytest.approx(87.5)
    assert product_share(times, "ours", ()) is None


def given(tmp_path, **more):
    flags = {"rounds": 10, "widest": 0.15, "refuse": False, "beside": False, "threads": 1}
    paths = {"json": str(tmp_path / "new" / "rows.jsonl"), "table": str(tmp_path / "rows.md")}
    return argparse.Namespace(**{**flags, **paths, **more})


def test_rows_of_both_states_and_their_files(tmp_path, monkeypatch, capsys):
    shown = {
        "ours": [10.0] * 10,
        "torch": [12.0] * 5 + [20.0] * 5,
        "other": [1.0] * 10,
        PRODUCTS["jax"]: [8.0] * 10,
    }
    monkeypatch.setattr(measured_rows, "alternate", lambda found, rounds: shown)
    arguments = given(tmp_path, beside=True)
    columns = ("model", "contender", *measured_rows.SHARED)
    with Report(arguments, columns) as report:
        report.about({"machine": "here"})
        contenders = dict.fromkeys(shown, lambda: None)
        more = {"ours": {"compile_s": 3}}
        about = {"model": "m"}
        compare(report, contenders, "ours", about, 2.0, 4, ("other",), more)
    machine, *rows = map(json.loads, (tmp_path / "new" / "rows.jsonl").read_text().splitlines())
    assert machine == {"machine": "here"} and rows == report.rows
    assert [row["state"] for row in rows] == ["alone"] * 4 + ["beside"] * 4
    ours, torch, other, alone = rows[:4]
    assert ours["ratio"] == 1 and ours["share %"] == 80 and ours["compile_s"] == 3
    assert ours["GFLOP_s"] == 200 and ours["images_s"] == 400 and "mark" not in ours
    assert torch["ratio"] == 1.6 and torch["ratio_p10"] == 1.2 and torch["ratio_p90"] == 2.0
    assert torch["mark"] == "too wide: ratio 50%, share 50%"
    assert "share %" not in other and "GFLOP_s" not in other
    assert alone["share %"] == 100
    others = [row["others %"] for row in rows]  # None: too short a time to tell
    assert all(one is None or 0 <= one <= 100 for one in others)
    table = (tmp_path / "rows.md").read_text()
    assert "| 1.6 (1.2–2.0) |" in table and table.count("\n") == 10
    assert table in capsys.readouterr().out + "\n"


def test_what_is_marked_or_missing_is_refused(tmp_path, capsys):
    refuse([{"ratio": 1.0}])
    for wrong in ({"mark": "too wide: ratio 50%"}, {"skipped": "openvino is not installed"}):
        with (
            pytest.raises(SystemExit, match="^1$"),
            Report(given(tmp_path, refuse=True), ("ratio",)) as report,
        ):
            report.add({"ratio": 1.0} | wrong)
        said = capsys.readouterr()
        assert f"refused: 1 of 1 rows: {next(iter(wrong.values()))}" in said.err
        assert "| ratio |" in said.out  # the table is there all the same
    with Report(given(tmp_path), ("ratio",)) as report:
        report.add({"mark": "too wide"})  # marked, and not refused


def test_figures_of_one_contender():
    row = figures({"a": [2.0] * 3}, "a", {}, 0.15, (), batch=1)
    assert row["median_ms"] == 2 and row["n"] == 3 and row["images_s"] == 500
    assert "share %" not in row and row["mark"] == "3 rounds"
    row = figures({"a": [2.0, 4.0] * 5}, "a", {}, 0.15, ())
    assert row["mark"] == "too wide: median_ms 67%"  # where there is nothing else to judge by

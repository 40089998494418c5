"""Benchmarks by their names."""

import pytest

from vit_jax_xfer.evaluate.open_benchmark import OPENERS, open_benchmark


@pytest.mark.parametrize("spec", ["", "videos", "correspondence:", "cooking:davis2016:/tmp"])
def test_unknown_names(spec):
    with pytest.raises(ValueError, match=r"benchmark .*expected one of correspondence:LAYOUT:PATH"):
        open_benchmark(spec, 224)


@pytest.mark.parametrize("size, limit", [(0, None), (224, 0)])
def test_numbers(size, limit):
    with pytest.raises(ValueError, match="size and limit: at least 1"):
        open_benchmark("videos:davis2016:/tmp", size, limit)


def test_every_opener_asks_for_a_layout():
    assert {"correspondence", "videos"} <= set(OPENERS)
    for task in OPENERS:
        with pytest.raises(ValueError, match="nothing"):
            open_benchmark(f"{task}:nothing:/tmp", 224)


def test_real_ones(shared):
    willow = open_benchmark(f"correspondence:willow:{shared / 'data' / 'pf_willow'}", 96, 20)
    davis = open_benchmark(f"videos:davis2016:{shared / 'data' / 'davis2016_val_3seq'}", 96, 1)
    assert (willow.name, willow.size) == ("willow", 96)
    assert (davis.name, davis.size) == ("davis2016", 96)

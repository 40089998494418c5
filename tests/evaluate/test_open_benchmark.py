"""Benchmarks by their names."""

import pytest

from tests.colour_extractor import colours
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


def test_names_tell_data_sets_of_one_task_apart(shared):
    data = shared / "data"
    voc = open_benchmark(f"objects:voc:{data / 'voc2012_boxes_100'}", 96, 2)
    coco = open_benchmark(f"segmentation:coco128:{data / 'coco128'}", 96, 2)
    assert (voc.name, coco.name) == ("voc_objects", "coco128_segmentation")


def test_study_of_sizes(shared):
    folder = shared / "data" / "voc2012_boxes_100" / "JPEGImages"
    study = open_benchmark(f"scale:folder:{folder}", 32, 5)
    assert study.sizes == (16, 32, 64) and len(study.files) == 5
    figures = study(colours(16)).figures
    assert list(figures) == ["CKA 16/64", "CKA 32/64"] and all(x > 0.5 for x in figures.values())
    with pytest.raises(ValueError, match="expected folder:PATH"):
        open_benchmark("scale:pile:/tmp", 32)

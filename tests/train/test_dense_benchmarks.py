"""Dense benchmarks while training: figures in the metrics, and what is refused before a step."""

import os
import signal

import jax
import numpy as np
import pytest
import scipy.io
from PIL import Image

from tests.runs import rows, save_teacher, tiny_config
from vit_jax_xfer.evaluate.benchmark import ItemBenchmark, Result, parts_of
from vit_jax_xfer.evaluate.correspondence import correspondence_benchmark
from vit_jax_xfer.evaluate.open_benchmark import open_benchmark
from vit_jax_xfer.features.feature_extractor import FeatureExtractor
from vit_jax_xfer.features.open_extractors import load_backbone, load_upsampler
from vit_jax_xfer.models.preprocessing import INCEPTION
from vit_jax_xfer.train import dense_benchmarks
from vit_jax_xfer.train.dense_benchmarks import DenseBenchmarks
from vit_jax_xfer.train.loop import run

BENCHMARK = {"eval__benchmark_size": 16}


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    """Keypoint correspondence on three small pictures in PF-WILLOW's layout."""
    folder = tmp_path_factory.mktemp("willow") / "PF-dataset-WILLOW" / "car(S)"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(3):
        picture = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / f"{i}.png")
        points = rng.uniform([[1], [1]], [[16], [12]], (2, 10))
        scipy.io.savemat(folder / f"{i}.mat", {"pts_coord": points})
    return f"correspondence:willow:{folder.parent}"


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return save_teacher(tmp_path_factory.mktemp("mae"))


def test_figures_of_doubled_features_are_metrics(spec, backbone, tmp_path):
    config = tiny_config(
        "lift", task__backbone=backbone, eval__benchmarks=(spec,), eval__every=2, **BENCHMARK
    )
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            FeatureExtractor,
            "side",
            lambda extractor, size: seen.append(extractor.variables) or size,
        )
        result = run(config, tmp_path)
    # Weights on the host would go to the device with every photograph.
    last = jax.tree.leaves(seen[-1])
    assert last and all(isinstance(leaf, jax.Array) for leaf in last)
    evaluations = {step: values for step, kind, values in rows(tmp_path) if kind == "eval"}
    assert list(evaluations) == [2, 3]
    network, variables = load_backbone(backbone)
    model, weights = load_upsampler(str(tmp_path / "model"), network, variables)
    jax.tree.map(np.testing.assert_array_equal, seen[-1], (variables, weights))
    expected = open_benchmark(spec, 16)(
        FeatureExtractor("x", network, (variables, weights), model)
    ).figures
    found = {name: value for name, value in result["metrics"].items() if "/" in name}
    assert found == {f"willow/{name}": pytest.approx(value) for name, value in expected.items()}
    assert result["metrics"].keys() > {"loss", "cosine"} | found.keys()


def test_a_vision_transformer_shows_its_own_features(spec, tmp_path, capsys, monkeypatch):
    config = tiny_config("scratch", eval__benchmarks=spec, **BENCHMARK)
    seen, side = [], FeatureExtractor.side
    with monkeypatch.context() as patch:
        patch.setattr(
            FeatureExtractor,
            "side",
            lambda extractor, size: seen.append(extractor.variables[0]) or side(extractor, size),
        )
        result = run(config, tmp_path)
    assert capsys.readouterr().out.count("willow: skipped 0 keypoints, 0 pairs\n") == 1
    network, variables = load_backbone(str(tmp_path / "model"))
    assert network.mean_std == INCEPTION
    jax.tree.map(np.testing.assert_array_equal, seen[-1], variables)
    expected = open_benchmark(spec, 16)(FeatureExtractor("x", network, (variables, {}))).figures
    for name, value in expected.items():
        assert result["metrics"][f"willow/{name}"] == pytest.approx(value)


class Items(ItemBenchmark):
    """A benchmark of eight numbers, of which the last takes three reports; what was measured."""

    name, size, items = "items", 16, 8

    def __init__(self):
        self.measured = []

    def reports(self, part):
        return sum(3 if i == 7 else 1 for i in part)

    def outcomes(self, extractor, part, report):
        self.measured.append(part)
        for _ in range(self.reports(part)):
            report(0, 0)
        if extractor == "broken" and 7 in part:
            raise ValueError("7.png: can't be read")
        return [i**2 for i in part]

    def result(self, outcomes):
        return Result({"sum": sum(outcomes), "images": len(outcomes)}, {})


def test_processes_measure_a_part_each_ask_alike_and_agree(monkeypatch):
    assert parts_of(Items(), 2) == [range(5), range(5, 8)]
    assert [i for part in parts_of(Items(), 3) for i in part] == list(range(8))
    assert parts_of(Items(), 20)[-1].stop == 8 and len(parts_of(Items(), 20)) == 20
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    asked, benchmark = {0: [], 1: []}, Items()
    own = DenseBenchmarks(None, tiny_config("scratch"), (8, 8, 3))

    def run_as(process, extractor, found):
        monkeypatch.setattr(jax, "process_index", lambda: process)
        monkeypatch.setattr(dense_benchmarks, "of_every_process", found)
        own._before_item = asked[process].append
        return own._run(benchmark, extractor).figures

    parts = []
    for process in (0, 1):  # what each has, which the exchange brings to both
        run_as(process, "whole", lambda mine: parts.append(mine) or [mine])
    for process in (0, 1):
        figures = run_as(process, "whole", lambda mine: parts)
        assert figures == {"sum": sum(i**2 for i in range(8)), "images": 8}
    assert benchmark.measured == [range(5), range(5, 8)] * 2
    # One question before the first item and one after each report, of the longest part.
    assert asked[0] == asked[1] == [*range(6)] * 2
    for process in (0, 1):  # one has a broken photograph, and both say so
        with pytest.raises(ValueError, match="^eval.benchmarks: 7.png: can't be read$"):
            run_as(process, "broken", lambda mine: [[0], "7.png: can't be read"])
    assert asked[0] == asked[1]


@pytest.mark.parametrize("number", [2, 3])
def test_parts_of_a_benchmark_make_the_whole(number, spec, backbone):
    benchmark, (network, variables) = open_benchmark(spec, 16), load_backbone(backbone)
    extractor = FeatureExtractor("x", network, (variables, {}))
    found = [benchmark.outcomes(extractor, part) for part in parts_of(benchmark, number)]
    assert all(found) and benchmark.result(sum(found, [])) == benchmark(extractor)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("scratch", {"eval__benchmarks": ("depth:nyu:/data",)}, "benchmark 'depth:nyu:/data'"),
        ("scratch", {"eval__benchmarks": ("correspondence:willow:/no/where",)}, "/no/where"),
        ("filter_vit", {}, "the model: a FilterViT has no descriptors"),
        ("scratch", {"twice": True}, "two are called willow"),
        ("scratch", {"eval__benchmark_size": 15}, "15"),
        ("scratch", {"eval__pipeline": "normalize|normalize"}, "normalises more than once"),
    ],
)
def test_errors_before_anything_is_written(name, fields, message, spec, tmp_path):
    fields = {**BENCHMARK, "eval__benchmarks": (spec,), **fields}
    if fields.pop("twice", False):
        fields["eval__benchmarks"] = (spec, spec)
    with pytest.raises(ValueError, match=f"eval.benchmarks: .*{message}"):
        run(tiny_config(name, **fields), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_signal_in_a_benchmark_leaves_it(spec, tmp_path, monkeypatch, capfd):
    config = tiny_config("scratch", steps=2, eval__benchmarks=spec, **BENCHMARK)
    cases, letterbox = [], correspondence_benchmark.letterbox

    def signalled(path, side):
        cases.append(path)
        if len(cases) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return letterbox(path, side)

    monkeypatch.setattr(correspondence_benchmark, "letterbox", signalled)
    result = run(config, tmp_path)
    assert (result["finished"], result["step"]) == (False, 2) and len(cases) == 3
    assert (tmp_path / "checkpoints" / "2").is_dir() and not (tmp_path / "model").exists()

"""The line about minutes: only where it takes some."""

from types import SimpleNamespace

import vit_jax_xfer as vjx
from vit_jax_xfer.evaluate.faithfulness.method_scores import FaithfulnessProtocol
from vit_jax_xfer.explain.methods.attribution import passes_of
from vit_jax_xfer.features import cost_estimate
from vit_jax_xfer.features.cost_estimate import cost_text, say_cost, say_network_cost, seconds_of
from vit_jax_xfer.models.multiply_adds import multiply_adds


def test_what_takes_less_than_a_minute_is_not_said():
    assert cost_text(59, 10, 10**12, "images") is None
    said = cost_text(700, 1710, 42 * 10**11, "photographs")
    assert said == (
        "this takes about 12 minutes on this machine: 1,710 photographs through the network, "
        "4.2 T multiply-adds"
    )
    assert "about 1 minute on" in cost_text(61, 1, 1, "images")
    assert "about 2.5 hours on" in cost_text(9000, 1, 1, "images")


def test_work_is_summed_over_the_networks(monkeypatch, capsys):
    monkeypatch.setattr(cost_estimate, "_products_a_second", lambda: 1e9)
    say_cost([("plain", 10, 10**9), ("larger", 10, 2 * 10**9)])
    assert not capsys.readouterr().err
    say_cost([("plain", 100, 10**9), ("larger", 100, 4 * 10**9), ("none", 0, 10**20)])
    assert "about 14 minutes on this machine: 200 photographs" in capsys.readouterr().err


def test_what_is_done_with_features_counts_too(monkeypatch, capsys):
    assert cost_text(7300, 10, 10**12, "images", 3700).endswith("adds, and 62 minutes with its "
                                                                "features")  # fmt: skip
    monkeypatch.setattr(cost_estimate, "_products_a_second", lambda: 1e9)
    say_cost([("plain", 10, 10**9)], besides=50.0)
    assert not capsys.readouterr().err
    say_cost([("plain", 10, 10**9)], besides=110.0)
    said = capsys.readouterr().err
    assert "about 2 minutes on this machine: 10 photographs" in said
    assert said.endswith("and 2 minutes with its features\n")


def test_few_pairs_of_cells_are_not_timed(monkeypatch):
    made, done = [], []
    ticks = iter([10.0, 12.5])
    monkeypatch.setattr(cost_estimate, "time", SimpleNamespace(monotonic=lambda: next(ticks)))

    def make():
        made.append(1)
        return lambda: done.append(1)

    assert seconds_of(make, 100, 9e6) == 0.0 and not made
    assert seconds_of(make, 100, 1e7) == 250.0 and (made, done) == ([1], [1, 1])


def test_of_one_network(monkeypatch, capsys):
    model = vjx.create_model("vit_micro_patch8", image_size=32, depth=1)
    each = multiply_adds(model)
    monkeypatch.setattr(cost_estimate, "_products_a_second", lambda: each * 1e4)
    say_network_cost(model, 10**6, passes=3)
    assert "about 8 minutes on this machine: 1,000,000 photographs" in capsys.readouterr().err
    say_network_cost(model, 10**6, 64, "images")
    assert "about 11 minutes on this machine: 1,000,000 images" in capsys.readouterr().err
    for silent in ((model, 5), (model, 10**6, 33), (object(), 10**6)):
        say_network_cost(*silent)
    assert not capsys.readouterr().err


def test_passes_through_the_network():
    """A gradient is two more, and some methods take several; so do the figures of a map."""
    assert [passes_of(name, {}) for name in ("edges", "rollout", "legrad")] == [0, 1, 3]
    assert passes_of("integrated_gradients", {}) == 150
    assert passes_of("smoothgrad", {"samples": 4}) == 12
    assert passes_of("rolout", {}) == 0 and passes_of("smoothgrad", {"samples": "x"}) == 1
    assert FaithfulnessProtocol(("deletion", "saco"), parts=20, groups=10).passes == 19 + 11
    assert FaithfulnessProtocol(parts=20, groups=10).passes == 3 * 19 + 2 * 9 + 11

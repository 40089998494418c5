"""The line about minutes: only where it takes some."""

from vit_jax_xfer.features import cost_estimate
from vit_jax_xfer.features.cost_estimate import cost_text, say_cost


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

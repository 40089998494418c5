"""The learning rate of each step against those of published code."""

import json
import math

import jax
import numpy as np
import pytest

from vit_jax_xfer.config import default_config
from vit_jax_xfer.train.learning_rate import learning_rate, learning_rate_of
from vit_jax_xfer.train.schedule import make_run_schedule


@pytest.fixture(scope="module")
def published(shared):
    """Rates of MAE's and PyTorch's code."""
    return json.loads((shared / "golden" / "recipes" / "schedules.json").read_text())


@pytest.mark.parametrize("name", ["mae_ft_B", "mae_ft_L", "at_distill", "at_copy", "scratch_B"])
def test_mae_schedules(name, published):
    want = published[name]
    per_epoch = want["steps_per_epoch"]
    rate = learning_rate(
        want["peak_lr"], want["min_lr"], want["warmup"] * per_epoch, want["epochs"] * per_epoch
    )
    got = [float(rate(step)) for step in want["steps"]]
    assert got[0] == 0.0
    np.testing.assert_allclose(got, want["lr"], rtol=1e-5, atol=1e-6 * want["peak_lr"])


def test_a_cosine_that_moves_once_an_epoch_is_pytorchs(published):
    want = published["torch_cosine_annealing_epochwise"]
    total = want["T_max"] * 7
    rate = learning_rate(
        want["base_lr"], want["eta_min"], 0, total, moves="epoch", steps_per_epoch=7.0
    )
    for inside in (0, 3, 6):
        got = [float(rate(7 * epoch + inside)) for epoch in want["epochs"]]
        np.testing.assert_allclose(got, want["lr_torch"], rtol=1e-5)


def deit(epoch):
    """timm's cosine of DeiT at 1024 images: 5 of 300 epochs of warm-up, the cosine from epoch 0."""
    if epoch < 5:
        return 1e-6 + epoch / 5 * (1e-3 - 1e-6)
    return 1e-5 + (1e-3 - 1e-5) / 2 * (1 + math.cos(math.pi * epoch / 300))


def filter_vit(step):
    """FilterViT's: the first epoch's warm-up by step, then PyTorch's cosine of 100 epochs."""
    if step < 6:
        return 5e-7 + step / 6 * (5e-4 - 5e-7)
    epoch = min(step // 10, 100)
    return 5e-5 + (5e-4 - 5e-5) / 2 * (1 + math.cos(math.pi * epoch / 100))


@pytest.mark.parametrize(("moves", "late"), [("epoch", 0), ("epoch_late", 1)])
def test_warmup_under_the_cosine(moves, late):
    a_epoch = 10.07  # steps, so that the warm-up of five epochs is rounded
    rate = jax.vmap(
        learning_rate(
            1e-3, 1e-5, 50, 3021, warmup_from=1e-6, cosine_from="start", moves=moves,
            steps_per_epoch=a_epoch,
        )
    )  # fmt: skip
    steps = [step for step in range(3021) if 0.01 < step % a_epoch < a_epoch - 0.01]
    wanted = [deit(max(int(step / a_epoch) - late, 0)) for step in steps]
    np.testing.assert_allclose(rate(np.array(steps)), wanted, rtol=1e-2)  # of a rounded warm-up
    after = [i for i, step in enumerate(steps) if step > 70]
    np.testing.assert_allclose(
        rate(np.array(steps))[np.array(after)], np.array(wanted)[after], rtol=2e-5
    )


def test_a_cosine_shorter_than_the_run():
    rate = jax.vmap(
        learning_rate(
            5e-4, 5e-5, 6, 2500, warmup_from=5e-7, cosine_from="start", cosine_steps=1000,
            moves="epoch_after_warmup", steps_per_epoch=10.0,
        )
    )  # fmt: skip
    got = rate(np.arange(2500))
    np.testing.assert_allclose(got, [filter_vit(step) for step in range(2500)], rtol=2e-5)


def test_without_warmup_it_starts_at_the_peak():
    rate = learning_rate(0.5, 0.1, 0, 10)
    assert [float(rate(step)) for step in (0, 10)] == pytest.approx([0.5, 0.1])


def config(**fields):
    made = default_config("classification", "vit_micro_patch2", settings={})
    made.update_from_flattened_dict({"epochs": 4.0, "batch_size": 512})
    made.update_from_flattened_dict({f"optim.{name}": value for name, value in fields.items()})
    return made


def test_a_fall_by_a_power_and_one_in_tenths():
    poly = learning_rate(1e-3, 1e-5, 2, 12, power=0.9)
    for step in (2, 7, 11, 12):
        wanted = (1e-3 - 1e-5) * (1 - (step - 2) / 10) ** 0.9 + 1e-5
        assert float(poly(step)) == pytest.approx(wanted, rel=1e-5)
    assert float(poly(1)) == pytest.approx(5e-4)
    tenths = learning_rate(1e-3, 0.0, 2, 100, drops=[89, 96])
    found = [float(tenths(step)) for step in (2, 88, 89, 95, 96, 99)]
    assert found == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])
    # Two shares of a short run may be one step.
    assert float(learning_rate(1e-3, 0.0, 2, 10, drops=[9, 9])(9)) == pytest.approx(1e-5)


def test_the_fields_of_a_config():
    made = config(
        lr=1e-3, end_lr=1e-4, lr_for_batch=256, warmup_epochs=1.0, warmup_from=1e-5,
        cosine_from="start", cosine_epochs=2.0, moves="epoch",
    )  # fmt: skip
    rate = learning_rate_of(made, make_run_schedule(made, 5.0))
    got = [float(rate(step)) for step in (0, 4, 5, 9, 10, 19)]
    half = 1e-4 + (2e-3 - 1e-4) / 2
    assert got == pytest.approx([1e-5, 1e-5, half, half, 1e-4, 1e-4], rel=1e-4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"moves": "day"}, "optim.moves: got 'day', expected one of step, epoch, epoch_late"),
        ({"cosine_from": "end"}, "optim.cosine_from: got 'end', expected one of warmup, start"),
        ({"warmup_from": -1.0}, "optim.warmup_from: got -1.0, expected 0 or more"),
        ({"poly_power": 0.0}, "optim.poly_power: got 0.0, expected more than 0"),
        ({"drops": (0.9, 0.5)}, r"optim.drops: got \(0.9, 0.5\), expected rising shares"),
        ({"drops": ("a",)}, r"optim.drops: got \('a',\), expected rising shares"),
        ({"drops": (0.9,), "poly_power": 1.0}, "optim.drops, optim.poly_power: two ways"),
        (
            {"drops": (0.9,), "cosine_epochs": 1.0},
            ".*two ways .* by optim.cosine_epochs=None",
        ),
        ({"drops": (0.9,), "end_lr": 1e-5}, "optim.drops, optim.end_lr: .* by optim.end_lr=0.0"),
        ({"cosine_epochs": 5.0}, "optim.cosine_epochs: 25 steps, expected more than the 0 of"),
        ({"cosine_epochs": 1.0, "warmup_epochs": 1.0}, "optim.cosine_epochs: 5 steps, expected"),
    ],
)
def test_errors_name_the_field(fields, message):
    made = config(**fields)
    with pytest.raises(ValueError, match=message):
        learning_rate_of(made, make_run_schedule(made, 5.0))

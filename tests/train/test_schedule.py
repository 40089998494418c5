"""The length of a run, its warm-up, and when it evaluates and saves."""

import pytest

from vit_jax_xfer.config import default_config
from vit_jax_xfer.train.schedule import RunSchedule, learning_rates, make_run_schedule


def config(**fields):
    made = default_config("classification", "vit_micro_patch2", settings={})
    for name, value in fields.items():
        made.update_from_flattened_dict({name.replace("__", "."): value})
    return made


def test_steps_and_epochs():
    assert make_run_schedule(config(steps=7), 3.5).total_steps == 7
    run_schedule = make_run_schedule(config(epochs=3.0, optim__warmup_epochs=0.5), 10.0)
    assert (run_schedule.total_steps, run_schedule.warmup_steps) == (30, 5)
    assert make_run_schedule(config(steps=9, optim__warmup_steps=4), 1.0).warmup_steps == 4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "steps, epochs: set exactly one; got None and None"),
        ({"steps": 2, "epochs": 1.0}, "steps, epochs: set exactly one; got 2 and 1.0"),
        ({"steps": 0}, "steps, epochs: 0 steps are none"),
        ({"epochs": 0.01}, "steps, epochs: 0 steps are none"),
        ({"steps": 5, "optim__warmup_steps": 5}, "optim.warmup_steps: 5 .* do not fit in 5 steps"),
        ({"steps": 5, "optim__warmup_steps": -1}, "optim.warmup_steps: -1"),
        ({"steps": 5, "optim__warmup_epochs": 0.5}, "optim.warmup_epochs: 5 .* fit in 5 steps"),
        (
            {"steps": 5, "optim__warmup_steps": 1, "optim__warmup_epochs": 0.1},
            "optim.warmup_steps, optim.warmup_epochs: set at most one",
        ),
        ({"steps": 5, "log__every": 0}, "log.every: expected 1 or more"),
    ],
)
def test_errors_name_the_field(fields, message):
    with pytest.raises(ValueError, match=message):
        make_run_schedule(config(**fields), 10.0)


def test_evaluations_and_checkpoints():
    def steps(ask):
        return [step for step in range(11) if ask(step)]

    end_only = RunSchedule(10, 0, 0, 0)
    assert steps(end_only.evaluates_at) == steps(end_only.saves_at) == [10]
    both = RunSchedule(10, 0, 4, 0)
    assert steps(both.evaluates_at) == steps(both.saves_at) == [4, 8, 10]
    own = RunSchedule(10, 0, 4, 3)
    assert steps(own.evaluates_at) == [4, 8, 10]
    assert steps(own.saves_at) == [3, 6, 9, 10]


def test_the_peak_grows_with_the_batch_and_the_floor_does_not():
    rates = {"optim__lr": 1e-3, "optim__end_lr": 1e-6, "batch_size": 2048}
    assert learning_rates(config(**rates)) == (1e-3, 1e-6)
    assert learning_rates(config(**rates, optim__lr_for_batch=256)) == (8e-3, 1e-6)

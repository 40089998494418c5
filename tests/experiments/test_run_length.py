"""Steps for epochs and back, and what a warm-up becomes with them."""

import types

import pytest

from tests.runs import load_config
from vit_jax_xfer.command_line import config_flag
from vit_jax_xfer.config import default_config
from vit_jax_xfer.experiments.run_length import set_length


def config(**fields):
    made = default_config("classification", "vit_micro_patch2", settings={})
    made.update_from_flattened_dict({key.replace("__", "."): x for key, x in fields.items()})
    return made


@pytest.mark.parametrize(
    ("fields", "unit", "value", "warmup", "said"),
    [
        # The other unit: the share stays.
        (
            {"epochs": 100.0, "optim__warmup_epochs": 20.0},
            "steps",
            500,
            (100, None),
            ["epochs=100.0 → None", "optim.warmup_epochs=20.0 → optim.warmup_steps=100"],
        ),
        (
            {"steps": 800, "optim__warmup_steps": 50},
            "epochs",
            4,
            (None, 0.25),
            ["steps=800 → None", "optim.warmup_steps=50 → optim.warmup_epochs=0.25"],
        ),
        # The same unit: as it is, so that a run can be made longer, unless it would not fit.
        ({"steps": 800, "optim__warmup_steps": 50}, "steps", 3000, (50, None), []),
        ({"steps": 800, "optim__warmup_steps": 50}, "steps", 51, (50, None), []),
        (
            {"steps": 800, "optim__warmup_steps": 50},
            "steps",
            50,
            (3, None),
            ["optim.warmup_steps=50 → optim.warmup_steps=3"],
        ),
        (
            {"epochs": 100.0, "optim__warmup_epochs": 20.0},
            "epochs",
            10,
            (None, 2.0),
            ["optim.warmup_epochs=20.0 → optim.warmup_epochs=2.0"],
        ),
        # A warm-up of another unit than the old length's has no share that is known.
        (
            {"epochs": 64.0, "optim__warmup_steps": 250},
            "steps",
            900,
            (250, None),
            ["epochs=64.0 → None"],
        ),
        ({"steps": 7}, "steps", 9, (None, None), []),
    ],
)
def test_a_new_length(fields, unit, value, warmup, said):
    made = config(**fields).lock()
    assert set_length(made, unit, value) == said
    other = "epochs" if unit == "steps" else "steps"
    assert (made[unit], made[other]) == (value, None) and made.is_locked
    assert (made.optim.warmup_steps, made.optim.warmup_epochs) == warmup


def test_what_is_given_beside_stays():
    fields = {"epochs": 100.0, "optim__warmup_epochs": 20.0}
    made = config(**fields)
    assert set_length(made, "steps", 9, ["optim.warmup_steps"]) == ["epochs=100.0 → None"]
    assert made.optim.warmup_epochs == 20.0
    made = config(**fields, optim__cosine_epochs=40.0)
    assert set_length(made, "epochs", 10)[1:] == [
        "optim.cosine_epochs=40.0 → optim.cosine_epochs=4.0"
    ]


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        (["steps=90"], "epochs", None),
        (["steps=90"], "optim.warmup_epochs", None),
        (["steps=90"], "optim.warmup_steps", 9),
        (["steps=90", "epochs=2"], "epochs", 2.0),
        (["steps=90", "epochs=None"], "optim.warmup_epochs", 20.0),
        (["steps=90", "optim.warmup_steps=3"], "optim.warmup_steps", 3),
        (["task.layers=None"], "task.layers", None),
        (["model.conv_blocks=None"], "model.conv_blocks", None),
        (["optim.warmup_epochs=None"], "optim.warmup_epochs", None),
        # Of two the last; and a switch takes no word after it.
        (["model.drop_path=None", "model.drop_path=0.1"], "model.drop_path", 0.1),
        (["log.tensorboard", "steps=90"], "optim.warmup_steps", 9),
        (["eval.sets.real.split=test"], "eval.sets.real.split", "test"),
    ],
)
def test_fields_from_a_command_line(given, field, value):
    made = load_config("attention_distill", None)
    config_flag.set_fields(made, given)
    for part in field.split("."):
        made = made[part]
    assert made == value


@pytest.mark.parametrize("field", ["model.name", "task.name", "batch_size", "data.pipeline"])
def test_what_has_a_value_in_every_run_is_not_unset(field):
    with pytest.raises(ValueError, match=f"flag --config.{field}=None: it can't be unset"):
        config_flag.set_fields(load_config("attention_distill", None), [f"{field}=None"])


def test_what_changes_with_the_length_is_said(monkeypatch, capsys):
    loader = types.SimpleNamespace(parse=lambda path: load_config("attention_distill", None))
    monkeypatch.setattr("sys.argv", ["main", "--config.steps", "90"])
    made = config_flag._ConfigFile(loader).parse("attention_distill")
    assert (made.steps, made.epochs, made.optim.warmup_steps) == (90, None, 9)
    assert capsys.readouterr().err == (
        "note: --config.steps=90: epochs=200.0 → None, optim.warmup_epochs=20.0 → "
        "optim.warmup_steps=9\n"
    )
    # What the field's own flag refuses is its to tell.
    for text in ("3.5", "some", "None", "-4"):
        monkeypatch.setattr("sys.argv", ["main", f"--config.steps={text}"])
        assert config_flag._ConfigFile(loader).parse("attention_distill").epochs == 200.0
    assert capsys.readouterr().err == ""

"""Steps for epochs and back, and what a warm-up becomes with them."""

import subprocess
import sys

import pytest

from tests.runs import ROOT
from vit_jax_xfer.config import default_config
from vit_jax_xfer.run_length import set_length


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


# One process for all of it: (what is given, what config.FIELD then is).
COMMANDS = """
import sys
from absl import flags
from vit_jax_xfer import command_line

command_line.config_flag()
for line in sys.argv[2:]:
    given, _, field = line.partition(" -> ")
    for name in [name for name in flags.FLAGS if name.startswith("config.")]:
        delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()
    sys.argv = ["main", sys.argv[1], *given.split()]
    try:
        command_line.parse_flags(sys.argv)
    except SystemExit:
        continue
    value = flags.FLAGS["config"].value
    for part in field.split("."):
        value = value[part]
    print(repr(value))
"""


def test_the_command_line_sets_lengths_and_unsets_fields():
    config_file = f"--config={ROOT / 'configs' / 'attention_distill.py'}"
    lines = [
        "--config.steps=90 -> epochs",
        "--config.steps=90 -> optim.warmup_epochs",
        "--config.steps 90 -> optim.warmup_steps",
        "--config.steps=90 --config.epochs=2 -> epochs",
        "--config.steps=90 --config.epochs=None -> optim.warmup_epochs",
        "--config.task.layers=None -> task.layers",
        "--config.model.conv_blocks=None -> model.conv_blocks",
        "--config.optim.warmup_epochs=None -> optim.warmup_epochs",
        "--config.model.name=None -> model.name",
        "--config.batch_size=None -> batch_size",
    ]
    command = [sys.executable, "-c", COMMANDS, config_file, *lines]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert ended.stdout.split() == ["None", "None", "9", "2.0", "20.0", "None", "None", "None"]
    notes = [line for line in ended.stderr.splitlines() if line.startswith("note: ")]
    assert notes[0] == (
        "note: --config.steps=90: epochs=200.0 → None, optim.warmup_epochs=20.0 → "
        "optim.warmup_steps=9"
    )
    assert len(notes) == 3
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert errors == [
        f"error: flag --config.{field}=None: it can't be unset"
        for field in ("model.name", "batch_size")
    ]

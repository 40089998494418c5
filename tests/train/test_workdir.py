"""The folder of a run: what may change between two starts, and what a newer version may add."""

import json

import pytest

from tests.runs import load_config
from vit_jax_xfer.train.workdir import check_workdir, claim_workdir


@pytest.fixture
def run(tmp_path):
    """(folder, config) of a run with a checkpoint."""
    config = load_config("scratch")
    claim_workdir(tmp_path / "run", config)
    (tmp_path / "run" / "checkpoints").mkdir()
    return tmp_path / "run", config


def forget(folder, section, field):
    """As a version without this field would have written the config."""
    path = folder / "config.json"
    stored = json.loads(path.read_text())
    del stored[section][field]
    path.write_text(json.dumps(stored))


def test_a_run_of_a_version_with_fewer_fields_goes_on(run):
    folder, config = run
    for section, field in (("data", "classes"), ("optim", "decay_rules"), ("model", "drop_path")):
        forget(folder, section, field)
    assert check_workdir(str(folder), config) == folder


def test_but_not_with_the_new_field_in_use(run):
    folder, config = run
    forget(folder, "data", "classes")
    config.data.classes = "3,5"
    with pytest.raises(ValueError, match="other settings .data.classes: None → '3,5'"):
        check_workdir(str(folder), config)

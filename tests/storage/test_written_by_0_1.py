"""What version 0.1 wrote still loads and goes on: models, and runs that stopped at step 2 of 4.

The archive is made by 0.1 itself and is never written again by newer code. Left out of it are
only the data files of Orbax that nothing refers to.
"""

import json
import pathlib
import tarfile

import jax
import numpy as np
import pytest

import vit_jax_xfer as vjx
from tests.runs import rows, tiny_config
from vit_jax_xfer.storage.checkpoints import load_model
from vit_jax_xfer.train import loop

ARCHIVE = pathlib.Path(__file__).with_name("written_by_0_1.tar.gz")
# How the runs were started; their sizes are those of `tests.runs.TINY` at that time.
FIELDS = {
    "steps": 4,
    "checkpoint__every": 2,
    "checkpoint__keep_last": 9,
    "batch_size": 8,
    "eval__split": "test[:16]",
    "eval__batch_size": 16,
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder that the archive holds."""
    folder = tmp_path_factory.mktemp("written")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "written_by_0_1"


@pytest.mark.parametrize("name", ["scratch", "scratch_ema", "masked_pretraining", "convex_lift"])
def test_a_model_folder_loads_with_all_its_arrays(written, name):
    model, variables = vjx.load_pretrained(written / "models" / name)
    stored, description = load_model(written / "models" / name)
    assert type(model).__name__ == description["class"]
    jax.tree.map(np.testing.assert_array_equal, variables, stored)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}


def test_a_checkpoint_without_a_description_says_what_to_do(written):
    with pytest.raises(ValueError, match="checkpoints/2: version 0.1 .* start the run's command"):
        vjx.load_pretrained(written / "scratch" / "checkpoints" / "2")


@pytest.mark.parametrize(
    ("name", "fields"),
    [("scratch", {"optim__ema": 0.9}), ("attention_distill", {"task__teacher": "models/scratch"})],
)
def test_a_stopped_run_goes_on_as_it_would_have(written, name, fields, capsys):
    if "task__teacher" in fields:
        fields = {"task__teacher": str(written / fields["task__teacher"])}
    result = loop.run(tiny_config(name, **FIELDS, **fields), written / name)
    assert result["finished"] and result["step"] == 4
    assert "resuming at step 2" in capsys.readouterr().out
    found = {(step, kind): values for step, kind, values in rows(written / name)}
    expected = json.loads((written / "expected.json").read_text())[name]
    assert found.keys() == {(row["step"], row["kind"]) for row in expected}
    for row in expected:
        values = found[row["step"], row["kind"]]
        # A newer version may write more of a step, never less.
        same = {name: values[name] for name in row["values"]}
        assert same == pytest.approx(row["values"], abs=1e-5), (row["step"], row["kind"])
    # The description that version 0.1 did not write is now that of the finished model beside it.
    model, _ = vjx.load_pretrained(written / name / "checkpoints" / "2")
    assert model == vjx.load_pretrained(written / name / "model")[0]

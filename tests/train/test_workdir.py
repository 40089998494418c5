"""The folder of a run: what may change between two starts, and what a newer version may add."""

import json

import pytest

from tests.runs import load_config
from vit_jax_xfer.train.workdir import check_workdir, claim_workdir

# Fields that came after the first run folders, off by default.
NEWER = [
    "mesh.slices",
    "task.teacher_dtype",
    "task.match_layers",
    "task.match_heads",
    "task.tokens",
    "task.teacher_image_size",
    "data.classes",
    "optim.decay_rules",
    "optim.accumulate",
    "model.drop_path",
    "eval.benchmarks",
]


@pytest.fixture
def run(tmp_path):
    """(folder, config) of a run with a checkpoint."""
    config = load_config("attention_distill")
    claim_workdir(tmp_path / "run", config)
    (tmp_path / "run" / "checkpoints").mkdir()
    return tmp_path / "run", config


def forget(folder, *fields):
    """As a version without these fields would have written the config."""
    path = folder / "config.json"
    stored = json.loads(path.read_text())
    for field in fields:
        section, name = field.split(".")
        del stored[section][name]
    path.write_text(json.dumps(stored))


def test_a_run_of_a_version_with_fewer_fields_goes_on(run, capsys):
    folder, config = run
    forget(folder, *NEWER)
    assert check_workdir(str(folder), config) == folder
    assert capsys.readouterr().out == ""  # nothing has changed


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("data.classes", "3,5"),
        ("task.teacher_dtype", "bfloat16"),
        ("task.tokens", "common"),
        ("optim.accumulate", 2),
    ],
)
def test_but_not_with_the_new_field_in_use(run, field, value):
    folder, config = run
    forget(folder, field)
    section, name = field.split(".")
    config[section][name] = value
    with pytest.raises(ValueError, match=f"other settings .{field}: None → {value!r}"):
        check_workdir(str(folder), config)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("data.threads", 5),
        ("data.workers", 3),
        ("data.max_broken", 99),
        ("optim.skip_nonfinite", True),
        ("task.teacher", "moved/model"),  # known by its fingerprint
    ],
)
def test_what_changes_no_number_may_be_otherwise(run, field, value, capsys):
    folder, config = run
    section, name = field.split(".")
    config[section][name] = value
    assert check_workdir(str(folder), config) == folder
    assert f"resuming with changed settings: {field}: " in capsys.readouterr().out


def test_a_new_field_that_may_differ_is_told(run, capsys):
    folder, config = run
    forget(folder, "mesh.slices")
    config.mesh.slices = 2
    assert check_workdir(str(folder), config) == folder
    assert "mesh.slices: None → 2" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"{", b"\xa0", b"[" * 10_000])
def test_a_damaged_config_is_named(content, run):
    folder, config = run
    (folder / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match="config.json is damaged .*; put a whole one back"):
        check_workdir(str(folder), config)


@pytest.mark.parametrize("workdir", ["gs://bucket/run", "s3://bucket/run", "file:///tmp/run"])
def test_an_address_is_not_taken_for_a_folder(workdir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"workdir: {workdir} is no folder; .* mount"):
        check_workdir(workdir, load_config("scratch"))
    assert not list(tmp_path.iterdir())


FOREIGN = {
    "config.json": ({"config.json": '{"a": 1}'}, "config.json is not a run's"),
    "a list": ({"config.json": "[]"}, "config.json is not a run's"),
    "no config.json": ({"result.json": '{"a": 1}'}, "holds result.json but no config.json"),
    "result.json": ({"claimed": "", "result.json": '{"a": 1}'}, "result.json is not a run's"),
    "a list of results": ({"claimed": "", "result.json": "[1]"}, "result.json is not a run's"),
    "half a result": ({"claimed": "", "result.json": '{"fini'}, "result.json is not a run's"),
    "model": ({"claimed": "", "model/weights.bin": "x"}, "model is no model of a run"),
    "no checkpoint": (
        {"claimed": "", "model/model.json": "{}", "model/variables/x": ""},
        "a finished model and no checkpoint to go on from",
    ),
}


@pytest.mark.parametrize(("workdir", "says"), [(" ", "expected a folder"), ("x" * 300, "too long")])
def test_no_folders_name(workdir, says):
    with pytest.raises(ValueError, match=f"^workdir: .*{says}"):
        check_workdir(workdir, load_config("scratch"))


@pytest.mark.parametrize(("files", "message"), FOREIGN.values(), ids=FOREIGN)
def test_what_is_not_this_runs_is_not_written_over(files, message, tmp_path):
    config = load_config("scratch")
    if "claimed" in files:
        claim_workdir(tmp_path, config)
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with pytest.raises(ValueError, match=f"^workdir: .*{message}"):
        check_workdir(str(tmp_path), config)
    assert all((tmp_path / name).read_text() == text for name, text in files.items())


def test_a_result_alone_is_a_run_to_be_kept(tmp_path):
    """As an ensemble leaves, which has no checkpoint and no model."""
    config = load_config("ensemble")
    claim_workdir(tmp_path, config)
    (tmp_path / "result.json").write_text('{"finished": true, "metrics": {}}')
    assert check_workdir(str(tmp_path), config) == tmp_path
    with pytest.raises(ValueError, match="workdir: .* other settings .batch_size"):
        check_workdir(str(tmp_path), load_config("scratch"))
    stored = json.loads((tmp_path / "config.json").read_text())
    stored["model"] = {"name": "vit_large_patch16", "pool": "avg"}  # as earlier versions had it
    (tmp_path / "config.json").write_text(json.dumps(stored))
    assert check_workdir(str(tmp_path), config) == tmp_path
    other = load_config("ensemble")
    other.task.members = ("runs/a", "runs/b")
    with pytest.raises(ValueError, match="workdir: .* other settings .task.members"):
        check_workdir(str(tmp_path), other)
    (tmp_path / "result.json").write_text("")  # a power cut emptied it
    assert check_workdir(str(tmp_path), load_config("scratch")) == tmp_path

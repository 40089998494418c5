"""What a config's fields may be replaced by, from a file and from a command line."""

import jax
import pytest
from ml_collections import ConfigDict

from tests.runs import CONFIGS, load_config
from vit_jax_xfer.command_line.config_flag import set_fields
from vit_jax_xfer.config import (
    add_evaluation_set,
    check_complete,
    default_config,
    model_config,
    task_config,
)
from vit_jax_xfer.experiments import config_files
from vit_jax_xfer.tasks.build import TASKS
from vit_jax_xfer.train.loop import run
from vit_jax_xfer.train.run_plan import compile_planned


def test_a_field_without_a_value_has_its_declared_type():
    """A command line can't override what it knows no type of."""
    config = task_config("attention_transfer")
    assert {config.get_type(field) for field in ("layers", "heads", "teacher_mean")} == {tuple}
    assert (config.layers, config.get_type("teacher")) == (None, str)
    config.layers = (0, 2)
    assert task_config("attention_transfer", layers=(1,)).layers == (1,)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_field_that_a_variant_has_made_none_can_be_set_again(name):
    """As `task.layers`, which is full size's alone."""
    config = load_config(name)
    sections = {"": config, **{f"{key}.": config[key] for key in ("task", "model", "optim")}}
    unknown = [
        prefix + field
        for prefix, section in sections.items()
        for field in section
        if section.get_type(field) is type(None)
    ]
    assert not unknown
    if "layers" in config.task:
        set_fields(config, ["task.layers=(0, 1)"])
        assert config.task.layers == (0, 1)


def test_a_field_of_two_types_takes_both():
    config = task_config("attention_transfer", match_layers=(3,))
    assert config.match_layers == (3,)
    for value in ("even", (1, 0)):
        config.match_layers = value
        assert config.match_layers == value
    assert config.get_type("match_layers") is object


def test_parts_of_a_student_like_its_teacher():
    config = default_config("attention_transfer", "student_like", settings={}, parts=("rotary",))
    assert (config.model.name, config.model.parts) == ("student_like", ("rotary",))
    # Any config of a plain student turns to one by the name alone.
    config = default_config("attention_transfer", "vit_micro_patch2", settings={})
    for parts in ("", ("layer_scale", "registers"), "registers", None):
        config.model.parts = parts
        assert config.model.parts == parts
    assert "parts" not in model_config("mae_vit_micro_patch2")
    with pytest.raises(ValueError, match="has no field 'decoder_width'"):
        model_config("student_like", decoder_width=3)


def test_a_task_with_a_network_of_its_own_is_told_its_name():
    for task in set(TASKS) - {"ensemble"}:
        with pytest.raises(ValueError, match=f"^model: the task {task} has a network of its own"):
            default_config(task, "", settings={})
    assert default_config("ensemble", "", settings={}).steps == 0


def _lacks_rates(config):
    config.optim = ConfigDict({"lr": 1.0})


def _has_no_mesh(config):
    del config["mesh"]


def _names_a_rate_otherwise(config):
    config.optim.learning_rate = 1.0


def _has_a_number_for_a_section(config):
    del config["data"]
    config["data"] = 3


def _has_a_number_for_all_sets(config):
    del config["eval"]
    config["eval"] = 3


def _lacks_a_field_of_a_set(config):
    add_evaluation_set(config, "seen")
    del config.eval.sets.seen["split"]


@pytest.mark.parametrize(
    "change, words",
    [
        (_lacks_rates, r"config\.optim\.accumulate, config\.optim\.b1, .* and \d+ more: missing"),
        (_has_no_mesh, r"config\.mesh: missing; a config begins as default_config\(\)"),
        (_names_a_rate_otherwise, r"no field config\.optim\.learning_rate; .*config\.optim\.lr\?"),
        (_has_a_number_for_a_section, r"config\.data: expected a section, got 3"),
        (_has_a_number_for_all_sets, r"config\.eval: expected a section, got 3"),
        (_lacks_a_field_of_a_set, r"config\.eval\.sets\.seen\.split: missing"),
    ],
)
def test_a_config_that_is_not_whole_is_refused(change, words, tmp_path):
    """From a file of one's own, and from Python: by the loop and by the plan."""
    config = default_config("classification", "vit_micro_patch2", settings={})
    check_complete(config)
    with config.unlocked():
        change(config)
    with pytest.raises(ValueError, match=words):
        run(config, tmp_path / "run")
    with pytest.raises(ValueError, match=words):
        compile_planned(config, jax.devices())


def test_a_file_that_returns_no_config_is_told_so(tmp_path):
    (tmp_path / "mine.py").write_text("def get_config(argument=None):\n    pass\n")
    with pytest.raises(ValueError, match="expected a config, a ConfigDict, got None"):
        config_files.load_config(str(tmp_path / "mine.py"))


@pytest.mark.parametrize(
    "field, fix",
    [
        ("model=vit_base_patch16", "config.model.name"),
        ("optim=3", "config.optim.name"),
        ("optim={'lr': 1.0}", "config.optim.name"),
        ("checkpoint=2", "config.checkpoint.best_metric"),
        ("eval.sets={}", "config.eval.sets.NAME.split"),
    ],
)
def test_a_section_is_not_set_whole(field, fix):
    config = default_config("classification", "vit_micro_patch2", settings={})
    before = config.to_json_best_effort()
    with pytest.raises(ValueError, match=f"is a section; its fields are .* as in {fix}$"):
        set_fields(config, [field])
    assert config.to_json_best_effort() == before

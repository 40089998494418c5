"""What a config's fields may be replaced by, from a file and from a command line."""

import pytest

from tests.runs import CONFIGS, load_config
from vit_jax_xfer.command_line.config_flag import set_fields
from vit_jax_xfer.config import default_config, model_config, task_config
from vit_jax_xfer.tasks.build import TASKS


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

"""Arms by name: their settings, their order, and what is refused."""

import pathlib

import pytest

from vit_jax_xfer.compare.arms import KINDS, Arm, parse_arms
from vit_jax_xfer.experiments.config_files import config_names


def test_arms_stand_as_given_but_those_that_need_others_come_last():
    arms = parse_arms("ensemble, scratch,distill:mode=distill_q:layers=(0, 1),finetune,copy")
    assert arms == (
        Arm("scratch"),
        Arm("distill", ("mode=distill_q", "layers=(0, 1)")),
        Arm("finetune"),
        Arm("copy"),
        Arm("ensemble"),
    )


def test_every_kind_is_a_config_that_there_is():
    assert {kind.config for kind in KINDS.values()} <= set(config_names())
    assert all(set(kind.after) <= set(KINDS) for kind in KINDS.values())


def test_folders_have_names_that_any_system_takes_and_quickstarts_of_old():
    root = pathlib.Path("runs")
    assert Arm("finetune").folder(root, 0) == root / "fine-tune_seed0"
    assert Arm("copy").folder(root, 1) == root / "attention_copy_seed1"
    with_settings = Arm("distill", ("mode=distill_q", "layers=(0, 1)"))
    name = with_settings.folder(root, 2).name
    assert name == "attention_distill_mode=distill_q_layers=_0__1__seed2"


@pytest.mark.parametrize(
    "text, said",
    [
        ("scratch,attention_copy", "'attention_copy' is none of .*; did you mean 'copy'?"),
        ("fine-tune", "did you mean 'finetune'?"),
        ("nothing_of_this", "'nothing_of_this' is none of scratch, finetune, "),
        ("scratch,scratch", "'scratch' stands there twice"),
        (
            "distill:layers=(0,1),distill:layers=[0,1]",
            r"distill layers=\[0,1\]' would have one folder for both",
        ),
        ("distill,ensemble", "ensemble needs the models of finetune; add that arm"),
        ("logit_distill", "logit_distill needs the models of finetune"),
        ("distill:distill_q", "'distill:distill_q': 'distill_q' is no FIELD=VALUE"),
        ("", "'' is none of"),
    ],
)
def test_what_is_no_arm_is_refused(text, said):
    with pytest.raises(ValueError, match=f"^--arms: .*{said}"):
        parse_arms(text)

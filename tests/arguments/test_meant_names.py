"""Wrong names of fields: what they stand for."""

import pytest

from tests.runs import load_config
from vit_jax_xfer.arguments.meant_names import SYNONYMS
from vit_jax_xfer.config import check_field, field_names, task_config
from vit_jax_xfer.models.registry import create_model, network_classes


@pytest.fixture(scope="module")
def config():
    return load_config("attention_distill")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("optim.learning_rate", "optim.lr"),
        ("learning_rate", "optim.lr"),
        ("num_epochs", "epochs"),
        ("n_epochs", "epochs"),
        ("max_steps", "steps"),
        ("optim.lr_scheduler", "optim.cosine_from"),
        ("optim.warmup", "optim.warmup_epochs"),
        ("batch", "batch_size"),
        ("weight_decay", "optim.weight_decay"),
        ("optim.betas", "optim.b1"),
        ("max_grad_norm", "optim.clip_norm"),
        ("gradient-accumulation-steps", "optim.accumulate"),
        ("model.img_size", "model.image_size"),
        ("model.embed_dim", "model.width"),
        ("model.drop_path_rate", "model.drop_path"),
        ("model.pretrained", "init_from"),
        ("task.teacher_path", "task.teacher"),
        ("task.smoothing", "task.label_smoothing"),
        # Spelling.
        ("optim.lrr", "optim.lr"),
        ("task.mod", "task.mode"),
        ("eval.splt", "eval.split"),
    ],
)
def test_a_wrong_field_of_a_config(typed, meant, config):
    with pytest.raises(ValueError) as error:
        check_field(config, typed)
    assert str(error.value) == f"there is no field config.{typed}; did you mean config.{meant}?"


def test_a_field_of_another_task_is_told_by_whose_it_is(config):
    with pytest.raises(ValueError, match="no field config.task.mask_ratio in a config of the task "
                       "attention_transfer; choose one of masked_pretraining$"):  # fmt: skip
        check_field(config, "task.mask_ratio")


def test_every_meaning_is_a_field_of_something(config):
    known = set(field_names(config)) | {"model.dropout", "task.temperature", "task.mask_ratio"}
    known |= {field for kind in network_classes().values() for field in kind.keywords()}
    assert {name for names in SYNONYMS.values() for name in names} <= known


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("img_size", "did you mean 'image_size'?"),
        ("drop_path_rate", "did you mean 'drop_path'?"),
        ("reg_tokens", "did you mean 'registers'?"),
        ("widht", "did you mean 'width'?"),
        ("pretrained", "vjx.load_pretrained(FILE, or 'hf:ORG/NAME') gives it with them"),
    ],
)
def test_a_wrong_keyword_of_a_network(field, said):
    with pytest.raises(ValueError) as error:
        create_model("vit_tiny_patch16", **{field: 1})
    assert str(error.value).startswith(f"VisionTransformer has no field {field!r}; ")
    assert str(error.value).endswith(said)


def test_a_wrong_setting_of_a_task():
    with pytest.raises(ValueError, match="did you mean 'label_smoothing'"):
        task_config("classification", smoothing=0.1)

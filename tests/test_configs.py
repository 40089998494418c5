"""Every file of configs/: complete, locked, sane at full size and in each small variant."""

import json
import re

import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.runs import CONFIGS, FILTERS, UPSAMPLERS, load_config
from vit_jax_xfer import data
from vit_jax_xfer.config import check_field, default_config, field_names
from vit_jax_xfer.experiments.config_files import config_names
from vit_jax_xfer.experiments.variants import VARIANTS, parse_arg
from vit_jax_xfer.tasks.build import build_model, task_settings
from vit_jax_xfer.train.run_checks import check_batch_sizes
from vit_jax_xfer.train.schedule import learning_rates, make_run_schedule
from vit_jax_xfer.train.sharding import make_mesh

SIDES = {"": (500, 375), "digits": (8, 8), "fashion": (28, 28), "cifar10": (32, 32)}
SIZES = {"": 1_281_167, "digits": 1297, "fashion": 60_000, "cifar10": 50_000}


@pytest.mark.parametrize("variant", ["", *VARIANTS])
@pytest.mark.parametrize("name", CONFIGS)
def test_variant_is_complete_and_fits_together(name, variant):
    config = load_config(name, variant)
    assert config.is_locked
    check_batch_sizes(make_mesh(8, 1, 1), config)
    task_settings(config.task)
    run_schedule = make_run_schedule(config, SIZES[variant] / config.batch_size)
    assert name == "ensemble" or run_schedule.total_steps >= 800
    peak, end = learning_rates(config)
    assert 0 <= end <= peak <= (6.4 if config.optim.name == "lars" else 0.02)
    example = {"image": np.zeros((*SIDES[variant], 3), np.uint8), "label": 0}
    shapes = set()
    for pipeline in (config.data.pipeline, config.eval.pipeline):
        prepared = data.parse_pipeline(pipeline)(example, np.random.default_rng(0))
        shapes.add(prepared["image"].shape)
    (shape,) = shapes
    if name in UPSAMPLERS:  # whose backbone has the variant's patches
        patch = VARIANTS[variant].patch_size if variant else 16
        assert shape[0] == shape[1] and shape[0] % (4 * patch) == 0
        return
    if name == "ensemble":  # whose networks are its members'
        assert config.model.to_dict() == {"name": ""}
        return
    model = build_model(config.model, shape, 10)
    vit = getattr(model, "encoder", model)
    if name in FILTERS:
        assert vit.num_tokens(shape) == ((shape[0] - 5) // 2 + 1) ** 2
    else:
        assert vit.num_tokens(shape) == vit.prefix_tokens + (shape[0] // vit.patch_size) ** 2
    assert json.loads(config.to_json())["task"]["name"] == config.task.name


def test_full_recipes_are_the_published_ones():
    distill, copy = load_config("attention_distill", ""), load_config("attention_copy", "")
    assert learning_rates(distill) == (pytest.approx(8e-4), 1e-6)
    assert learning_rates(copy) == (pytest.approx(8e-3), 2e-3)
    assert tuple(distill.task.layers) == tuple(range(18)) and copy.task.layers is None
    assert learning_rates(load_config("finetune", "")) == (pytest.approx(4e-3), 1e-6)


def test_filter_recipe_is_the_published_one():
    for name, choose in (("filter_vit", "score"), ("dropout_vit", "random")):
        config = load_config(name, "xs,subset=3")
        assert learning_rates(config) == (5e-4, 1e-5)
        assert (config.epochs, config.batch_size, config.optim.weight_decay) == (120, 64, 0.01)
        assert config.data.classes == "imagenet100/3"
        assert "trivial_augment" in config.data.pipeline
        run_schedule = make_run_schedule(config, 128_000 / 64)
        assert (run_schedule.total_steps, run_schedule.warmup_steps) == (240_000, 2000)
        model = build_model(config.model, (224, 224, 3), 100)
        assert (model.choose, len(model.stages), model.stem_width) == (choose, 8, 64)
        assert load_config(name, "xs,subset=0").data.classes == ""
    assert load_config("filter_vit", "s2").model.name == "filter_vit_s2"
    with pytest.raises(ValueError, match="config argument 'xxs' is none of xs, digits, fashion"):
        load_config("dropout_vit", "xxs")


def test_arguments_of_a_config():
    config = load_config("attention_distill", "digits,labels=20,seed=4,unlabeled=1")
    assert (config.data.per_class, config.data.subset_seed, config.seed) == (20, 4, 4)
    assert (config.unlabeled.source, config.unlabeled.batch_size) == ("digits", config.batch_size)
    assert load_config("scratch", None).data.source == load_config("scratch", "").data.source
    assert load_config("finetuned_teacher", "").task.teacher.endswith(".pth")


@pytest.mark.parametrize("arg", ["digit", "digits,label=3", "labels", "labels=x", "unlabeled=1"])
def test_wrong_arguments_are_errors(arg):
    with pytest.raises(ValueError, match="config argument .* is none of digits, fashion"):
        parse_arg(arg, labels=5)


@pytest.mark.parametrize("name", config_names())
def test_no_number_of_an_argument_is_passed_over(name):
    """In each of a config's forms a number changes something, or is refused with what does."""
    with pytest.raises(ValueError, match="is none of ") as raised:
        load_config(name, "?")
    known = str(raised.value).partition("is none of ")[2].split(", ")
    numbers = [one.removesuffix("=N") for one in known if one.endswith("=N")]
    forms = ["", *(one for one in known if one.isidentifier())]
    assert len(forms) > 1
    for form in forms:
        plain = load_config(name, form)
        for number in numbers:
            value = 2019 if number == "inaturalist" else 3
            try:
                config = load_config(name, ",".join([*filter(None, [form]), f"{number}={value}"]))
            except ValueError as error:
                assert re.search(rf"^config argument .*{number}.*: .*of ", str(error)), error
            else:
                assert config.to_dict() != plain.to_dict(), f"{name}:{form},{number}"


def test_a_number_that_is_not_for_a_form_is_refused_with_the_field_that_does_it():
    with pytest.raises(
        ValueError, match="labels=3: of digits, fashion, cifar10 alone; .*per_class"
    ):
        load_config("scratch", "base,labels=3")
    with pytest.raises(
        ValueError, match=r"epochs=3: of the full size \(small, base, large, huge\)"
    ):
        load_config("deit3", "base224,epochs=3")
    assert load_config("scratch", "labels=0").to_dict() == load_config("scratch", "").to_dict()
    assert [load_config(f"{kind}_distill", "seed=3").seed for kind in ("logit", "feature")] == [
        3,
        3,
    ]
    few = load_config("filter_vit", "xs,labels=3,seed=4")
    assert (few.data.per_class, few.data.subset_seed, few.seed) == (3, 4, 4)


@pytest.mark.parametrize("field", ["optim.learning_rate", "task.mode", "stepz"])
def test_a_locked_config_takes_no_other_field(field):
    with pytest.raises((AttributeError, KeyError)):
        load_config("scratch").update_from_flattened_dict({field: 1})


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("optim.lrr", "optim.lr"),
        ("optm.lr", "optim.lr"),
        ("lr", "optim.lr"),
        ("task.lable", "task.label_smoothing"),
        ("batchsize", "batch_size"),
        ("model.depht", "model.depth"),
        ("log.tensorbord", "log.tensorboard"),
    ],
)
def test_the_nearest_field_is_named(typed, meant):
    with pytest.raises(
        ValueError, match=rf"no field config.{typed}; did you mean config.{meant}\?"
    ):
        check_field(load_config("scratch"), typed)


def test_every_field_is_known_under_its_name():
    config = load_config("attention_distill")
    for name in field_names(config):
        check_field(config, name)
    assert {"task.layers", "model.drop_path", "mesh", "steps"} < set(field_names(config))


def test_unknown_names_in_a_config_file():
    with pytest.raises(ValueError, match="task.name: 'classify' is none of classification"):
        default_config("classify", "vit_micro_patch2", settings={})
    with pytest.raises(ValueError, match="'vit_micro_patch2' has no field 'widht'"):
        default_config("classification", "vit_micro_patch2", settings={}, widht=3)
    with pytest.raises(ValueError, match="none has no such field|no such field"):
        task_settings(ConfigDict({"name": "classification", "mode": "copy"}))


def test_none_on_a_command_line_is_none():
    # What `--config.task.layers=None` makes of a field that the config file gives as a tuple.
    given = {"name": "attention_transfer", "layers": (None,), "heads": (1, 2)}
    settings = task_settings(ConfigDict(given))
    assert (settings.transfer.layers, settings.transfer.heads) == (None, (1, 2))

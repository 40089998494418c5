"""Each published config at its real values: two steps on one device and on eight, the same losses.

Only the network, the images and the batch are small, and the arithmetic is float32. The numbers
that one could mistype stand in a table here, with where they are from.
"""

import re
from typing import NamedTuple

import jax
import numpy as np
import optax
import pytest

import vit_jax_xfer as vjx
from tests.runs import CONFIGS, load_config, one_device_mesh
from vit_jax_xfer import data
from vit_jax_xfer.tasks.build import build_model, build_task, task_settings
from vit_jax_xfer.train.compile import trace_step
from vit_jax_xfer.train.inputs import open_inputs
from vit_jax_xfer.train.optimizer import DECAY_RULES
from vit_jax_xfer.train.rules import Rules
from vit_jax_xfer.train.schedule import learning_rates, make_run_schedule
from vit_jax_xfer.train.sharding import frozen_shardings, make_mesh, place, to_device
from vit_jax_xfer.train.state import step_key

IMAGENET, A_HUNDREDTH = 1_281_167, 128_000
YEARS = {"2017": 579_184, "2018": 437_513}  # of 2019 only the sum with val is published
# What trains nothing of its own, and LiFT's, whose published numbers tests/test_configs.py has.
OTHERS = {"ensemble", "lift", "convex_lift"}


class Recipe(NamedTuple):
    """Published numbers: rates, steps with those of the warm-up, and what the images go through.

    group: images that are mixed together. decayed: tokens and tables that weight decay takes.
    """

    peak: float
    end: float
    steps: int
    warmup: int
    weight_decay: float
    drop_path: float = 0.0
    group: int = 32
    pixels: int = 224
    augment: str = "rand-m9-mstd0.5-inc1"
    erasing: bool = True
    smoothing: float = 0.1
    repeats: int = 1
    decayed: tuple[str, ...] = ()
    boxes: str = "timm_0_3_2"


DEIT = {"weight_decay": 0.05, "drop_path": 0.1, "repeats": 3}
DEIT3 = {"augment": "three_augment", "erasing": False, "smoothing": 0.0, "repeats": 3}
DEIT3_224 = {"erasing": False}
PLAIN = {"augment": "flip", "erasing": False, "smoothing": 0.0, "group": 0}
TOKENS = {**PLAIN, "decayed": ("cls_token", "mask_token")}
EVERYTHING = {**PLAIN, "augment": "trivial_augment"}
EVERYTHING |= {"decayed": ("stem/norm/scale", "stem/conv/bias", "head/bias")}
# Sources: MAE's FINETUNE.md, PRETRAIN.md and issue 41; attention-transfer's README; README_deit.md
# and README_revenge.md; FilterViT's scripts. Steps are epochs × images / batch.
RECIPES = {
    "scratch": Recipe(1.6e-3, 1e-6, 93_835, 6256, 0.3, 0.2, 64, erasing=False),
    "scratch:inaturalist=2018": Recipe(1.6e-3, 1e-6, 32_044, 2136, 0.3, 0.2, 64, erasing=False),
    "scratch:base": Recipe(1.6e-3, 1e-6, 93_835, 6256, 0.3, 0.1, 64, erasing=False),
    "finetune": Recipe(4e-3, 1e-6, 62_557, 6256, 0.05, 0.2),
    "finetune:base": Recipe(2e-3, 1e-6, 125_114, 6256, 0.05, 0.1),
    "finetune:inaturalist=2018": Recipe(4e-3, 1e-6, 21_363, 2136, 0.05, 0.2),
    "finetune:base,inaturalist=2017": Recipe(2e-3, 1e-6, 56_561, 2828, 0.05, 0.1),
    "finetune:huge": Recipe(4e-3, 1e-6, 62_557, 6256, 0.05, 0.3, 16),
    "attention_copy": Recipe(8e-3, 2e-3, 62_557, 3128, 0.05),
    "attention_copy:inaturalist=2017": Recipe(8e-3, 2e-3, 28_280, 1414, 0.05),
    "attention_copy:published=1": Recipe(8e-3, 2e-3, 62_557, 3128, 0.05),
    "attention_distill": Recipe(8e-4, 1e-6, 125_114, 12_511, 0.3, 0.2),
    "attention_distill:inaturalist=2018": Recipe(8e-4, 1e-6, 42_726, 4273, 0.3, 0.2),
    "attention_distill:published=1": Recipe(8e-4, 1e-6, 125_114, 12_511, 0.3, 0.2),
    "finetuned_teacher": Recipe(8e-4, 1e-6, 125_114, 12_511, 0.3, 0.2),
    "feature_distill": Recipe(8e-4, 1e-6, 125_114, 12_511, 0.3, 0.2),
    "logit_distill": Recipe(8e-4, 1e-6, 125_114, 12_511, 0.3, 0.2),
    "masked_pretraining": Recipe(2.4e-3, 0.0, 250_228, 12_511, 0.05, **TOKENS),
    "masked_pretraining:base,epochs=400": Recipe(2.4e-3, 0.0, 125_114, 12_511, 0.05, **TOKENS),
    "masked_pretraining:huge,epochs=1600": Recipe(2.4e-3, 0.0, 500_456, 12_511, 0.05, **TOKENS),
    "linear_probe": Recipe(6.4, 0.0, 3910, 782, 0.0, **PLAIN),
    "linear_probe:base": Recipe(6.4, 0.0, 7038, 782, 0.0, **PLAIN),
    "linear_probe:adamw": Recipe(1.6e-3, 0.0, 28_151, 3128, 0.0, **PLAIN),
    "linear_probe:huge": Recipe(6.4, 0.0, 3910, 782, 0.0, **PLAIN),
    "deit": Recipe(1e-3, 1e-5, 375_342, 6256, group=64, **DEIT),
    "deit:tiny": Recipe(1e-3, 1e-5, 375_342, 6256, group=256, **DEIT),
    "deit:small": Recipe(1e-3, 1e-5, 375_342, 6256, group=256, **DEIT),
    "deit:base384": Recipe(5e-6, 5e-6, 75_068, 12_511, 1e-8, 0.1, 32, 384, repeats=3),
    "deit3": Recipe(3e-3, 1e-5, 500_456, 3128, 0.05, 0.2, 256, 192, **DEIT3),
    "deit3:small,epochs=400": Recipe(4e-3, 1e-5, 250_228, 3128, 0.05, 0.05, 256, **DEIT3),
    "deit3:large,src=1": Recipe(3e-3, 1e-5, 500_456, 3128, 0.05, 0.45, 64, 192, **DEIT3),
    "deit3:huge": Recipe(3e-3, 1e-5, 500_456, 3128, 0.05, 0.6, 64, 160, **DEIT3),
    "deit3:base224": Recipe(1e-5, 1e-5, 50_046, 12_511, 0.1, 0.2, 64, **DEIT3_224),
    "deit3:large224": Recipe(1e-5, 1e-5, 50_046, 12_511, 0.1, 0.45, 64, **DEIT3_224),
    "deit3:huge224": Recipe(1e-5, 1e-5, 50_046, 12_511, 0.1, 0.55, 32, **DEIT3_224),
    "deit3:small384": Recipe(1e-5, 1e-5, 50_046, 12_511, 0.1, 0.0, 64, 384, **DEIT3_224),
    "filter_vit": Recipe(5e-4, 1e-5, 240_000, 2000, 0.01, **EVERYTHING),
    "filter_vit:subset=0": Recipe(5e-4, 5e-5, 5_004_559, 10_000, 1e-4, pixels=256, **EVERYTHING),
    "choice_transfer": Recipe(5e-4, 1e-5, 240_000, 2000, 0.01, **EVERYTHING),
    "choice_transfer:subset=0": Recipe(
        5e-4, 5e-5, 5_004_559, 10_000, 1e-4, pixels=256, **EVERYTHING
    ),
    "dropout_vit": Recipe(5e-4, 1e-5, 240_000, 2000, 0.01, **EVERYTHING),
    "dropout_vit:subset=0": Recipe(5e-4, 5e-5, 5_004_559, 10_000, 1e-4, pixels=256, **EVERYTHING),
}
# What of a recipe neither changes the program nor the numbers in it is not run again.
SAME_STEPS = {"deit:tiny", "deit:small", "deit3:huge", "deit3:large224", "deit3:huge224"}
SAME_STEPS |= {"linear_probe:base", "linear_probe:huge", "masked_pretraining:huge,epochs=1600"}
SAME_STEPS |= {recipe for recipe in RECIPES if "inaturalist" in recipe}
SAME_STEPS |= {"finetune:base", "finetune:huge", "finetuned_teacher", "scratch:base"}
SAME_STEPS |= {"deit3:small,epochs=400", "deit3:base224", "dropout_vit:subset=0"}
SAME_STEPS |= {"masked_pretraining:base,epochs=400"}
# filter_vit's recipe; that its teacher is the same on any mesh has test_devices.py.
SAME_STEPS |= {"choice_transfer", "choice_transfer:subset=0"}


def config_of(recipe):
    name, _, arg = recipe.partition(":")
    return load_config(name, arg)


def test_every_config_has_its_published_numbers_here():
    assert {recipe.partition(":")[0] for recipe in RECIPES} == set(CONFIGS) - OTHERS


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_numbers_are_the_published_ones(recipe):
    config, wanted = config_of(recipe), RECIPES[recipe]
    images = A_HUNDREDTH if config.data.classes else IMAGENET
    images = YEARS.get(config.data.source.partition(":")[0].removeprefix("inaturalist"), images)
    run_schedule = make_run_schedule(config, images / config.batch_size)
    assert learning_rates(config) == pytest.approx((wanted.peak, wanted.end), rel=1e-6)
    assert (run_schedule.total_steps, run_schedule.warmup_steps) == (wanted.steps, wanted.warmup)
    assert config.optim.weight_decay == wanted.weight_decay
    assert (config.model.get("drop_path") or 0.0) == wanted.drop_path
    assert config.data.repeats == wanted.repeats
    task_settings(config.task)
    rules = Rules([*config.optim.decay_rules, *DECAY_RULES], "test")
    taken = [*wanted.decayed, "head/kernel", "blocks_0/attention/qkv/kernel"]
    spared = {"cls_token", "mask_token", "pos_embed", "blocks_3/norm1/scale", "head/bias"}
    assert all(rules.of(name) for name in taken)
    assert wanted.augment == "trivial_augment" or not any(map(rules.of, spared - set(taken)))


@pytest.mark.parametrize("recipe", RECIPES)
def test_images_are_prepared_and_mixed_as_published(recipe):
    config, wanted = config_of(recipe), RECIPES[recipe]
    assert wanted.augment in config.data.pipeline
    assert ("random_erasing(0.25)" in config.data.pipeline) == wanted.erasing
    assert config.task.get("label_smoothing", 0.0) == wanted.smoothing
    for pipeline in (config.data.pipeline, config.eval.pipeline):
        assert f"({wanted.pixels}" in pipeline
    mixed = (0.8, 1.0, "batch", wanted.group, wanted.boxes, 1.0, 0.5)
    fields = ("mixup", "cutmix", "mode", "group", "boxes", "probability", "switch")
    if wanted.group:
        assert tuple(config.mix[field] for field in fields) == mixed
        assert config.batch_size % wanted.group == 0
    else:
        assert not config.mix.mixup and not config.mix.cutmix


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_network_takes_images_of_the_published_size(recipe):
    """At their real sizes: the steps below are of small networks on small images."""
    config = config_of(recipe)
    example = {"image": np.zeros((375, 500, 3), np.uint8), "label": 0}
    shapes = [
        data.parse_pipeline(section.pipeline)(example, np.random.default_rng(0))["image"].shape
        for section in (config.data, config.eval)
    ]
    model = build_model(config.model, shapes[0], 1000)
    assert {model.num_tokens(shape) for shape in shapes} == {model.num_tokens(shapes[0])}


@pytest.mark.parametrize("name", sorted({recipe.partition(":")[0] for recipe in RECIPES}))
def test_a_small_variant_has_none_of_it(name):
    small = load_config(name, "digits")
    assert not small.mix.mixup and not small.mix.cutmix and small.data.repeats == 1
    optim = small.optim
    assert (optim.name, optim.cosine_from, optim.moves) == ("adamw", "warmup", "step")
    assert (optim.warmup_from, optim.cosine_epochs, optim.clip_norm) == (0.0, None, 0.0)
    assert small.task.get("loss", "softmax") == "softmax"


def test_what_the_published_code_does_of_itself_is_asked_for_by_name():
    for name, layers in (("attention_copy", None), ("attention_distill", tuple(range(18)))):
        ours, theirs = load_config(name, ""), load_config(name, "published=1")
        assert (ours.task.layers, ours.optim.layer_decay_to) == (layers, "head")
        assert (theirs.task.layers, theirs.optim.layer_decay_to) == (
            tuple(range(21)), "last_block",
        )  # fmt: skip
        assert (ours.model.dtype, theirs.model.dtype) == ("bfloat16", "float32")
        with pytest.raises(ValueError, match="published=1: of the full size alone"):
            load_config(name, "digits,published=1")


def test_a_year_of_inaturalist():
    for name in ("scratch", "finetune", "attention_copy", "attention_distill"):
        config = load_config(name, "inaturalist=2019")
        assert config.data.source == "inaturalist2019:/data/inaturalist2019"
        assert config.eval.split == "val" and config.model.num_classes is None
        with pytest.raises(ValueError, match="inaturalist=2020: expected one of 2017, 2018, 2019,"):
            load_config(name, "inaturalist=2020")
        with pytest.raises(ValueError, match="inaturalist=2018: of the full size"):
            load_config(name, "digits,inaturalist=2018")


def test_what_sets_the_probe_and_deit3_apart():
    config = load_config("linear_probe", "")
    model = build_model(config.model, (224, 224, 3), 1000)
    assert (model.pool, model.batch_norm, model.head_init_std) == ("cls", True, 0.01)
    assert (config.optim.name, config.optim.momentum) == ("lars", 0.9)
    assert config.optim.trust_coefficient == 0.001 and config.batch_size == 16_384
    config = load_config("deit3", "huge")
    model = build_model(config.model, (160, 160, 3), 1000)
    assert (model.layer_scale, model.class_position, model.patch_size) == (1e-6, False, 14)
    assert (config.optim.name, config.optim.clip_norm) == ("lamb", 1.0)
    assert config.task.loss == "binary" and "reflect" not in config.data.pipeline
    assert "reflect=True" in load_config("deit3", "base,src=1").data.pipeline


TEACHERS = ("attention_copy", "attention_distill", "feature_distill", "logit_distill")
TEACHERS += ("finetuned_teacher",)
SMALL = {"width": 16, "num_heads": 2, "mlp_dim": 32, "patch_size": 4}
DECODER = {"decoder_width": 16, "decoder_num_heads": 2, "decoder_depth": 2}
BATCH, SIDE = (
    64,
    dict.fromkeys(("filter_vit", "dropout_vit", "choice_transfer"), 24),
)  # else 16 pixels


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """Files of small ViTs by (depth, classes, name), made when they are asked for."""
    folder, made = tmp_path_factory.mktemp("pretrained"), {}

    def file_of(depth, classes, name="vit_large_patch16"):
        if (depth, classes, name) not in made:
            fields = {**SMALL, "depth": depth, "num_classes": classes, "image_size": 16}
            fields["pool"] = "avg" if classes else "cls"
            model = vjx.create_model(name, **fields)
            path = folder / f"{depth}_{classes}_{name}.safetensors"
            vjx.save(path, model, model.init_variables(jax.random.key(classes)))
            made[depth, classes, name] = str(path)
        return made[depth, classes, name]

    return file_of


def shrunken(recipe, file_of):
    """The published config, but for sizes, data and paths; the peak of the rate stays."""
    config, wanted = config_of(recipe), RECIPES[recipe]
    name = recipe.partition(":")[0]
    side = SIDE.get(name, 16)
    depth = 24 if name in TEACHERS else 2  # published layers are some of 24
    if name in SIDE:
        config.model.name = f"{name}_micro"
    else:
        config.model.update({**SMALL, "depth": depth, "scan": True})
    if name == "masked_pretraining":
        config.model.update(DECODER)
    config.model.dtype = "float32"
    config.data.source, config.data.classes, config.eval.split = "digits", "", "test"
    for section in (config.data, config.eval):
        section.pipeline = re.sub(
            r"(crop|resize)\((\d+)",
            lambda found: f"{found[1]}({round(int(found[2]) * side / wanted.pixels)}",
            section.pipeline,
        )
    if config.optim.lr_for_batch:
        config.optim.lr_for_batch = config.optim.lr_for_batch * BATCH // config.batch_size
    if config.optim.warmup_steps:
        config.optim.warmup_steps = 10
    config.batch_size, config.mix.group = BATCH, min(config.mix.group, 32)
    if name in TEACHERS:
        config.task.teacher = file_of(depth, 10 if name == "logit_distill" else 0)
    if config.init_from:
        config.init_from = file_of(depth, 0, config.model.name)
    return config


def at_step(state, step):
    """A fresh state as if so many steps had been taken, for what goes by their number."""

    def counted(node):
        by_number = isinstance(node, optax.ScaleByScheduleState)
        return node._replace(count=jax.numpy.int32(step)) if by_number else node

    leaves = jax.tree.map(
        counted, state.opt_state, is_leaf=lambda x: isinstance(x, optax.ScaleByScheduleState)
    )
    return state.replace(step=jax.numpy.int32(step), opt_state=leaves)


def two_steps(config, mesh):
    """The metrics of two steps on a mesh, from the same state, in the middle of the run."""
    inputs = open_inputs(config)
    task = build_task(config, inputs.image_shape(), inputs.num_classes)
    run_schedule = make_run_schedule(config, inputs.steps_per_epoch())
    program = trace_step(task, config, run_schedule, mesh, inputs.batch_shapes())
    init = jax.jit(program.init, out_shardings=program.shardings)
    middle = run_schedule.total_steps // 2
    state = at_step(init(jax.random.key(0), program.loaded), middle)
    frozen = place(task.frozen, frozen_shardings(task.frozen, mesh, config.mesh))
    step, key, found = program.compile(), step_key(config.seed), []
    with inputs.train_stream(middle) as stream:
        for _ in range(2):
            state, metrics = step(state, frozen, to_device(next(stream), mesh), key)
            found.append(jax.device_get(metrics))
    return found


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if recipe not in SAME_STEPS])
def test_two_steps_are_the_same_on_one_device_and_on_eight(recipe, pretrained):
    config = shrunken(recipe, pretrained)
    one = two_steps(config, one_device_mesh())
    eight = two_steps(config, make_mesh(4, 2, 1))
    for wanted, found in zip(one, eight, strict=True):
        assert found.keys() == wanted.keys()
        for metric, value in wanted.items():
            np.testing.assert_allclose(found[metric], value, rtol=1e-5, atol=1e-5, err_msg=metric)
    assert one[0]["lr"] > 0 and one[0]["loss"] != one[1]["loss"]
    assert np.isfinite([row["loss"] for row in one]).all()

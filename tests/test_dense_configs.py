"""configs/detection.py and segmentation.py: their published numbers, networks, small forms."""

from typing import NamedTuple

import numpy as np
import pytest

from tests.runs import DENSE, load_config
from vit_jax_xfer import data
from vit_jax_xfer.tasks.build import build_model, task_settings
from vit_jax_xfer.train.learning_rate import learning_rate_of
from vit_jax_xfer.train.optimizer import DECAY_RULES
from vit_jax_xfer.train.rules import Rules
from vit_jax_xfer.train.schedule import make_run_schedule

IMAGES = {"detection": 117_266, "segmentation": 20_210}


class Recipe(NamedTuple):
    """Published numbers. late, end: the rate at 95 % of the run and at its end.

    spared: what weight decay leaves alone; None = all vectors, tokens and tables, as MAE's rule.
    """

    peak: float
    late: float
    steps: int
    warmup: int
    batch: int
    weight_decay: float
    layer_decay: float = 1.0
    drop_path: float | None = None
    width: int = 768
    name: str = "adamw"
    end: float = 0.0
    spared: tuple[str, ...] | None = None


VITDET = {"spared": ("encoder/blocks_0/norm1/scale", "encoder/pos_embed")}
SCRATCH = {**VITDET, "end": 1.6e-6}
# Sources: detectron2's ViTDet configs (the huge one's decay spares nothing) and 2203.16527, tables
# 4 and 11; implus/mae_segmentation, DINOv3's (one group of parameters), Segmenter's (floor 1e-5,
# timm's SGD) and SETR's configs (mmsegmentation's schedule_160k: floor 1e-4). Steps of epochs are
# epochs × images / batch.
RECIPES = {
    "detection:base": Recipe(1e-4, 1e-5, 183_228, 250, 64, 0.1, 0.7, 0.1, end=1e-6, **VITDET),
    "detection:large": Recipe(
        1e-4, 1e-5, 183_228, 250, 64, 0.1, 0.8, 0.4, 1024, end=1e-6, **VITDET
    ),
    "detection:huge,cascade=1": Recipe(
        1e-4, 1e-5, 137_421, 250, 64, 0.1, 0.9, 0.5, 1280, end=1e-6, spared=()
    ),
    "detection:base,scratch=1": Recipe(1.6e-4, 1.6e-5, 549_684, 250, 64, 0.2, 1.0, 0.1, **SCRATCH),
    "detection:large,scratch=1": Recipe(
        1.6e-4, 1.6e-5, 366_456, 250, 64, 0.2, 1.0, 0.4, 1024, **SCRATCH
    ),
    "segmentation:upernet": Recipe(1e-4, 5e-6, 160_000, 1500, 16, 0.05, 0.65, 0.1),
    "segmentation:linear": Recipe(1e-3, 6.6438e-6, 40_000, 1500, 16, 1e-3, spared=()),
    "segmentation:segmenter": Recipe(
        1e-3, 7.678e-5, 161_680, 0, 8, 0.0, 1.0, 0.1, name="nesterov", end=1e-5
    ),
    "segmentation:setr": Recipe(
        1e-3, 1.6072e-4, 160_000, 0, 16, 0.0, width=1024, name="sgd", end=1e-4
    ),
}
LEAVES = ("encoder/blocks_0/norm1/scale", "encoder/pos_embed", "encoder/blocks_0/mlp/fc1/bias")
LEAVES += ("pyramid/p2/lateral_norm/scale", "encoder/blocks_0/attention/relative_down")
SMALL = {"detection": ("coco128", "coco128_regions", "coco128_filter")}
SMALL["segmentation"] = ("coco128", "coco128_upernet")


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_has_its_published_numbers(recipe):
    name, _, arg = recipe.partition(":")
    config, wanted = load_config(name, arg), RECIPES[recipe]
    schedule = make_run_schedule(config, IMAGES[name] / config.batch_size)
    assert (schedule.total_steps, schedule.warmup_steps) == (wanted.steps, wanted.warmup)
    rate = learning_rate_of(config, schedule)
    assert float(rate(wanted.warmup)) == pytest.approx(wanted.peak, rel=1e-2)
    assert float(rate(wanted.steps)) == pytest.approx(wanted.end, rel=1e-5, abs=1e-12)
    assert float(rate(round(0.95 * wanted.steps))) == pytest.approx(wanted.late, rel=1e-3)
    optim = config.optim
    assert (config.batch_size, optim.weight_decay) == (wanted.batch, wanted.weight_decay)
    assert (optim.layer_decay, optim.name, optim.clip_norm) == (wanted.layer_decay, wanted.name, 0)
    assert config.model.drop_path == wanted.drop_path
    decays = Rules([*optim.decay_rules, *DECAY_RULES], "test").of
    spared = LEAVES if wanted.spared is None else wanted.spared
    assert tuple(name for name in LEAVES if not decays(name)) == spared
    example = {"image": np.zeros((375, 500, 3), np.uint8), "label": 0}
    shape = data.parse_pipeline(config.data.pipeline)(example, np.random.default_rng(0))[
        "image"
    ].shape
    side = 1024 if name == "detection" else 518 if arg == "linear" else 512
    assert shape == (side, side, 3)
    seen = data.parse_pipeline(config.eval.pipeline)(example, np.random.default_rng(0))["image"]
    assert seen.shape == ((1024, 1024, 3) if name == "detection" else (2 * side, 2 * side, 3))
    model = build_model(config.model, shape, 80)
    assert model.encoder.num_tokens(shape)  # whole patches
    assert (model.encoder.width, model.num_classes) == (wanted.width, 80)
    if name == "detection":
        assert model.head == ("cascade" if "cascade" in arg else "regions") and model.has_masks
        assert model.encoder.window_size == 14 and config.data.mask_size
        assert bool(config.init_from) == ("scratch" not in arg)


def test_segmenter_sees_images_and_windows_as_its_authors_do():
    segmenter, setr = load_config("segmentation", "segmenter"), load_config("segmentation", "setr")
    # AugReg's weights take images in [-1, 1]; a border is 0 there.
    example = {"image": np.full((512, 256, 3), 255, np.uint8), "label": 0}
    for section in (segmenter.data, segmenter.eval):
        pipeline = data.parse_pipeline(section.pipeline)
        seen = pipeline(example, np.random.default_rng(0))["image"]
        assert seen.max() == pytest.approx(1.0)
    assert np.abs(seen[:, 512:]).max() < 0.005
    assert (segmenter.task.window, segmenter.task.window_stride) == (512, 512)
    assert (setr.task.window, setr.task.window_stride) == (512, 341)


@pytest.mark.parametrize("name", DENSE)
def test_the_small_forms_fit_together(name):
    for form in SMALL[name]:
        config = load_config(name, f"{form},seed=3")
        assert (config.seed, config.task.name) == (3, name) and config.is_locked
        task_settings(config.task)
        assert build_model(config.model, (256, 256, 3), 7).num_classes == 7


def test_what_is_not_published_is_refused():
    with pytest.raises(ValueError, match="scratch=1: of base and large"):
        load_config("detection", "huge,scratch=1")
    with pytest.raises(ValueError, match="cascade, scratch: of the full size alone"):
        load_config("detection", "coco128,cascade=1")
    with pytest.raises(ValueError, match="config argument 'coco' is none of base, large"):
        load_config("detection", "coco")

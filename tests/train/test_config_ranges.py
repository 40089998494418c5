"""Numbers of a config that make no sense."""

import math

import pytest

from tests.runs import CONFIGS, DENSE, load_config, tiny_config
from vit_jax_xfer.arguments.number_ranges import NETWORK_RANGES
from vit_jax_xfer.config import add_evaluation_set, default_config, field_names
from vit_jax_xfer.models.registry import ENTRIES, create_model, network_classes
from vit_jax_xfer.tasks.build import TASKS
from vit_jax_xfer.train import loop
from vit_jax_xfer.train.config_ranges import CONFIG_RANGES, check_numbers
from vit_jax_xfer.train.run_plan import plan_run

# Tuples, and fields of several types, that hold names.
NAMES = {"eval.suites", "eval.benchmarks", "explain.methods", "task.members", "model.parts"}
NAMES |= {"task.average", "task.match_heads"}


def every_config():
    """One of each task, and one of each kind of network, all fields at their defaults."""
    kinds = {kind: name for name, (kind, _) in ENTRIES.items() if kind in all_kinds}
    found = [default_config(task, "vit_micro_patch2", settings={}) for task in TASKS]
    return found + [default_config("classification", name, settings={}) for name in kinds.values()]


all_kinds = network_classes().values()


def test_every_number_has_a_range():
    found = set()
    for config in every_config():
        for name in field_names(config):
            *sections, last = name.split(".")
            section = config
            for part in sections:
                section = section[part]
            if section.get_type(last) in (int, float, tuple, object):
                found.add(name)
    assert found - NAMES - CONFIG_RANGES.keys() == set()
    # Nothing stands in the table that no config has.
    fields = {field for kind in all_kinds for field in kind.keywords()}
    assert NETWORK_RANGES.keys() <= fields
    assert {name for name in CONFIG_RANGES if not name.startswith("model.")} <= found


@pytest.mark.parametrize("name", [*CONFIGS, *DENSE])
def test_every_shipped_config_is_within_them(name):
    check_numbers(load_config(name, None))


@pytest.mark.parametrize(
    ("field", "values", "expected"),
    [
        ("optim.lr", (-1e-3,), "0 or more"),
        ("optim.clip_norm", (-1.0,), "0 or more"),
        ("optim.b1", (1.0, -0.1), "from 0 to below 1"),
        ("optim.b2", (1.0, 1.5), "from 0 to below 1"),
        ("optim.momentum", (1.0,), "from 0 to below 1"),
        ("optim.ema", (1.0,), "from 0 to below 1"),
        ("optim.weight_decay", (-0.1,), "0 or more"),
        ("optim.layer_decay", (0.0, 1.5), "more than 0 and up to 1"),
        ("optim.lr_rules", (((".*", -1.0),), ((".*", math.nan),)), "0 or more"),
        ("optim.drops", ((0.5, 1.0), (0.0,)), "between 0 and 1"),
        ("batch_size", (0, -8), "1 or more"),
        ("eval.batch_size", (-1,), "0 or more"),
        ("seed", (-1, 2**32), "from 0 to 2**32 - 1"),
        ("mix.mixup", (-0.1,), "an alpha from 0 to 1000"),
        ("mix.probability", (1.1,), "a chance from 0 to 1"),
        ("eval.every", (-1,), "0 or more"),
        ("checkpoint.keep_last", (0,), "1 or more"),
        ("log.every", (0,), "1 or more"),
        ("task.label_smoothing", (1.0, -0.1), "from 0 to below 1"),
        ("task.weight", (-1.0,), "0 or more"),
        ("task.teacher_std", ((1.0, 0.0, 1.0),), "more than 0"),
        ("task.teacher_image_size", (-2,), "pixels, or 0 or -1"),
        ("model.drop_path", (1.0, -0.1), "from 0 to below 1"),
        ("model.depth", (0,), "1 or more"),
        ("model.norm_eps", (-1e-6,), "0 or more"),
    ],
)
def test_a_number_without_sense(field, values, expected):
    config = load_config("attention_distill")
    for value in values:
        config.update_from_flattened_dict({field: value})
        with pytest.raises(ValueError) as error:
            check_numbers(config)
        assert str(error.value) == f"{field}: got {value}, expected {expected}"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("explain.images", 2.5),
        ("explain.images", True),
        ("explain.images", (1, None)),
        ("explain.methods", 3),
        ("eval.suites", (1,)),
        ("eval.benchmarks", False),
    ],
)
def test_what_is_neither_a_text_nor_a_tuple_of_them(field, value):
    config = load_config("scratch")
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ValueError, match=f"^{field}: got .*, expected .* or a tuple of such$"):
        check_numbers(config)


def test_no_number_is_nan_or_infinite():
    for field in field_names(config := load_config("logit_distill")):
        *sections, last = field.split(".")
        section = config
        for part in sections:
            section = section[part]
        if section.get_type(last) is not float:
            continue
        for value in (math.nan, math.inf, -math.inf):
            fresh = section.copy_and_resolve_references()
            fresh[last] = value
            with pytest.raises(ValueError, match=f"^{field}: got -?(nan|inf), expected "):
                check_numbers(fresh, "".join(f"{part}." for part in sections))


def test_a_named_set_has_the_ranges_of_the_usual_one():
    add_evaluation_set(config := load_config("scratch"), "other", batch_size=-3)
    with pytest.raises(ValueError, match="^eval.sets.other.batch_size: got -3, expected 0 or more"):
        check_numbers(config)


def test_runs_plans_and_networks_hold_numbers_to_them(tmp_path):
    config = tiny_config("scratch", optim__b2=1.0)
    for start in (lambda: loop.run(config, tmp_path / "run"), lambda: plan_run(config, None, 10)):
        with pytest.raises(ValueError, match="^optim.b2: got 1.0, expected from 0 to below 1"):
            start()
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="^drop_path: got 1.5, expected from 0 to below 1"):
        create_model("vit_micro_patch2", drop_path=1.5)

"""Values against declared types: what fits, what is refused by the field's name, and by whom."""

from typing import Any, Literal

import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.runs import load_config
from vit_jax_xfer.arguments.declared_types import check_declared
from vit_jax_xfer.models.preprocessing import INCEPTION, Preprocessing
from vit_jax_xfer.models.registry import create_model
from vit_jax_xfer.tasks.build import task_settings

Words = Literal["same", "even"]
HALF = Preprocessing(*INCEPTION)


@pytest.mark.parametrize(
    ("value", "declared"),
    [
        (3, int),
        (np.int64(3), int),
        (3, float),
        (np.float32(0.5), float | None),
        (None, float | None),
        (np.True_, bool),
        ("even", Words),
        ([1, 2], tuple[int, ...]),
        ((1, 2), int | tuple[int, int]),
        ("even", Words | tuple[int, ...]),
        ((), tuple[str, ...]),
        (object(), Any),
        ("anything", np.ndarray),
        (HALF, Preprocessing | None),
    ],
)
def test_what_fits(value, declared):
    check_declared("field", value, declared)


@pytest.mark.parametrize(
    ("value", "declared", "said"),
    [
        ("3", int, "got '3', expected a whole number"),
        (3.0, int, "got 3.0, expected a whole number"),
        (True, int, "got True, expected a whole number"),
        (True, float, "got True, expected a number"),
        (None, float, "got None, expected a number"),
        (1, bool, "got 1, expected True or False"),
        (1, str | None, "got 1, expected text or None"),
        ("evn", Words, "'evn' is none of same, even; did you mean 'even'"),
        (("a",), tuple[int, ...] | None, r"got \('a',\), expected a tuple, each a whole number or"),
        (
            (1, 2, 3),
            int | tuple[int, int],
            r"got \(1, 2, 3\), expected a whole number or a tuple of 2, each a wh",
        ),
        (3, Words | tuple[int, ...], "got 3, expected one of same, even or a tuple, each a whole"),
    ],
)
def test_what_is_refused(value, declared, said):
    with pytest.raises(ValueError, match=f"^field: {said}"):
        check_declared("field", value, declared)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"depth": "4"}, "depth: got '4', expected a whole number"),
        ({"conv_blocks": ("a",)}, "conv_blocks: got .*, expected a tuple, each a whole number"),
        ({"class_token": "no"}, "class_token: got 'no', expected True or False"),
        ({"preprocessing": "x"}, "preprocessing: got 'x', expected a Preprocessing or None"),
        ({"dtype": "bf16"}, "dtype: got 'bf16', expected a floating type, such as 'bfloat16'"),
        ({"dtype": "int8"}, "dtype: got 'int8', expected a floating type"),
        ({"product_dtype": 16}, "product_dtype: got 16, expected a floating type"),
    ],
)
def test_fields_of_a_network(fields, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        create_model("vit_micro_patch8", **fields)


def test_lists_are_as_good_as_tuples():
    """As JSON and command lines have them; jax.jit needs networks that hash."""
    network = create_model("vit_micro_patch8", image_size=[16, 32], class_names=["a", "b"])
    assert (network.image_size, network.class_names) == ((16, 32), ("a", "b"))
    hash(network)


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("scratch", {"loss": "bce"}, "task.loss: 'bce' is none of softmax, binary; did you mean"),
        ("scratch", {"label_smoothing": None}, "task.label_smoothing: got None, expected a number"),
        ("attention_distill", {"layers": ("a",)}, "task.layers: got .*, each a whole number or"),
        ("attention_distill", {"teacher_mean": ("a", 0, 0)}, "task.teacher_mean: .*each a number"),
    ],
)
def test_settings_of_a_task(name, fields, said):
    config = load_config(name, None)
    settings = ConfigDict({**config.task, **fields})
    with pytest.raises(ValueError, match=f"^{said}"):
        task_settings(settings)

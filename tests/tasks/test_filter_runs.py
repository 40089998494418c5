"""A FilterViT in a run: its batch statistics are saved, evaluated and gone on with; bad fields."""

import shutil

import jax
import numpy as np
import pytest

import vit_jax_xfer as vjx
from tests.runs import assert_same_bits, checkpoint_arrays, rows, tiny_config
from vit_jax_xfer import data
from vit_jax_xfer.train import loop

FIELDS = {"steps": 4, "checkpoint__every": 2, "checkpoint__keep_last": 2}


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    loop.run(tiny_config("filter_vit", **FIELDS), folder)
    return folder


def test_a_stopped_run_ends_like_the_straight_one(straight, tmp_path):
    folder = shutil.copytree(straight, tmp_path / "stopped")
    for path in ("checkpoints/4", "model"):
        shutil.rmtree(folder / path)
    loop.run(tiny_config("filter_vit", **FIELDS), folder)
    arrays = checkpoint_arrays(folder, 4)
    assert_same_bits(arrays, checkpoint_arrays(straight, 4))
    assert any("batch_stats" in name for name in arrays)
    assert rows(folder) == rows(straight)


def test_the_finished_model_gives_the_evaluated_figures(straight):
    config = tiny_config("filter_vit", **FIELDS)
    source = data.open_source("digits", config.eval.split)
    with data.eval_batches(source, config.eval.pipeline, batch_size=len(source)) as batches:
        batch = next(batches)
    model, variables = vjx.load_pretrained(straight / "model")
    logits = jax.jit(model.apply)(variables, batch["image"])
    loss = -jax.nn.log_softmax(logits)[np.arange(len(source)), batch["label"]].mean()
    evaluated = rows(straight)[-1][2]["loss"]
    assert float(loss) == pytest.approx(evaluated, abs=1e-5)
    # Without its running statistics it is another network.
    fresh = jax.tree.map(np.ones_like, variables["batch_stats"])
    other = model.apply({**variables, "batch_stats": fresh}, batch["image"])
    assert float(abs(other - logits).max()) > 1e-3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model__keep": 1000}, "keep: 1000 of 100 tokens; choose between 1 and 100"),
        ({"model__keep": 0}, "keep: 0 of 100 tokens"),
        ({"model__keep": (0.1, 0.2, 0.3)}, "keep: got 3 values for 2 filter stages"),
        ({"model__attend": "some"}, "attend: 'some' is none of"),
        ({"eval__pipeline": "normalize", "data__pipeline": "resize(4)|normalize"}, "4×4 pixels"),
        ({"optim__decay_rules": (("hed", True),)}, "optim.decay_rules: 'hed' matches no"),
    ],
)
def test_fields_that_do_not_fit(fields, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        loop.run(tiny_config("filter_vit", **fields), tmp_path / "run")
    assert not (tmp_path / "run").exists()

"""FilterViT's published networks: outputs, choices and sizes of the authors' code (2410.22709)."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vit_jax_xfer as vjx
from vit_jax_xfer.models.filter.filter_blocks import Stage
from vit_jax_xfer.pretrained import to_publisher_names
from vit_jax_xfer.pretrained.description import describe, from_description
from vit_jax_xfer.pretrained.fill import param_shapes

# Parameters with 100 and with 1000 classes, counted in the authors' code.
PARAMETERS = {
    "filter_vit_xxs": (946_608, 1_293_108),
    "filter_vit_xs": (1_894_381, 2_240_881),
    "filter_vit_s": (4_989_040, 5_450_740),
    "filter_vit_s2": (4_776_720, 5_238_420),
    "dropout_vit_xs": (1_875_556, 2_222_056),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts(name):
    found = [
        sum(x.size for x in jax.tree.leaves(param_shapes(vjx.create_model(name, num_classes=k))))
        for k in (100, 1000)
    ]
    assert tuple(found) == PARAMETERS[name]


@pytest.mark.parametrize("case", ["xxs", "xs", "s", "s2", "dropout_xs"])
def test_the_authors_outputs(golden, shared, case):
    folder = shared / "golden/filter_vit" / case
    reference = np.load(folder / "io.npz")
    model, variables = vjx.load_pretrained(golden(f"filter_vit/{case}"))
    assert model.num_classes == json.loads((folder / "spec.json").read_text())["meta"]["classes"]
    kept = [reference[name] for name in reference.files if name.startswith("kept_")]
    drawn = case == "dropout_xs"
    images = jnp.asarray(reference["image"], jnp.float32)
    with jax.default_matmul_precision("highest"):
        out = jax.jit(lambda v, x: vjx.extract(model, v, x, kept=kept if drawn else None))(
            variables, images
        )
    assert len(out.filters) == len(kept)
    for i, (block, chosen) in enumerate(zip(out.filters, kept, strict=True)):
        np.testing.assert_array_equal(block.kept, chosen)
        if not drawn:
            np.testing.assert_allclose(block.importance, reference[f"importance_{i}"], atol=1e-5)
    scale = np.abs(reference["logits"]).max()
    np.testing.assert_allclose(out.logits, reference["logits"], atol=1e-5 * scale)


@pytest.mark.parametrize("case", ["xxs", "xs", "s", "s2", "dropout_xs"])
def test_back_to_the_authors_names(golden, case):
    state = golden(f"filter_vit/{case}")
    model, variables = vjx.load_pretrained(state)
    back = to_publisher_names(variables, "filter_vit")
    counts = {name for name in state if name.endswith("num_batches_tracked")}
    assert back.keys() == state.keys() - counts
    for name in back:
        np.testing.assert_array_equal(back[name], state[name], err_msg=name)
    assert from_description(json.loads(json.dumps(describe(model)))) == model


def test_choices_and_sizes_that_do_not_fit():
    images = jnp.zeros((1, 32, 32, 3))
    for fields, message in (
        ({"keep": 0}, r"keep: 0 of \d+ tokens"),
        ({"keep": 10_000}, r"keep: 10000 of \d+ tokens; choose between 1 and"),
        ({"keep": 1.5}, "keep: 1.5 is no share"),
        ({"keep": (4, 4)}, "keep: got 2 values for 3 filter stages"),
        ({"choose": "best"}, "choose: 'best' is none of"),
        ({"attend": "some"}, "attend: 'some' is none of"),
    ):
        model = vjx.create_model("filter_vit_xs", num_classes=10, **fields)
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(model.init, jax.random.key(0), images)
    for stage, fields, message in (
        (Stage("fulll", 8, 2), {}, "stages: stage 1: kind 'fulll' is none of pooled, filter, full"),
        (Stage("full", 8, 3), {}, "stages: stage 1: heads: 3 do not divide the 8 channels"),
        (Stage("full", 8, 3, reduce=3), {}, "stages: stage 1: heads: 3 do not divide the 2 chan"),
        (Stage("filter", 8, 2, layers=0), {}, "stages: stage 1: layers: got 0, expected a whole"),
        (Stage("full", 8, 2, stride=1.5), {}, "stages: stage 1: stride: got 1.5, expected a whole"),
        (Stage("full", 7, 7), {"stem_width": 7}, "stages: stage 0: positions take an even number"),
    ):
        stages = (Stage("pooled", 8, 1), stage)
        model = vjx.create_model("filter_vit_xs", stages=stages, **fields)
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(model.init, jax.random.key(0), images)
    with pytest.raises(ValueError, match="4×64 pixels; the first convolution needs 5"):
        jax.eval_shape(model.clone(attend="kept").init, jax.random.key(0), jnp.zeros((1, 4, 64, 3)))


@pytest.mark.parametrize("size", [(5, 5), (33, 48), (64, 31)])
def test_any_image_size(size):
    model = vjx.create_model("filter_vit_xs", num_classes=10)
    images = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    assert jax.eval_shape(model.apply, variables, images).shape == (2, 10)

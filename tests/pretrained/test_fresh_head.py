"""Another number of classes than the weights have: the head alone is left out and drawn afresh."""

import jax
import numpy as np
import pytest

import vit_jax_xfer as vjx
from tests.pretrained.test_warm_start import drawn
from tests.runs import tiny_config
from vit_jax_xfer.convert import main as convert
from vit_jax_xfer.pretrained.loading_notes import LoadingNote
from vit_jax_xfer.pretrained.publish import to_publisher_names
from vit_jax_xfer.tasks.build import build_task

SIZES = {"image_size": 16, "patch_size": 8, "width": 32, "depth": 1, "num_heads": 2}
IMAGES = np.zeros((1, 16, 16, 3), np.float32)
# What a family has beside and in its head, and the names of its parameters.
FAMILIES = {
    "supervised": ({"pre_logits": True}, "timm"),
    "deit": ({"distillation_token": True}, "publisher"),
    "mae": ({"pool": "avg"}, "publisher"),
    "dinov2": ({"layer_scale": 1e-5, "pool": "cls_avg"}, "publisher"),
    "clip": ({"pre_norm": True, "patch_bias": False, "head_bias": False}, "openai"),
    "siglip": ({"pool": "map", "class_token": False}, "timm"),
}


def of(family, classes):
    fields, names = FAMILIES[family]
    model = vjx.create_model("vit_tiny_patch16", **SIZES, **fields, num_classes=classes)
    variables = drawn(model)
    return variables["params"], to_publisher_names(variables, family, names)


def without_heads(params):
    return {key: x for key, x in params.items() if key not in ("head", "distillation_classifier")}


def same(found, wanted):
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_alone_is_another(family):
    params, state = of(family, 5)
    with pytest.warns(LoadingNote, match="^num_classes: the head of 5 classes is left out; one of"):
        model, variables = vjx.load_pretrained(state, family, num_heads=2, num_classes=7, seed=3)
    assert model.num_classes == 7 and model.head_bias
    assert model.preprocessing == vjx.load_pretrained(state, family, num_heads=2)[0].preprocessing
    same(without_heads(variables["params"]), without_heads(params))
    shapes = jax.eval_shape(model.init_variables, jax.random.key(0))
    assert jax.tree.map(np.shape, variables) == jax.tree.map(np.shape, shapes)
    if family == "deit":  # of two heads
        fresh = model.init(jax.random.key(3), IMAGES)["params"]
        for head in ("head", "distillation_classifier"):
            same(variables["params"][head], fresh[head])


def test_one_where_the_weights_have_none():
    params, state = of("dinov2", 0)
    with pytest.warns(LoadingNote, match="the weights have no head; one of 4 starts afresh"):
        model, variables = vjx.load_pretrained(state, num_heads=2, num_classes=4)
    same(without_heads(variables["params"]), params)
    again = vjx.load_pretrained(state, num_heads=2, num_classes=4)[1]
    same(again, variables)
    other = vjx.load_pretrained(state, num_heads=2, num_classes=4, seed=1)[1]
    assert np.any(other["params"]["head"]["kernel"] != variables["params"]["head"]["kernel"])


@pytest.mark.parametrize("number", [-1, 2.5, True, "10"])
def test_what_is_no_number_of_classes(number):
    with pytest.raises(ValueError, match="^num_classes: got .*, expected a whole number of 0 or"):
        vjx.load_pretrained(of("supervised", 5)[1], num_heads=2, num_classes=number)


@pytest.mark.parametrize("name", ["model", "model.npz"])
def test_of_a_model_that_was_saved_here(name, tmp_path):
    model = vjx.create_model("vit_tiny_patch16", **SIZES, num_classes=3)
    variables = drawn(model)
    vjx.save(tmp_path / name, model, variables, class_names=("a", "b", "c"))
    with pytest.warns(LoadingNote, match="the head of 3 classes is left out"):
        found, loaded = vjx.load_pretrained(tmp_path / name, num_classes=4)
    assert found == model.clone(num_classes=4)
    same(without_heads(loaded["params"]), without_heads(variables["params"]))
    assert loaded["params"]["head"]["kernel"].shape == (32, 4)
    found, loaded = vjx.load_pretrained(tmp_path / name, num_classes=0)
    assert found.num_classes == 0 and "head" not in loaded["params"]
    again, _ = vjx.load_pretrained(tmp_path / name, num_classes=3)
    assert again.class_names == ("a", "b", "c")


def test_of_a_filter_vit():
    model = vjx.create_model("filter_vit_xs", num_classes=2)
    variables = drawn(model)
    state = to_publisher_names(variables, "filter_vit", "publisher")
    with pytest.warns(LoadingNote, match="the head of 2 classes is left out"):
        found, loaded = vjx.load_pretrained(state, num_classes=3)
    assert loaded["params"]["head"]["kernel"].shape == (384, 3)
    same(without_heads(loaded["params"]), without_heads(variables["params"]))


def test_a_masked_autoencoder_has_none(tmp_path):
    model = vjx.create_model(
        "mae_vit_micro_patch2",
        decoder_width=16,
        decoder_depth=1,
        decoder_num_heads=2,
        position="learned",
    )
    variables = drawn(model)
    state = to_publisher_names(variables, "mae", "publisher")
    fields = {"num_heads": model.encoder.num_heads, "decoder_num_heads": 2, "family": "mae"}
    with pytest.raises(ValueError, match="^num_classes: .* has no head .*decoder=False"):
        vjx.load_pretrained(state, **fields, num_classes=4)
    vjx.save(tmp_path / "mae", model, variables)
    with pytest.raises(ValueError, match="num_classes: a masked autoencoder has no head"):
        vjx.load_pretrained(tmp_path / "mae", num_classes=4)


def test_by_the_command(tmp_path, capsys):
    np.savez(tmp_path / "vit.npz", **of("supervised", 5)[1])
    fields = ["--field", "num_heads=2", "--field", "num_classes=7", "--field", "seed=3"]
    assert convert([str(tmp_path / "vit.npz"), str(tmp_path / "out"), *fields]) == 0
    said = capsys.readouterr()
    assert "note: num_classes: the head of 5 classes is left out; one of 7 starts" in said.err
    assert "classes 7" in said.out
    direct = vjx.load_pretrained(tmp_path / "vit.npz", num_heads=2, num_classes=7, seed=3)[1]
    same(vjx.load_pretrained(tmp_path / "out")[1], direct)


def test_a_run_that_starts_from_other_classes_says_so(tmp_path):
    model = build_task(tiny_config("scratch"), (8, 8, 3), 3).model
    vjx.save(tmp_path / "model", model, drawn(model))
    config = tiny_config("scratch", init_from=str(tmp_path / "model"))
    with pytest.warns(LoadingNote, match="^init_from: the head of 3 classes is left out; one of 5"):
        task = build_task(config, (8, 8, 3), 5)
    assert "head" not in task.initial["params"]

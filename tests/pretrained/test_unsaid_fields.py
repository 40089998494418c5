"""Fields that a file in a publisher's names doesn't tell: said, or refused where that won't do."""

import jax
import numpy as np
import pytest

import vit_jax_xfer as vjx
from vit_jax_xfer.convert import main
from vit_jax_xfer.pretrained import load_pretrained, to_publisher_names
from vit_jax_xfer.pretrained.unsaid_fields import unsaid_fields

# Of every plain network in timm's names: 12 channels are no head of 64, and timm resizes otherwise.
ALWAYS = {"num_heads": 3, "position_resize": "bicubic"}
TINY = {"image_size": 8, "width": 12, "depth": 2, "num_heads": 3, "num_classes": 4}


def drawn(**fields):
    """A tiny network and arrays that are no zeros."""
    model = vjx.create_model("vit_micro_patch4", **{**TINY, **fields})
    shapes = jax.eval_shape(model.init_variables, jax.random.key(0))
    rng = np.random.default_rng(0)
    return model, jax.tree.map(lambda x: rng.uniform(-1, 1, x.shape).astype(x.dtype), shapes)


def unsaid(family="supervised", names="timm", **fields):
    model, variables = drawn(**fields)
    return unsaid_fields(model, to_publisher_names(variables, family, names), family)


def test_what_no_array_shows_is_told():
    assert unsaid() == ALWAYS
    odd = {"activation": "gelu_tanh", "norm_eps": 1e-3, "pool": "max_patches"}
    assert unsaid(**odd) == {**ALWAYS, **odd}
    size = {"image_size": (8, 12)}
    assert unsaid(**size) == {**ALWAYS, **size}


def test_with_it_the_file_is_the_network_again():
    model, variables = drawn(activation="gelu_tanh", pool="max_patches", norm_eps=0.1)
    state = to_publisher_names(variables, "supervised", "timm")
    images = np.random.default_rng(1).standard_normal((2, 8, 8, 3)).astype(np.float32)

    def outputs(**told):
        other, others = load_pretrained(state, "supervised", **told)
        return other.apply(others, images)

    expected = model.apply(variables, images)
    told = unsaid_fields(model, state, "supervised")
    np.testing.assert_allclose(outputs(**told), expected, rtol=1e-5, atol=1e-5)
    assert np.abs(outputs(num_heads=3) - expected).max() > 0.1


def test_how_a_network_starts_and_runs_is_not_told():
    fields = {"drop_path": 0.1, "remat": "full", "head_init_std": 0.5, "attention": "blockwise"}
    assert unsaid(**fields) == ALWAYS


@pytest.mark.parametrize(
    ("family", "names", "fields", "message"),
    [
        ("beit", "timm", {}, "not be read again: family: 'beit' has qkv_bias='no_key'"),
        # Transformers' names have no bias of DINOv3's keys, which Meta's mask: here it counts.
        (
            "dinov3",
            "huggingface",
            {"rotary": "dinov3", "registers": 2, "position": "none", "layer_scale": 0.1},
            "qkv_bias",
        ),
    ],
)
def test_another_network_is_refused(family, names, fields, message):
    with pytest.raises(ValueError, match=f"^names: [^\n]*{message}[^\n]*$"):
        unsaid(family, names, **fields)


def test_the_command_says_it_or_writes_nothing(tmp_path, capsys):
    model, variables = drawn(pool="avg_all")
    vjx.save(tmp_path / "own.npz", model, variables)
    out = tmp_path / "out.safetensors"
    given = [str(tmp_path / "own.npz"), str(out), "--names", "timm", "--family"]
    assert main([*given, "beit"]) == 1 and not out.exists()
    assert capsys.readouterr().err.startswith("error: names: the file would not be read again: ")
    assert main([*given, "supervised"]) == 0
    said = capsys.readouterr().out
    assert "nor these fields, with which alone it is the same network again: " in said
    assert "pool='avg_all'" in said

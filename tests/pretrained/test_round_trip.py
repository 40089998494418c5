"""Variables in a publisher's names again: the same file, or one that loads as the same network."""

import jax
import numpy as np
import pytest

import vit_jax_xfer as vjx
from tests.outputs import assert_close, assert_same, renamed
from tests.pretrained.test_hugging_face_names import HEAD, OLD_ATTENTION, OLD_VIT
from vit_jax_xfer.pretrained import load_pretrained, to_publisher_names
from vit_jax_xfer.pretrained.file_to_model import load_on_host
from vit_jax_xfer.pretrained.publish import NAMES
from vit_jax_xfer.pretrained.unsaid_fields import unsaid_fields

# Files, and the names that give them back as they are.
FILES = {
    "dino/native": ("publisher", "timm"),
    "dinov2/layerscale_native": ("publisher",),
    "dinov2/registers_native": ("publisher",),
    "dinov2/swiglu_native": ("publisher",),
    "dinov3/mlp_native": ("publisher",),
    "dinov3/swiglu_native": ("publisher",),
    "timm/beit": ("publisher", "timm"),
    "timm/clip_prenorm": ("timm",),
    "timm/deit3_layerscale": ("timm",),
    "timm/deit_distilled": ("publisher", "timm"),
    "timm/eva02": ("timm",),
    "timm/mae_gap": ("publisher", "timm"),
    "timm/qknorm_registers": ("publisher", "timm"),
    "timm/siglip_map": ("timm",),
    "timm/supervised_cls": ("publisher", "timm"),
    "timm/swiglu": ("timm",),
    "mae_pretrain/normpix_0": ("publisher", "timm"),
    "hf/clip": ("huggingface",),
    "hf/siglip": ("huggingface",),
}
# Other names under which the variables come back bit by bit.
OTHERS = {
    "dino/native": ("huggingface", "google", "big_vision"),
    "dinov2/layerscale_native": ("huggingface",),
    "dinov2/registers_native": ("huggingface",),
    "dinov2/swiglu_native": ("huggingface",),
    "timm/beit": ("huggingface",),
    "timm/clip_prenorm": (),
    "timm/deit3_layerscale": ("publisher",),
    "timm/deit_distilled": ("huggingface",),
    "timm/eva02": ("publisher",),
    "timm/siglip_map": ("publisher", "big_vision"),
    "timm/supervised_cls": ("huggingface", "google", "big_vision"),
    "mae_pretrain/normpix_0": ("huggingface",),
    "hf/beit": ("publisher", "timm", "huggingface"),
    "hf/clip": ("publisher", "timm", "openai"),
    "hf/deit": ("publisher", "timm", "huggingface"),
    "hf/dinov2": ("publisher", "huggingface"),
    "hf/dinov2_registers": ("publisher", "huggingface"),
    "hf/dinov3": ("huggingface",),
    "hf/siglip": ("publisher", "timm", "big_vision"),
    "hf/vit": ("publisher", "timm", "huggingface", "google", "big_vision"),
    "hf/vit_mae": ("publisher", "timm", "huggingface"),
}
# What comes back otherwise, by design; the outputs are the same.
CHANGED = {
    ("dinov2/layerscale_native", "timm"): "no mask token",
    ("dinov2/swiglu_native", "timm"): "no mask token",
    ("dinov2/registers_native", "timm"): "no mask token; the class token has its position in it",
    ("dinov3/mlp_native", "timm"): "no mask token; no bias of the keys, which is masked",
    ("dinov3/swiglu_native", "timm"): "no mask token; no bias of the keys, which is masked",
    ("dinov3/mlp_native", "huggingface"): "no bias of the keys, which is masked",
    ("dinov3/swiglu_native", "huggingface"): "no bias of the keys, which is masked",
    ("hf/dinov2", "timm"): "no mask token",
    ("hf/dinov2_registers", "timm"): "no mask token; the class token has its position in it",
    ("hf/dinov3", "timm"): "no mask token",
    ("hf/dinov3", "publisher"): "zeros for the masked bias of the keys",
}
# Fields that the way of naming tells, not the arrays.
BY_NAMES = ("position_resize", "norm_eps", "relative_resize", "activation", "layer_scale")
BY_NAMES += ("drop_remainder",)


def fields(case):
    return {"num_heads": 3, **({"decoder_num_heads": 4} if case.startswith("mae_pre") else {})}


def there_and_back(golden, case, names, scan=False):
    """(what was written, model and variables before, model and variables after)."""
    model, variables, found = load_on_host(golden(case), scan=scan, **fields(case))
    written = to_publisher_names(variables, found.family.name, names)
    again = load_pretrained(written, found.family.name, scan=scan, **fields(case))
    return written, (model, variables), again


def assert_equal_models(found, wanted):
    if wanted.encoder is not wanted:
        assert found.clone(encoder=None) == wanted.clone(encoder=None)
        found, wanted = found.encoder, wanted.encoder
    assert found == wanted.clone(**{name: getattr(found, name) for name in BY_NAMES})


@pytest.mark.parametrize(("case", "names"), [(k, n) for k, v in FILES.items() for n in v])
def test_the_file_itself_comes_back(golden, case, names):
    scan = names == "timm"
    _, variables, found = load_on_host(golden(case), scan=scan, **fields(case))
    assert_same(to_publisher_names(variables, found.family.name, names), golden(case))


@pytest.mark.parametrize(("case", "names"), [(k, n) for k, v in OTHERS.items() for n in v])
def test_other_names_load_as_the_same_network(golden, case, names):
    scan = case.startswith("dino")
    _, (model, variables), (again, variables_again) = there_and_back(golden, case, names, scan)
    assert_same(variables_again, variables)
    assert_equal_models(again, model)


@pytest.mark.parametrize(("case", "names"), CHANGED)
def test_what_is_left_out_changes_no_output(golden, case, names):
    _, (model, variables), (again, variables_again) = there_and_back(golden, case, names)
    with pytest.raises(AssertionError):
        assert_same(variables_again, variables)
    size = model.image_size
    images = np.random.default_rng(0).standard_normal((2, size, size, 3)).astype(np.float32)
    wanted = vjx.extract(model, variables, images)
    assert_close(vjx.extract(again, variables_again, images).tokens, wanted.tokens, tolerance=1e-6)


def test_a_published_file_in_other_names_says_all_but_what_names_tell(golden):
    pairs = [(case, names) for table in (FILES, OTHERS) for case in table for names in table[case]]
    for case, names in (*pairs, *CHANGED):
        model, variables, found = load_on_host(golden(case), **fields(case))
        written = to_publisher_names(variables, found.family.name, names)
        unsaid = unsaid_fields(model, written, found.family.name)
        assert set(unsaid) <= {*BY_NAMES, "num_heads", "decoder_num_heads"}, (case, names, unsaid)


@pytest.mark.parametrize(
    ("case", "pairs"),
    [
        ("vit", OLD_VIT),
        ("deit", OLD_VIT),
        ("beit", OLD_VIT),
        ("vit_mae", OLD_VIT),
        ("dinov2", OLD_ATTENTION),
        ("dinov2_registers", OLD_ATTENTION),
        ("dinov3", ((r"^model\.layer\.", "layer."),)),
    ],
)
def test_hugging_face_files_come_back_in_the_names_of_its_hub(golden, case, pairs):
    state = golden(f"hf/{case}")
    _, variables, found = load_on_host(state, num_heads=3)
    written = to_publisher_names(variables, found.family.name, "huggingface")
    assert_same(written, renamed(state, *pairs))


def test_prefixes_stand_only_around_a_network_in_a_whole_model(golden):
    state = golden("hf/vit")
    variables = load_pretrained(state, num_heads=3)[1]
    assert "vit.layernorm.bias" in to_publisher_names(variables, "supervised", "huggingface")
    del variables["params"]["head"]
    alone = {name.removeprefix("vit."): x for name, x in state.items() if name not in HEAD}
    written = to_publisher_names(variables, "supervised", "huggingface")
    assert_same(written, renamed(alone, *OLD_VIT))


def test_deit3_and_eva02_under_their_publishers_names(golden):
    state = golden("timm/deit3_layerscale")
    written, *_ = there_and_back(golden, "timm/deit3_layerscale", None)
    assert_same(written, renamed(state, (r"ls([12])\.gamma", r"gamma_\1")))
    written, *_ = there_and_back(golden, "timm/eva02", None)
    pairs = (r"mlp\.fc1\.", "mlp.w12."), (r"mlp\.fc2\.", "mlp.w3.")
    assert_same(written, renamed(golden("timm/eva02"), *pairs))


def test_ibots_mask_token(golden):
    state = {**golden("dino/native"), "masked_embed": np.arange(48, dtype=np.float32)[None]}
    _, variables, found = load_on_host(state, num_heads=3)
    assert_same(to_publisher_names(variables, found.family.name), state)


def test_no_part_of_a_bias_is_dropped_in_silence(golden):
    """BEiT's names have no bias of the keys; a network with one keeps it under another name."""
    state = golden("timm/supervised_cls")
    variables = load_pretrained(state, num_heads=3)[1]
    written = to_publisher_names(variables, "beit")
    np.testing.assert_array_equal(
        written["blocks.0.attn.qkv.bias"], state["blocks.0.attn.qkv.bias"]
    )
    assert "blocks.0.attn.q_bias" not in written


def test_every_name_is_accepted_or_refused(golden):
    """What a way of naming has no name for is listed, in one line."""
    for case in {**FILES, **OTHERS}:
        _, variables, found = load_on_host(golden(case), **fields(case))
        known = {*FILES.get(case, ()), *OTHERS.get(case, ())}
        known |= {names for other, names in CHANGED if other == case}
        for names in set(NAMES) - known:
            try:
                written = to_publisher_names(variables, found.family.name, names)
            except ValueError as error:
                assert str(error).startswith(("parameters without a name", "names: "))
                assert "\n" not in str(error)
            else:  # no publisher's own, but readable
                again = load_pretrained(written, found.family.name, **fields(case))[1]
                assert jax.tree.all(jax.tree.map(np.array_equal, again, variables))


def test_names_that_are_none(golden):
    variables = load_pretrained(golden("dino/native"), num_heads=3)[1]
    with pytest.raises(ValueError, match="names: 'keras' is none of publisher, timm, huggingface"):
        to_publisher_names(variables, "dino", "keras")
    with pytest.raises(ValueError, match="family 'dyno' is unknown; families: beit, "):
        to_publisher_names(variables, "dyno")
    variables["params"]["blocks_1"]["adapter"] = {"scale": np.ones(3)}
    with pytest.raises(ValueError, match="without a name in this family: blocks_1/adapter/scale"):
        to_publisher_names(variables, "dino")

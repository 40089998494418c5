"""Images of one channel, of four or more: the first layer goes over by timm's rule, or fails."""

import jax
import numpy as np
import pytest

import vit_jax_xfer as vjx
from tests.other_libraries import library
from tests.pretrained.test_warm_start import drawn
from vit_jax_xfer.models.transformer.patches import for_channels
from vit_jax_xfer.pretrained.loading_notes import LoadingNote
from vit_jax_xfer.pretrained.publish import to_publisher_names
from vit_jax_xfer.pretrained.warm_start import start_from

SIZES = {"image_size": 16, "patch_size": 8, "width": 32, "depth": 1, "num_heads": 2}


def of(channels):
    model = vjx.create_model("vit_tiny_patch16", **SIZES, num_classes=3, in_channels=channels)
    variables = drawn(model)
    return model, variables, to_publisher_names(variables, "supervised", "timm")


def kernel(variables):
    return variables["params"]["patch_embed"]["kernel"]


@pytest.mark.parametrize("channels", [1, 2, 4, 6, 12])
def test_rgb_goes_to_any_number_as_timm_does_it(channels):
    _, variables, state = of(3)
    with pytest.warns(LoadingNote, match=f"images of {channels} channels are yours to prepare"):
        model, found = vjx.load_pretrained(state, num_heads=2, in_channels=channels)
    rgb = kernel(variables)
    if channels == 1:
        wanted = rgb.sum(axis=2, keepdims=True)
    else:
        wanted = np.tile(rgb, (1, 1, 4, 1))[:, :, :channels] * np.float32(3 / channels)
    np.testing.assert_allclose(kernel(found), wanted, rtol=1e-6)
    assert (model.in_channels, model.preprocessing) == (channels, None)
    assert model.apply(found, np.zeros((1, 16, 16, channels), np.float32)).shape == (1, 3)
    with pytest.raises(ValueError, match=rf"images: expected shape \(B, H, W, {channels}\)"):
        model.apply(found, np.zeros((1, 16, 16, 3), np.float32))


def test_timms_own_rule_is_ours():
    adapt = library("timm").models.adapt_input_conv
    torch = library("torch")
    rgb = np.random.default_rng(0).normal(size=(8, 8, 3, 5)).astype(np.float32)
    for channels in (1, 2, 4, 7):
        theirs = adapt(channels, torch.from_numpy(rgb.transpose(3, 2, 0, 1).copy()))
        ours = for_channels(rgb, channels).transpose(3, 2, 0, 1)
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stored", [1, 4])
def test_a_file_of_other_channels_is_read_as_it_is(stored):
    model, variables, state = of(stored)
    found, loaded = vjx.load_pretrained(state, num_heads=2)
    assert found.in_channels == stored
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)
    with pytest.raises(ValueError, match=f"in_channels: got 3, but the weights have {stored}"):
        vjx.load_pretrained(state, num_heads=2, in_channels=3)


def test_a_start_from_other_weights_follows_the_rule_too():
    source, variables, _ = of(3)
    grey = source.clone(in_channels=1)
    found = start_from(source, variables, grey)
    np.testing.assert_array_equal(kernel(found), kernel(variables).sum(2, keepdims=True))


def test_students_and_transfers_see_the_teachers_channels():
    teacher, variables, _ = of(1)
    student = vjx.student_like(teacher, num_classes=3)
    assert student.in_channels == 1
    images = np.ones((1, 16, 16, 1), np.float32)
    logits, _ = vjx.transfer_forward(student, drawn(student), teacher, variables, images)
    assert logits.shape == (1, 3)


def test_networks_that_paint_or_filter_take_rgb_alone():
    fields = {"decoder_width": 16, "decoder_depth": 1, "decoder_num_heads": 2}
    model = vjx.create_model("mae_vit_micro_patch2", **fields, in_channels=4)
    with pytest.raises(ValueError, match="^in_channels: masked pre-training paints RGB, got 4"):
        jax.eval_shape(model.init_variables, jax.random.key(0))
    with pytest.raises(ValueError, match="in_channels"):
        vjx.create_model("filter_vit_xs", in_channels=1)

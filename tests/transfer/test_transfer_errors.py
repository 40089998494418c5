"""Pairs and parts that do not fit are refused, and the argument is named."""

from functools import cache, partial

import jax
import numpy as np
import pytest

from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.transfer.forward import transfer_forward

FIELDS = {"image_size": 8, "patch_size": 4, "width": 12, "depth": 2, "num_heads": 2}
STUDENT = VisionTransformer(num_classes=3, **FIELDS)
IMAGES = np.zeros((1, 8, 8, 3), np.float32)


@cache
def shapes_of(model):
    return jax.eval_shape(model.init, jax.random.key(0), IMAGES)


def run(images=IMAGES, student=None, teacher=None, **options):
    """The shapes that come out, or the error, without computing anything."""
    student, teacher = STUDENT.clone(**(student or {})), STUDENT.clone(**(teacher or {}))
    return jax.eval_shape(
        lambda s, t: partial(transfer_forward, **options)(student, s, teacher, t, images),
        shapes_of(student),
        shapes_of(teacher),
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "distil"}, "mode: 'distil' .* did you mean 'distill'"),
        ({"mode": "copy_x"}, "mode: 'copy_x' .* did you mean 'copy_"),
        ({"layers": [2]}, "layers: 2 .* depth 2"),
        ({"layers": [-3]}, "layers: -3 .* depth 2"),
        ({"layers": [1, -1]}, r"layers: expected distinct .* got \(1, -1\)"),
        ({"layers": []}, "layers: .* at least one"),
        ({"heads": [2]}, r"heads: .* from 0 to 1.* got \(2,\)"),
        ({"heads": [-1]}, r"heads: .* got \(-1,\)"),
        ({"heads": [0, 0]}, r"heads: expected distinct .* got \(0, 0\)"),
        ({"heads": []}, "heads: .* at least one"),
        ({"teacher": {"patch_size": 2}}, "teacher: it makes 17 tokens .* student 5"),
        ({"teacher": {"depth": 3}}, "teacher: depth 3 .* student's 2"),
        ({"teacher": {"num_heads": 4}}, "teacher: num_heads 4 .* student's 2"),
        ({"images": IMAGES[0]}, r"images: expected shape \(B, H, W, 3\), got \(8, 8, 3\)"),
        ({"images": IMAGES[0, 0]}, r"images: .* got \(8, 3\)"),
        ({"images": IMAGES[..., :1]}, r"images: .* got \(1, 8, 8, 1\)"),
        ({"images": IMAGES[:, :7]}, "7×8 pixels are not a whole number of 4-pixel patches"),
    ],
)
def test_refused(options, message):
    with pytest.raises(ValueError, match=message):
        run(**options)


WIDE = {"width": 16}


@pytest.mark.parametrize("part", ["q", "k", "v"])
@pytest.mark.parametrize("action", ["copy", "distill"])
def test_tensors_need_heads_of_one_size(action, part):
    with pytest.raises(ValueError, match=f"mode: '{action}_{part}' .* have 8 .* student's 6"):
        run(teacher=WIDE, mode=f"{action}_{part}")


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "distill"},
        {"mode": "distill", "heads": [1], "layers": [0]},
        {"mode": "copy"},
        {"mode": "copy", "layers": [0]},
        {"mode": "copy", "student": {"scan": True}},
        {"mode": "copy", "heads": [1], "materialize": True},
        {"mode": "copy", "layers": [0], "student": {"scan": True}, "materialize": True},
    ],
)
def test_maps_go_between_heads_of_different_sizes(options):
    logits, loss = run(teacher=WIDE, **options)
    assert (logits.shape, loss.shape) == ((1, 3), ())


@pytest.mark.parametrize("options", [{"heads": [1]}, {"layers": [0], "student": {"scan": True}}])
def test_masked_queries_of_another_size_are_refused_with_the_way_out(options):
    with pytest.raises(ValueError, match="mode: 'copy' .* materialize=True"):
        run(teacher=WIDE, mode="copy", **options)

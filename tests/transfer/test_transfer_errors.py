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
    height, width = (side * model.patch_size for side in model.grid)
    return jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, height, width, 3)))


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
        ({"teacher": {"patch_size": 2}}, "teacher: 8×8 pixels .* student's 2×2 patches .* 4×4"),
        (
            {"teacher": {"patch_size": 2, "patch_stride": 1}},
            "teacher: 8×8 pixels .* student's 2×2 patches .* 3×3",
        ),
        ({"student": {"batch_norm": True}, "train": True}, "batch_norm: is for a probe"),
        ({"teacher": {"depth": 3}}, "teacher: depth 3 .* student's 2"),
        ({"teacher": {"num_heads": 4}}, "teacher: num_heads 4 .* student's 2"),
        ({"match_layers": "evn"}, "match_layers: 'evn' .* a tuple of layers; did you mean 'even'"),
        ({"match_layers": 1}, "match_layers: 1 is none of same, even"),
        ({"match_layers": (0,)}, r"match_layers: \(0,\) names 1 .* for 2 of the student's"),
        ({"match_heads": "groups"}, "match_heads: 'groups' .* did you mean 'group'"),
        ({"tokens": "shared"}, "tokens: 'shared' is none of all, common"),
        ({"teacher": {"num_heads": 3}, "match_heads": "group"}, "match_heads: .* 3 of .* and 2 of"),
        ({"teacher": {"registers": 1}}, "teacher: its registers is 1 .* 0.* tokens='common'"),
        ({"teacher": {"distillation_token": True}}, "teacher: its distillation_token is True"),
        (
            # As many tokens, but not the same.
            {"teacher": {"distillation_token": True}, "student": {"registers": 1}},
            "teacher: its distillation_token is True and the student's False",
        ),
        (
            {"student": {"registers": 1}, "mode": "copy", "tokens": "common"},
            "tokens: mode 'copy' .* tokens that the teacher lacks can only distil",
        ),
        (
            {"student": {"registers": 1}, "mode": "copy_q", "tokens": "common"},
            "tokens: mode 'copy_q' .* can only distil",
        ),
        ({"teacher": {"patch_size": 2}, "tokens": "common"}, "teacher: 8×8 pixels .* 2×2 patches"),
        ({"teacher": {"patch_size": 3, "image_size": 6}}, "8×8 pixels .* patch_size 3 give it 6×6"),
        ({"teacher_images": IMAGES[:, :4]}, "teacher: 4×8 pixels .* give it 8×8"),
        ({"teacher_images": IMAGES[0]}, r"teacher_images: expected shape \(1, H, W, 3\), got"),
        ({"teacher_images": np.zeros((2, 8, 8, 3))}, r"teacher_images: .* got \(2, 8, 8, 3\)"),
        ({"teacher_images": IMAGES[..., :1]}, r"teacher_images: .* got \(1, 8, 8, 1\)"),
        (
            {
                "teacher": {"depth": 3},
                "match_layers": "last",
                "share_drop_path": True,
                "train": True,
            },
            "share_drop_path: the teacher has 3 layers and the student 2",
        ),
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


@pytest.mark.parametrize("part", ["q", "k", "v"])
@pytest.mark.parametrize("action", ["copy", "distill"])
@pytest.mark.parametrize("how", ["average", "group"])
def test_tensors_need_their_own_heads(action, part, how):
    with pytest.raises(
        ValueError, match=f"match_heads: '{how}' pairs maps; mode '{action}_{part}'"
    ):
        run(teacher={"num_heads": 4}, mode=f"{action}_{part}", match_heads=how)


def test_other_depths_share_no_branches_but_that_matters_in_training_alone():
    run(teacher={"depth": 3}, match_layers="even", share_drop_path=True, train=False)


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


@pytest.mark.parametrize(
    "fields",
    [
        {"patch_size": 3, "drop_remainder": True},
        {"image_size": 12, "patch_size": 6, "patch_stride": 2},
    ],
)
def test_a_grid_is_what_a_teacher_makes_of_its_images(fields):
    """8 pixels are two patches of 3 without the rest, and two of 6 that overlap."""
    logits, loss = run(teacher=fields)
    assert (logits.shape, loss.shape) == ((1, 3), ())

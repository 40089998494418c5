"""Which blocks and tokens of two networks stand beside each other; no network runs."""

import pytest

import vit_jax_xfer as vjx
from vit_jax_xfer.train.teacher_distance import TeacherDistance
from vit_jax_xfer.train.training_pictures import _looking_alike

SHAPES = ((4, 8, 8, 3),) * 2


def vit(**fields):
    sizes = {"image_size": 8, "patch_size": 4, "width": 8, "num_heads": 2, "num_classes": 2}
    return vjx.VisionTransformer(**{**sizes, "depth": 3, "pool": "avg", **fields})


@pytest.mark.parametrize(
    ("own", "other", "told"),
    [
        ({}, {}, []),
        ({"registers": 1}, {}, ["tokens"]),
        # As many tokens before the patches, but others.
        ({"registers": 1}, {"distillation_token": True}, ["tokens"]),
        ({}, {"class_token": False, "registers": 1}, ["tokens"]),
    ],
)
def test_maps_are_compared_of_the_same_tokens(own, other, told):
    lacking = TeacherDistance(vit(**own), vit(**other), SHAPES).lacking
    assert len(lacking) == len(told)
    assert all(word in text for word, text in zip(told, lacking, strict=True))


def test_blocks_are_paired_as_a_transfer_pairs_them():
    assert TeacherDistance(vit(), vit(depth=4), SHAPES)._layers == (0, 2, 3)


def test_a_filter_networks_features_are_compared_alone():
    student = vjx.create_model("filter_vit_micro", num_classes=2)
    distance = TeacherDistance(student, vit(), ((4, 32, 32, 3), (4, 8, 8, 3)))
    assert distance.lacking == [
        "no explain_jsd: a filter network's blocks have no maps of all tokens"
    ]


def test_a_teacher_is_drawn_as_its_student_is_read():
    teacher = vit(distillation_token=True, distillation_head=True, pool="cls", pool_norm=False)
    student = vjx.create_model("filter_vit_micro", num_classes=2)
    assert _looking_alike(teacher, student) is teacher
    alike = _looking_alike(teacher, vit())
    assert (alike.pool, alike.num_classes, alike.pool_norm) == ("avg", 0, False)
    assert not alike.has_distillation_head and alike.distillation_head is None

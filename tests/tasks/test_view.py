"""The teacher's view of the student's images, as a config's fields and its teacher say."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.native import network
from vit_jax_xfer.models.preprocessing import CLIP, IMAGENET, INCEPTION, Preprocessing
from vit_jax_xfer.tasks.teacher_view import View, view_of
from vit_jax_xfer.tasks.teaching import TeacherSettings
from vit_jax_xfer.transfer.views import Normalisation, teacher_view

STUDENT, TEACHER = network(patch_size=8), network(patch_size=4)
OURS, CLIPS = Normalisation(*IMAGENET), Normalisation(*CLIP)
HALF = "normalize(0.5, 0.5)"


def make(preprocessing=None, data="normalize", evaluation="normalize", unlabeled=None, **settings):
    config = ConfigDict({"data": {"pipeline": data}, "eval": {"pipeline": evaluation}})
    config.unlabeled = {"source": "" if unlabeled is None else "x", "pipeline": unlabeled or ""}
    teacher = TEACHER.clone(preprocessing=preprocessing)
    return view_of(config, TeacherSettings(**settings), STUDENT, teacher, (32, 48, 3))


def test_nothing_asked_for_is_the_very_image():
    images = np.zeros((1, 32, 48, 3), np.float32)
    for view in (View(), make(), make(data="normalize|normalize", evaluation=HALF)):
        assert view == View()
        assert view(images) is images
        assert view.shape((32, 48, 3)) == (32, 48, 3)


@pytest.mark.parametrize(("size", "wanted"), [(0, None), (-1, (16, 24)), (20, (20, 20))])
def test_size(size, wanted):
    view = make(Preprocessing(*CLIP), teacher_image_size=size)
    assert view.size == wanted
    images = np.random.default_rng(0).standard_normal((2, 32, 48, 3)).astype(np.float32)
    made = view(images)
    assert made.shape[1:] == view.shape((32, 48, 3))
    np.testing.assert_array_equal(made, teacher_view(images, OURS, CLIPS, wanted))


def test_whose_normalisation_it_is():
    assert make(Preprocessing(*CLIP)) == View(OURS, CLIPS)
    given = {"teacher_mean": [0.5] * 3, "teacher_std": (0.5,) * 3}
    assert make(Preprocessing(*CLIP), **given).wanted == Normalisation(*INCEPTION)
    assert make(**given).wanted == Normalisation(*INCEPTION)
    assert make(Preprocessing(*CLIP), data=HALF, evaluation=HALF).seen == INCEPTION
    resized = make(teacher_image_size=-1)
    assert resized == View(OURS, None, (16, 24))
    images = np.ones((1, 32, 48, 3), np.float32)
    np.testing.assert_array_equal(resized(images), teacher_view(images, OURS, OURS, (16, 24)))


@pytest.mark.parametrize(
    ("own", "used"), [("bilinear", "bilinear"), ("lanczos", "lanczos"), ("box", "bicubic")]
)
def test_interpolation(own, used):
    assert make(Preprocessing(*CLIP, interpolation=own)).interpolation == used


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"teacher_mean": (0.5,) * 3}, "task.teacher_std: none given"),
        ({"teacher_std": (0.5,) * 3}, "task.teacher_mean: none given"),
        (
            {"teacher_mean": (0.5,), "teacher_std": (0.5,) * 3},
            r"task.teacher_mean: \(0.5,\) are not",
        ),
        ({"teacher_image_size": -2}, "task.teacher_image_size: -2 is no number of pixels"),
        ({"teacher_image_size": 16, "data": "normalize|normalize"}, "data.pipeline: it normalises"),
        (
            {"preprocessing": Preprocessing(*CLIP), "evaluation": HALF},
            "eval.pipeline: it .* otherwise",
        ),
        (
            {"preprocessing": Preprocessing(*CLIP), "unlabeled": HALF},
            "unlabeled.pipeline: it normal",
        ),
    ],
)
def test_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        make(**fields)


def test_an_unlabelled_stream_without_a_pipeline_has_that_of_the_data():
    assert make(Preprocessing(*CLIP), unlabeled="") == View(OURS, CLIPS)

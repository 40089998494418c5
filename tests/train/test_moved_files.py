"""A run goes on where its images or weights have moved, and not with others in their place."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.runs import half_way, shared_program, tiny_config
from vit_jax_xfer.data.objects import Objects
from vit_jax_xfer.data.sources.arrays import ArraySource
from vit_jax_xfer.storage.checkpoints import Checkpoints
from vit_jax_xfer.train import loop
from vit_jax_xfer.train.moved_files import check_moved, digest_of, moved_fields
from vit_jax_xfer.train.workdir import check_workdir, claim_workdir

CLASSES = ("ant", "bee")
PIPELINE = "normalize(0.5, 0.5)"


def make_images(root, seed=0):
    """Two classes of eight images each, for both splits."""
    rng = np.random.default_rng(seed)
    for split in ("train", "test"):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for i in range(8):
                pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return root


def config_of(images, **fields):
    return tiny_config(
        "scratch",
        data__source=f"folder:{images}",
        data__per_class=0,
        data__pipeline=PIPELINE,
        eval__split="test",
        eval__pipeline=PIPELINE,
        checkpoint__every=1,
        checkpoint__keep_last=9,
        **fields,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("moved")
    images = make_images(folder / "images")
    with shared_program():
        loop.run(config_of(images), folder / "run")
        yield folder


def test_images_that_have_moved_are_gone_on_with_and_others_are_not(finished, tmp_path, capsys):
    copy = half_way(finished / "run", tmp_path / "run", 2)
    moved = tmp_path / "elsewhere"
    shutil.copytree(finished / "images", moved)
    with pytest.raises(ValueError, match=r"^data.source: its images are not those with which"):
        loop.run(config_of(make_images(tmp_path / "others", seed=1)), copy)
    stored = json.loads((copy / "config.json").read_text())
    assert stored["data"]["source"] == f"folder:{finished / 'images'}"  # nothing was written
    capsys.readouterr()
    assert loop.run(config_of(moved), copy)["finished"]
    assert "data.source: the same images as before, in another place" in capsys.readouterr().out
    with Checkpoints(finished / "run" / "checkpoints") as a, Checkpoints(copy / "checkpoints") as b:
        assert a.extra(3)["contents"] == b.extra(3)["contents"]


def test_without_a_checkpoint_that_tells_other_paths_are_refused(finished, tmp_path):
    folder, moved = tmp_path / "run", tmp_path / "elsewhere"
    claim_workdir(folder, config_of(finished / "images"))
    (folder / "result.json").write_text('{"finished": true, "metrics": {}}')
    with pytest.raises(ValueError, match="workdir: .* other settings .data.source"):
        check_workdir(str(folder), config_of(moved))
    (folder / "checkpoints" / "3").mkdir(parents=True)
    assert check_workdir(str(folder), config_of(moved)) == folder
    assert moved_fields(folder, config_of(moved)) == ("data.source",)
    assert moved_fields(folder, config_of(finished / "images", init_from="x")) == ("init_from",)
    assert moved_fields(tmp_path / "none", config_of(moved)) == ()
    with pytest.raises(ValueError, match="workdir: .* other settings .data.split"):
        check_workdir(str(folder), config_of(moved, data__split="test"))


@pytest.mark.parametrize(
    ("field", "before", "now", "said"),
    [
        ("data.source", {}, {"data.source": "a"}, "checkpoint doesn't say what lay there"),
        ("data.source", {"data.source": "a"}, {"data.source": "b"}, "its images are not those"),
        ("init_from", {"init_from": "a"}, {"init_from": "b"}, "its weights are not those"),
        ("init_from", {"init_from": "a"}, {}, "its weights are not those"),
        ("unlabeled.source", {"unlabeled.source": "a"}, {}, "its images are not those"),
    ],
)
def test_what_is_not_the_same_is_named(field, before, now, said):
    with pytest.raises(ValueError, match=f"^{field}: .*{said}"):
        check_moved((field,), before, now)


def test_the_same_is_said(capsys):
    check_moved((), {}, {"data.source": "a"})
    assert capsys.readouterr().out == ""
    check_moved(("init_from",), {"init_from": "a"}, {"init_from": "a"})
    assert "init_from: the same weights as before, in another place" in capsys.readouterr().out


def source(**changes):
    images = (np.arange(40 * 4 * 4 * 3) % 251).astype(np.uint8).reshape(40, 4, 4, 3)
    fields = {"images": images, "all_labels": np.arange(40) % 2, "class_names": CLASSES}
    return ArraySource(**{**fields, "name": "here", **changes})


def test_what_tells_images_from_others():
    usual = digest_of(source())
    assert digest_of(source(name="there")) == usual
    noisy = source().images.copy()
    noisy[..., 0] ^= 1
    labels = source().all_labels.copy()
    labels[17] = 1 - labels[17]
    for changes in (
        {"images": noisy},
        {"all_labels": labels},
        {"class_names": CLASSES[::-1]},
        {"images": source().images[:39], "all_labels": labels[:39]},
    ):
        assert digest_of(source(**changes)) != usual


class Boxes(ArraySource):
    """Images with an object each, whose box is `side` pixels wide."""

    side = 2.0

    def __getitem__(self, index):
        box = np.array([[0.0, 0.0, self.side, 2.0]])
        one = np.zeros(1)
        found = Objects(box, one.astype(np.int32), one > 0, one > 0, one, (None,))
        return {**super().__getitem__(index), "objects": found}


def test_objects_are_part_of_it():
    arrays = source()
    given = (arrays.images, arrays.all_labels, arrays.class_names, "here")
    wide = Boxes(*given)
    wide.side = 3.0
    assert len({digest_of(one) for one in (arrays, Boxes(*given), wide)}) == 3


def test_a_broken_image_is_left_to_the_stream(tmp_path):
    class Broken(ArraySource):
        def __getitem__(self, index):
            if index == 0:
                raise ValueError("broken")
            return super().__getitem__(index)

    arrays = source()
    given = (arrays.images, arrays.all_labels, arrays.class_names, "here")
    assert digest_of(Broken(*given)) not in ("", digest_of(arrays))

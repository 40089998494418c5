"""A few fixed cases of every reader, and hostile files by hand; `python -m tests.fuzz` has more."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.fuzz.all_readers import ALL_READERS
from tests.fuzz.layouts import SPAIR, VOC
from tests.fuzz.watch import fault_of
from vit_jax_xfer.command_line.config_flag import fail
from vit_jax_xfer.data.transforms import parse
from vit_jax_xfer.evaluate.correspondence.keypoint_layouts import open_pairs
from vit_jax_xfer.evaluate.objects.box_layouts import open_boxes
from vit_jax_xfer.evaluate.videos.video_layouts import open_videos

CASES = {"preparation": 2, "config_override": 2, "model_folder": 2, "checkpoint": 2}
USUAL = 8
SEED = 1


@pytest.mark.parametrize("name", ALL_READERS)
def test_bad_files_are_one_line(name):
    if name == "pth":
        pytest.importorskip("torch")
    for number in range(CASES.get(name, USUAL)):
        fault = fault_of(name, SEED, number)
        assert fault is None, f"python -m tests.fuzz --seed={SEED} --only={name}:{number}: {fault}"


def one_line(match, function, *given):
    with pytest.raises(ValueError, match=match) as caught:
        function(*given)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["../outside.jpg", "{folder}/outside.jpg", "a/../../outside.jpg"])
def test_names_in_annotations_stay_inside_their_folder(name, tmp_path):
    name = name.format(folder=tmp_path)
    inside = tmp_path / "data" / "JPEGImages" / "cat"
    inside.mkdir(parents=True)
    for file in (tmp_path / "outside.jpg", tmp_path / "data/outside.jpg", inside / "1.jpg"):
        Image.new("RGB", (20, 14)).save(file)
    Image.new("RGB", (20, 14)).save(tmp_path / "data/JPEGImages/outside.jpg")

    listed = tmp_path / "instances.json"
    listed.write_text(json.dumps({"images": [{"id": 0, "file_name": name}], "annotations": []}))
    one_line("cat/outside.jpg: .* no such file", open_boxes, f"coco:{listed}:{inside}")

    pairs = tmp_path / "data" / "PairAnnotation" / "test"
    pairs.mkdir(parents=True)
    (pairs / "0.json").write_text(json.dumps({**SPAIR, "src_imname": name, "trg_imname": "1.jpg"}))
    one_line("no name of a file inside|cat.*is missing", open_pairs, f"spair:{tmp_path / 'data'}")


@pytest.mark.parametrize("name", ["..", "../../other", "/other"])
def test_names_in_lists_stay_inside_their_folder(name, tmp_path):
    (tmp_path / "JPEGImages" / "480p").mkdir(parents=True)
    (tmp_path / "ImageSets" / "2017").mkdir(parents=True)
    (tmp_path / "ImageSets" / "2017" / "val.txt").write_text(name + "\n")
    one_line("val.txt", open_videos, f"davis2017:{tmp_path}")
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "ImageSets" / "Main").mkdir()
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text(name + "\n")
    one_line("val.txt", open_boxes, f"voc:{tmp_path}:val")


def test_entities_that_grow_are_refused(tmp_path):
    """A billion laughs: a few lines of XML that would expand to gigabytes."""
    levels = [f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12)]
    head = f'<!DOCTYPE x [<!ENTITY a0 "laugh">{"".join(levels)}]>'
    (tmp_path / "Annotations").mkdir()
    text = VOC.replace("<annotation>", f"{head}<annotation>").replace("dog", "&a11;")
    (tmp_path / "Annotations" / "0.xml").write_text(text)
    one_line("is not XML", open_boxes, f"voc:{tmp_path}")


def test_nesting_without_end_is_refused(tmp_path):
    (tmp_path / "instances.json").write_text('{"images": ' + "[" * 100_000)
    one_line("instances.json", open_boxes, f"coco:{tmp_path / 'instances.json'}:{tmp_path}")
    for text in ("(" * 300, "flip|" * 5_000 + "flip", "-" * 100_000 + "1", "resize(\x00)"):
        one_line("pipeline", parse, text)


@pytest.mark.parametrize(
    "text",
    ["resize(10**5)", "resize(100000)", "center_crop((60000, 60000))", "random_crop(8, 50000)"],
)
def test_sizes_without_bound_are_refused(text):
    one_line("pipeline: ", parse, text)


def test_numbers_of_any_size_are_refused():
    for text in (
        "normalize(1e999, 0.5)",
        "color_jitter(1e999)",
        "random_resized_crop(8, (1, 1e999))",
    ):
        one_line("pipeline", parse, text)


def test_a_picture_of_one_row_is_not_blown_up():
    row = {"image": np.zeros((1, 60_000, 3), np.uint8), "label": 0}
    one_line("256×15360000 pixels", parse("resize(256)"), row, np.random.default_rng(0))


def test_long_lines_of_errors_are_cut(capsys):
    assert fail("x" * 10_000) == 1
    assert len(capsys.readouterr().err) < 5_000
    pixels = np.zeros((9, 8, 3), np.uint8)
    assert np.isfinite(
        parse("normalize")({"image": pixels}, np.random.default_rng(0))["image"]
    ).all()

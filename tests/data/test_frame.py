"""Boxes and maps of classes go where the image goes, through every op."""

import numpy as np
import pytest
from PIL import Image

from vit_jax_xfer.data import operations, parse_pipeline
from vit_jax_xfer.data.frame import Frame, cropped, mirrored, resized
from vit_jax_xfer.data.objects import NO_OBJECTS, Objects
from vit_jax_xfer.data.operations import Geometric
from vit_jax_xfer.data.target_arrays import TargetForm

HEIGHT, WIDTH = 45, 70
BOX = (12, 8, 40, 30)  # xyxy
GEOMETRIC = {
    "center_crop": "center_crop((38, 80))",
    "flip": "flip",
    "lsj": "lsj(48, 0.5, 2.0)",
    "random_crop": "random_crop(40, padding=8)",
    "random_resize": "random_resize(0.5, 2.0, short=40, long=60)",
    "random_resized_crop": "random_resized_crop(48, area=(0.3, 1.0))",
    "resize": "resize((31, 53))",
    "resize_pad": "resize_pad((64, 50))",
}
TOGETHER = "lsj(48, 0.5, 2.0)|flip|center_crop(60)|random_crop(50)|resize((32, 36))|flip"


def example():
    """A black photograph with one white object, its box and its map of classes."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 1
    image = np.repeat(labels[..., None] * 255, 3, axis=-1)
    ring = np.array([(x, y) for x in BOX[::2] for y in BOX[1::2]], float)[[0, 1, 3, 2]]
    objects = Objects(np.array([BOX], float), np.array([4]), np.zeros(1, bool), np.zeros(1, bool),
                      np.ones(1), ((ring,),))  # fmt: skip
    return {"image": image, "label": -1, "objects": objects, "label_map": labels}


def test_every_geometric_op_is_tried():
    known = [name for name in operations.names() if issubclass(operations._OPS[name], Geometric)]
    assert sorted(GEOMETRIC) == known


@pytest.mark.parametrize("pipeline", [*GEOMETRIC.values(), TOGETHER])
def test_targets_lie_on_what_they_are_of(pipeline):
    for seed in range(12):
        boxed = parse_pipeline(pipeline, TargetForm(max_boxes=2))(
            example(), np.random.default_rng(seed)
        )
        mapped = parse_pipeline(pipeline, TargetForm("label_map"))(
            example(), np.random.default_rng(seed)
        )
        np.testing.assert_array_equal(boxed["image"], mapped["image"])
        white = boxed["image"][..., 0] > 0.75
        rows, columns = np.nonzero(white)
        if boxed["box_labels"][0] < 0 or not len(rows):
            assert white.sum() < 40  # cut away, but for a sliver
            continue
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(boxed["boxes"][0], found, atol=1.5)
        assert boxed["box_labels"].tolist() == [4, -1] and not boxed["boxes"][1].any()
        # A pixel either way at each edge of the object.
        assert ((mapped["label_map"] == 1) != white).sum() <= 2 * (
            np.ptp(rows) + np.ptp(columns) + 4
        )
        height, width = boxed["content"]
        inside = np.zeros(white.shape, bool)
        inside[: round(float(height)), : round(float(width))] = True
        assert (mapped["label_map"] == 255)[~inside].all()
        assert (mapped["label_map"] != 255)[inside].mean() > 0.9
        assert boxed["original"].tolist() == [HEIGHT, WIDTH]


def test_an_image_is_the_same_with_and_without_targets():
    for pipeline in (*GEOMETRIC.values(), "resize(40)|center_crop(32)|normalize"):
        plain = parse_pipeline(pipeline)(example(), np.random.default_rng(3))
        assert set(plain) == {"image", "label"}
    kept = parse_pipeline("random_resized_crop(48)|flip|normalize")
    boxed = parse_pipeline("random_resized_crop(48)|flip|normalize", TargetForm())
    images = [one(example(), np.random.default_rng(1))["image"] for one in (kept, boxed)]
    np.testing.assert_array_equal(*images)


def test_a_map_is_as_pillow_makes_it():
    labels = np.random.default_rng(0).integers(0, 9, (HEIGHT, WIDTH), dtype=np.uint8)
    frame = Frame.of(HEIGHT, WIDTH).then(resized((HEIGHT, WIDTH), (94, 52)))
    whole = np.asarray(Image.fromarray(labels).resize((52, 94), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(frame.label_map(labels, 255), whole)
    cut = frame.then(cropped(-3, 20, 40, 40)).then(mirrored(40, 40)).label_map(labels, 255)
    np.testing.assert_array_equal(cut[3:, 8:], whole[:37, 20:][:, ::-1])
    assert (cut[:3] == 255).all() and (cut[:, :8] == 255).all()


def test_what_an_op_cut_off_does_not_come_back():
    frame = Frame.of(20, 20).then(cropped(5, 5, 10, 10)).then(cropped(-5, -5, 20, 20))
    assert frame.seen == (5, 5, 15, 15)
    assert (frame.label_map(np.zeros((20, 20), np.uint8), 255) == 0).sum() == 100


def test_boxes_come_back():
    frame = Frame.of(20, 30).then(resized((20, 30), (50, 40))).then(mirrored(50, 40))
    boxes = np.array([[3.0, 4, 10, 15]])
    np.testing.assert_allclose(frame.inverse_boxes(frame.boxes(boxes)), boxes)


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        (
            "rand_augment|normalize",
            "rand_augment in .* can't take boxes or masks along: it doesn't",
        ),
        ("trivial_augment", "trivial_augment in"),
        ("random_crop(8, padding=2, reflect=True)", "random_crop in .*: reflect=True shows parts"),
    ],
)
def test_an_op_that_loses_places_is_refused_by_name(pipeline, message):
    with pytest.raises(ValueError, match=message):
        parse_pipeline(pipeline, TargetForm())
    parse_pipeline(pipeline)


def test_an_evaluation_shows_whole_photographs():
    form = TargetForm(whole=True)
    empty = {**example(), "objects": NO_OBJECTS}
    for pipeline in ("resize_pad(64)", "resize((30, 40))", "normalize"):
        parse_pipeline(pipeline, form)(empty, np.random.default_rng(0))
    for pipeline in ("resize(32)|center_crop(32)", "flip|flip|flip", "lsj(64, 1.5, 2.0)"):
        with pytest.raises(ValueError, match="evaluate with resize_pad"):
            parse_pipeline(pipeline, form)(empty, np.random.default_rng(1))


def test_a_crop_is_drawn_again_while_one_class_has_too_much():
    ids = np.zeros((40, 400), np.uint8)
    ids[:, 300:] = 1
    ids[:20, 300:] = 255
    given = {"image": np.zeros((40, 400, 3), np.uint8), "label": -1, "label_map": ids}

    def shares(pipeline):
        one = parse_pipeline(pipeline, TargetForm("label_map"))
        maps = (one(given, np.random.default_rng(seed))["label_map"] for seed in range(40))
        return [np.mean(classes[classes != 255] == 0) for classes in maps]

    plain, again = shares("random_crop(40)"), shares("random_crop(40, most_of_one=0.75)")
    mixed = [np.mean([0.25 < share < 0.75 for share in found]) for found in (plain, again)]
    assert mixed[0] < 0.2 and mixed[1] > 2 * mixed[0]
    # As before where nothing is known of classes, and to the last draw where all is mixed.
    without = parse_pipeline("random_crop(40, most_of_one=0.75)|flip")
    usual = parse_pipeline("random_crop(40)|flip")
    image = {"image": np.random.default_rng(0).integers(0, 256, (40, 400, 3), dtype=np.uint8)}
    images = [one(image, np.random.default_rng(2))["image"] for one in (without, usual)]
    np.testing.assert_array_equal(*images)

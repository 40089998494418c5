"""vjx.augment: every reference output of the recipes, to the byte, and 1e-6 for floats."""

import json

import numpy as np
import PIL
import pytest

import vit_jax_xfer as vjx
from vit_jax_xfer.data.augment_operations import OPERATIONS
from vit_jax_xfer.data.geometry import box_size
from vit_jax_xfer.data.images import as_pil
from vit_jax_xfer.data.pixels import Normalize
from vit_jax_xfer.data.random_erasing import erased_size, fits

# Which of its two passes a resize begins with, and so rounds first, changed in Pillow 13.
SAME_PASSES = int(PIL.__version__.split(".")[0]) >= 13


@pytest.fixture(scope="module")
def recipes(shared):
    """name → its cases, and their arrays."""
    folder = shared / "golden/recipes"

    def read(name):
        return json.loads((folder / f"{name}.json").read_text()), np.load(folder / f"{name}.npz")

    return read


def test_rand_augment(recipes):
    cases, arrays = recipes("augment_ops")
    assert len(cases["randaugment"]) == 93
    for case in cases["randaugment"]:
        # References without an interpolation are of operations that move no pixel.
        found = vjx.augment.rand_augment_op(
            arrays[case["source"]],
            case["op"],
            case["magnitude"],
            negate=case["negated"],
            interpolation=case["interpolation"] or "bicubic",
            fill=tuple(case["fill"] or (0, 0, 0)),
        )
        np.testing.assert_array_equal(found, arrays[case["key"]], err_msg=str(case))


def test_magnitudes(recipes):
    cases, _ = recipes("augment_ops")
    for case in cases["randaugment_levels"]:
        _, argument, signed = OPERATIONS[case["op"]]
        value = argument(case["magnitude"])
        turned = -value if signed else None
        if case["op"].endswith("Increasing") and signed:  # a change of a factor of 1
            value, turned = max(0.1, 1 + value), max(0.1, 1 + turned)
        assert (value, turned) == (case["arg"], case["arg_negated"]), case


def test_crops(recipes):
    cases, arrays = recipes("crops")
    for case in cases["rrc"]:
        found = vjx.augment.crop_resize(
            arrays[case["source"]],
            *(case[side] for side in "ijhw"),
            tuple(case["size"]),
            case["interpolation"],
        )
        if SAME_PASSES or case["pillow13_pass_order"] == "horizontal_first":
            np.testing.assert_array_equal(found, arrays[case["key"]], err_msg=str(case))
    for case in cases["rrc_accept"]:
        share, log_ratio = case["area_fraction"], case["log_ratio"]
        assert box_size(case["h"], case["w"], share, log_ratio) == (case["crop_h"], case["crop_w"])


def test_erasing(recipes):
    cases, arrays = recipes("batch_ops")
    channels_last = arrays[cases["erase_input"]].transpose(1, 2, 0)
    for case in cases["erase"]:
        box = (case["top"], case["left"], case["h"], case["w"])
        noise = arrays[case["noise"]].transpose(1, 2, 0)
        found = vjx.augment.erase(channels_last, *box, noise)
        np.testing.assert_array_equal(found.transpose(2, 0, 1), arrays[case["out"]])
    for case in cases["erase_size_rule"]:
        size = (case["img_h"], case["img_w"])
        box = erased_size(*size, case["area_fraction"], case["log_aspect"])
        assert box == (case["h"], case["w"])
        assert fits(*size, *box) == case["accept"]


def test_mixing(recipes):
    cases, arrays = recipes("batch_ops")
    images = arrays["x"].transpose(0, 2, 3, 1)
    for case in cases["mix"]:
        found = vjx.augment.mix(
            images,
            arrays["y"],
            case["num_classes"],
            case["lam"],
            case["cutmix"],
            case["boxes_yl_yh_xl_xh"] or (),
            case["mode"],
            case["smoothing"],
        )
        wanted = arrays[case["x_key"]].transpose(0, 2, 3, 1)
        np.testing.assert_allclose(found.images, wanted, atol=1e-6, err_msg=str(case))
        np.testing.assert_allclose(found.targets, arrays[case["y_key"]], atol=1e-6)


def test_boxes_of_cutmix(recipes):
    cases, _ = recipes("batch_ops")
    for case in cases["cutmix_box_rule"]:
        for rule, name in (("timm", "timm_1_0_31"), ("timm_0_3_2", "timm_0_3_2")):
            given = (case["h"], case["w"], case["lam"], case["cy"], case["cx"])
            box, lam = vjx.augment.cutmix_box(*given, rule=rule)
            assert list(box) == case[f"box_{name}"], case
            assert lam == pytest.approx(case[f"lam_{name}"], abs=1e-12)


def test_a_whole_recipe_with_given_draws(recipes):
    """Crop, flip, two operations, normalisation, erasing."""
    cases, arrays = recipes("batch_ops")
    for case in cases["pipeline"]:
        box, size = case["crop_ijhw"], case["size"]
        image = vjx.augment.crop_resize(arrays[case["source"]], *box, size)
        image = as_pil(image[:, ::-1] if case["flip"] else image)
        for op, arguments in case["ops"]:
            run = OPERATIONS[op].run
            value = arguments[0] if arguments else 0.0
            if op.endswith("Increasing"):
                value -= 1
            if isinstance(run, str):
                image = as_pil(vjx.augment.rand_augment_op(image, op, *magnitude_of(op, value)))
            else:
                image = run(image, value)
        np.testing.assert_array_equal(np.asarray(image), arrays[case["uint8"]])
        result = Normalize()(np.asarray(image), None)
        if case["erase_tlhw"]:
            noise = arrays[case["noise"]].transpose(1, 2, 0)
            result = vjx.augment.erase(result, *case["erase_tlhw"], noise)
        np.testing.assert_allclose(result.transpose(2, 0, 1), arrays[case["out"]], atol=1e-6)


def magnitude_of(op, value):
    """(magnitude, negate) at which an operation's argument is this one."""
    one = OPERATIONS[op].argument(1.0)
    return round(abs(value) / one, 9), value < 0


def mix_two(image, labels, **given):
    return vjx.augment.mix([image] * 2, labels, 3, **{"lam": 0.5, **given})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda image: vjx.augment.rand_augment_op(image, "Rotat", 9), "op: got 'Rotat'"),
        (lambda image: vjx.augment.rand_augment_op(image / 255, "Rotate", 9), "works on bytes"),
        (
            lambda image: vjx.augment.trivial_augment_op(image, "Turn", 9),
            "op: got 'Turn'",
        ),
        (
            lambda image: vjx.augment.crop_resize(image, 0, 0, 9, 4, 8),
            "a box inside of 8x8",
        ),
        (lambda image: vjx.augment.erase(image, 4, 4, 5, 1, 0.0), "a box inside of 8x8"),
        (lambda image: vjx.augment.mix(image[None], [1], 3, 0.5), "got 1, expected an even number"),
        (lambda image: vjx.augment.mix([image] * 2, [0, 1], 3, [1, 1]), "lam: got 2, expected 1"),
        (lambda image: vjx.augment.mix([image] * 2, [0, 1], 3, 1, True), "boxes: got 0, expected"),
        (lambda image: vjx.augment.mix(image, [0, 1], 3, 1), "images: got"),
        (lambda image: mix_two(image, [0, 3]), "labels: got 0 to 3, expected classes from 0 to 2"),
        (lambda image: mix_two(image, [0, -1]), "labels: got -1 to 0, expected classes"),
        (lambda image: mix_two(image, [0]), r"labels: got int32 \(1,\), expected a whole number"),
        (lambda image: mix_two(image, [0.0, 1.0]), r"labels: got float32 \(2,\), expected"),
        (lambda image: mix_two(image, [0, 1], lam=1.5), r"lam: got \[1.5\], expected a share"),
        (lambda image: mix_two(image, [0, 1], smoothing=-1), "smoothing: got -1, expected a share"),
        (
            lambda image: mix_two(image, [0, 1], cutmix=True, boxes=[(0, 9, 0, 1)]),
            r"boxes: got \(0, 9, 0, 1\), expected .* inside of 8x8",
        ),
        (lambda image: vjx.augment.cutmix_box(8, 8, 0.5, 4, 4, "new"), "rule: got 'new', expected"),
        (lambda image: vjx.augment.cutmix_box(8, 8, -1, 4, 4), "lam: got -1, expected a share"),
        (lambda image: vjx.augment.cutmix_box(8, 8, 0.5, 4.5, 4), "cy: got 4.5, expected a whole"),
        (
            lambda image: mix_two(image, [0, 1], cutmix=True, boxes=[(0, 1.5, 0, 1)]),
            "boxes: got float64, expected whole numbers of pixels",
        ),
        (lambda image: vjx.augment.erase(image, 0.5, 0, 1, 1, 0.0), "top: got 0.5, expected a w"),
        (lambda image: vjx.augment.crop_resize(image, 0, 0, 2.5, 4, 8), "height: got 2.5, expec"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.zeros((8, 8, 3), np.uint8))

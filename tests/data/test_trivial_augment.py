"""trivial_augment: pixels equal to torchvision's, what is drawn, forms of images, error texts."""

import json
import pickle
import zlib
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from vit_jax_xfer.data import parse_pipeline, trivial_augment
from vit_jax_xfer.data.trivial_augment import OPS, TrivialAugment, apply, strength_of

# torchvision 0.28.0's `_apply_op` on `picture()` at its 31 bins in order, nearest, no fill: CRC-32
# of all bytes, then the same with the signs turned. Pillow 10.0 to 13.0 give these alike.
REFERENCE = {
    "Identity": (0x87092FFE,),
    "ShearX": (0x6F51A5E, 0xEED3EC0E),
    "ShearY": (0x1114E047, 0x4777135),
    "TranslateX": (0x5B1FBEB, 0x2A8C5AC3),
    "TranslateY": (0x6FB73FDF, 0xC2C1B05B),
    "Rotate": (0x80285344, 0x7334A65D),
    "Brightness": (0x83AD6B49, 0x16FACE7E),
    "Color": (0x3A794D02, 0x23CADC6),
    "Contrast": (0x581E7C6B, 0xA5EBCAE9),
    "Sharpness": (0x2D0800ED, 0xB6A2E23E),
    "Posterize": (0xEC7E3CEF,),
    "Solarize": (0x9B39BE3A,),
    "AutoContrast": (0x5D1EB849,),
    "Equalize": (0xBAD25046,),
}
PIXEL = Image.new("RGB", (1, 1), (7, 7, 7))
WITHOUT_STRENGTH = ("Identity", "AutoContrast", "Equalize")


def picture():
    """40 x 56 pixels of edges, slopes and texture, levels 20 to 209."""
    y, x = np.mgrid[:40, :56]
    edges = 90 + 40 * np.sign(x - 20) * np.sign(y - 25) + (x * x + y) % 29
    planes = (3 * x + 2 * y, 5 * y + x * y // 7, edges)
    return Image.fromarray(np.stack([20 + p % 190 for p in planes], -1).astype(np.uint8))


class Script:
    """An rng whose `integers` are those listed; keeps the bounds it was asked for."""

    def __init__(self, *integers):
        self.listed, self.bounds = list(integers), []

    def integers(self, bound):
        self.bounds.append(bound)
        return self.listed.pop(0)


@pytest.mark.parametrize("negative", [0, 1])
@pytest.mark.parametrize("op", REFERENCE)
def test_pixels_of_every_bin(op, negative):
    crc = 0
    for bin_index in range(1 if op in WITHOUT_STRENGTH else 31):
        rng = Script(list(REFERENCE).index(op), bin_index, negative)
        crc = zlib.crc32(np.asarray(TrivialAugment()(picture(), rng)).tobytes(), crc)
        assert rng.bounds == [14, 31, 2]
    signed = len(REFERENCE[op]) == 2
    assert crc == REFERENCE[op][negative if signed else 0]
    assert not signed or REFERENCE[op][0] != REFERENCE[op][1]


def test_reference_outputs(shared):
    """Other pictures, a bilinear filter, and the strengths themselves."""
    folder = shared / "golden/recipes"
    table = json.loads((folder / "augment_ops.json").read_text())
    arrays = np.load(folder / "augment_ops.npz")
    for op, entry in table["trivialaugmentwide_space"].items():
        values = entry["values"] or [0.0] * 31
        assert [strength_of(op, k, 31) for k in range(31)] == values
        assert OPS[op][2] == entry["signed"]
    assert list(OPS) == list(table["trivialaugmentwide_space"])
    assert len(table["trivialaugmentwide"]) == 77
    for case in table["trivialaugmentwide"]:
        source = Image.fromarray(arrays[case["source"]])
        got = apply(source, case["op"], case["magnitude"], case["interpolation"] or "nearest")
        np.testing.assert_array_equal(np.asarray(got), arrays[case["key"]], case["key"])


def test_strengths():
    # Not 16, which it is in real numbers: torch.linspace has it so, and one pixel hangs on it.
    assert strength_of("TranslateX", 15, 31) == np.float32(15.999999)
    assert [strength_of("Posterize", k, 31) for k in (0, 2, 3, 12, 13, 30)] == [8, 8, 7, 6, 5, 2]
    assert [strength_of("Posterize", k, 13) for k in range(5)] == [8, 8, 7, 6, 6]  # half to even
    assert [strength_of("Solarize", k, 3) for k in range(3)] == [255, 127.5, 0]
    assert [strength_of("Rotate", k, 2) for k in range(2)] == [0, 135]


def test_directions():
    """Positive: right and down, counter-clockwise, and slopes around the top left corner."""
    image = np.zeros((9, 9, 3), np.uint8)
    image[4, 6] = 255
    places = {
        ("TranslateX", 2.9): (4, 8),
        ("TranslateX", -2.9): (4, 4),
        ("TranslateY", 3.0): (7, 6),
        ("Rotate", 90.0): (2, 4),
        ("ShearX", 0.5): (4, 4),
        ("ShearY", 0.5): (1, 6),
    }
    for (op, strength), place in places.items():
        got = np.asarray(apply(Image.fromarray(image), op, strength))
        assert [tuple(p) for p in np.argwhere(got[..., 0])] == [place], op


def test_fill_and_interpolation():
    grey, colour = (np.asarray(apply(picture(), "TranslateX", 5.0, fill=f)) for f in (7, (1, 2, 3)))
    assert (grey[:, :5] == 7).all() and (colour[:, :5] == (1, 2, 3)).all()
    np.testing.assert_array_equal(grey[:, 5:], np.asarray(picture())[:, :-5])
    turned = np.asarray(apply(picture(), "Rotate", 45.0, fill=(1, 2, 3)))
    assert turned[0, 0].tolist() == [1, 2, 3]
    op = parse_pipeline("trivial_augment(num_bins=4, interpolation='bicubic', fill=9)").ops[0]
    rng = Script(5, 1, 0)
    assert op(picture(), rng) == apply(picture(), "Rotate", 45.0, "bicubic", 9)
    assert rng.bounds == [14, 4, 2]


def test_what_is_drawn_is_drawn_evenly(monkeypatch):
    calls = []
    noted = lambda image, op, value, *_: calls.append((op, value))  # noqa: E731
    monkeypatch.setattr(trivial_augment, "apply", noted)
    rng, count = np.random.default_rng(0), 42_000
    for _ in range(count):
        TrivialAugment()(PIXEL, rng)
    assert_even(Counter(op for op, _ in calls), set(OPS), count)
    for op, (_, _, signed) in OPS.items():
        found = Counter(value for name, value in calls if name == op)
        if op in WITHOUT_STRENGTH:
            assert set(found) == {0}
        elif op == "Posterize":
            assert set(found) == set(range(2, 9))
        else:
            values = {strength_of(op, k, 31) for k in range(31)}
            sizes = Counter(abs(value) for value in found.elements())
            assert_even(sizes, values, found.total())
            negative = sum(1 for value in found.elements() if np.signbit(value))
            assert abs(negative / found.total() - signed / 2) < 0.05


def assert_even(counts, names, total):
    """Every name as often as the others, within five standard deviations."""
    assert set(counts) == names
    expected = total / len(names)
    assert max(abs(n - expected) for n in counts.values()) < 5 * np.sqrt(expected)


def test_all_randomness_is_the_generators():
    op = TrivialAugment()
    results = [np.asarray(op(picture(), np.random.default_rng(seed))) for seed in range(30)]
    again = [np.asarray(op(picture(), np.random.default_rng(seed))) for seed in range(30)]
    np.testing.assert_array_equal(results, again)
    assert len({result.tobytes() for result in results}) > 20


def test_later_draws_do_not_depend_on_the_operation():
    for seed in range(40):
        rng, same = np.random.default_rng(seed), np.random.default_rng(seed)
        TrivialAugment()(PIXEL, rng)
        for bound in (14, 31, 2):
            same.integers(bound)
        assert rng.random() == same.random()


@pytest.mark.parametrize("op", OPS)
def test_arrays_pictures_and_single_pixels(op):
    array = np.asarray(picture())
    before = array.copy()
    for bin_index, negative in ((7, 0), (30, 1)):
        draws = (list(OPS).index(op), bin_index, negative)
        of_array = TrivialAugment()(array[:, ::-1], Script(*draws))
        of_picture = TrivialAugment()(Image.fromarray(array[:, ::-1]), Script(*draws))
        np.testing.assert_array_equal(np.asarray(of_array), np.asarray(of_picture))
        assert of_array.size == (56, 40)
        assert TrivialAugment()(PIXEL, Script(*draws)).size == (1, 1)
    np.testing.assert_array_equal(array, before)


def test_in_a_pipeline():
    pipeline = parse_pipeline("random_resized_crop(24)|flip|trivial_augment|normalize(0.5, 0.5)")
    copy = pickle.loads(pickle.dumps(pipeline))
    assert copy.ops == pipeline.ops and pipeline.ops[2] == TrivialAugment(31, "nearest", 0)
    for seed in range(20):
        example = {"image": np.asarray(picture()), "label": 3}
        got, same = (p(example, np.random.default_rng(seed))["image"] for p in (pipeline, copy))
        assert got.shape == (24, 24, 3) and got.dtype == np.float32 and abs(got).max() <= 1
        np.testing.assert_array_equal(got, same)


@pytest.mark.parametrize("seed", range(8))
def test_floats_are_refused_whatever_is_drawn(seed):
    message = "pipeline: .*got float32, expected uint8: put it before to_float and normalize"
    with pytest.raises(ValueError, match=message):
        parse_pipeline("to_float|trivial_augment")(
            {"image": np.asarray(picture())}, np.random.default_rng(seed)
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("1", "num_bins: got 1, expected an int of 2 or more; signature: trivial_augment.num_bins"),
        ("31.0", "num_bins: got 31.0"),
        ("interpolation='box'", "interpolation: got 'box', expected one of nearest, bilinear, bic"),
        ("fill=256", "fill: got 256, expected an int from 0 to 255 or three"),
        ("fill=(1, 2)", r"fill: got \(1, 2\)"),
        ("fill=0.5", "fill: got 0.5"),
        ("magnitude=9", "unexpected keyword argument 'magnitude'"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        parse_pipeline(f"trivial_augment({arguments})")


def test_an_unknown_operation():
    with pytest.raises(ValueError, match="op: got 'Invert', expected one of Identity, ShearX"):
        apply(picture(), "Invert", 0.0)

"""rand_augment: timm's policy strings, what is drawn how often, images of 0 bits."""

import pickle
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from vit_jax_xfer.data import parse_pipeline, rand_augment
from vit_jax_xfer.data.augment_operations import OPERATIONS, rand_augment_op
from vit_jax_xfer.data.rand_augment import SETS, RandAugment, parse_policy

PIXEL = Image.new("RGB", (1, 1), (7, 7, 7))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rand", {}),
        ("rand-m9-mstd0.5-inc1", {"magnitude": 9, "deviation": 0.5, "operations": SETS["inc"]}),
        ("rand-inc0-m7-n3-p0.25", {"magnitude": 7, "layers": 3, "probability": 0.25}),
        ("rand-m15-mmax20", {"magnitude": 15, "most": 20}),
        ("rand-mstd101", {"deviation": np.inf}),
        ("rand-mstdinf", {"deviation": np.inf}),
        ("rand-t3a-inc1", {"operations": SETS["3a"]}),
    ],
)
def test_policies(text, said):
    usual = {"operations": SETS[""], "weights": None, "layers": 2, "probability": 0.5}
    usual |= {"magnitude": 10, "deviation": 0, "most": 10}
    assert parse_policy(text)._asdict() == {**usual, **said}


@pytest.mark.parametrize("name", ["weights", "3aw"])
def test_weighted_sets(name):
    policy = parse_policy(f"rand-t{name}")
    assert policy.operations == tuple(SETS[name])
    total = sum(SETS[name].values())
    wanted = [weight / total for weight in SETS[name].values()]
    assert policy.weights == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("'augmix-m3'", "policy: got 'augmix-m3', expected one that begins with 'rand-'"),
        ("'rand-m9.5'", "policy: section 'm9.5' of 'rand-m9.5'; expected m, n, mmax, inc and a wh"),
        ("'rand-w0'", "policy: section 'w0'"),
        ("'rand-tbest'", "policy: section 'tbest' .*t3a, t3aw, tweights"),
        ("'rand-p2'", "policy: p of 'rand-p2', expected a number from 0 to 1"),
        ("'rand-n0'", "policy: n0 of 'rand-n0'"),
        ("'rand-n15-t3aw'", "policy: n15"),
        ("interpolation='box'", "interpolation: got 'box', expected one of nearest"),
        ("fill=300", "fill: got 300"),
    ],
)
def test_what_makes_no_policy_is_refused(argument, message):
    with pytest.raises(ValueError, match=f"rand_augment: {message}"):
        parse_pipeline(f"rand_augment({argument})")


def test_every_set_is_of_known_operations():
    assert {op for ops in SETS.values() for op in ops} <= set(OPERATIONS)


def test_what_is_drawn(monkeypatch):
    """Each operation as often, half of both layers left out, magnitudes and signs as said."""
    calls = []
    monkeypatch.setattr(rand_augment, "apply", lambda *given: calls.append(given) or PIXEL)
    rng, images = np.random.default_rng(0), 6_000
    op = RandAugment(interpolation="random")
    for _ in range(images):
        op(PIXEL, rng)
    assert abs(len(calls) / images - 1) < 0.05  # of two layers
    counts = Counter(name for _, name, *_ in calls)
    assert set(counts) == set(SETS["inc"])
    assert all(abs(n / len(calls) * 15 - 1) < 0.2 for n in counts.values())
    _, _, magnitudes, negated, interpolations, fills = zip(*calls, strict=True)
    assert abs(np.mean(magnitudes) - 9) < 0.05 and abs(np.std(magnitudes) - 0.5) < 0.05
    assert max(magnitudes) == 10  # clipped
    assert abs(np.mean(negated) - 0.5) < 0.03
    assert abs(np.mean([name == "bilinear" for name in interpolations]) - 0.5) < 0.03
    assert set(interpolations) == {"bilinear", "bicubic"} and set(fills) == {(124, 116, 104)}


def test_uniform_magnitudes_and_a_weighted_set_without_repeats(monkeypatch):
    calls = []
    monkeypatch.setattr(rand_augment, "apply", lambda *given: calls.append(given) or PIXEL)
    op, rng = RandAugment("rand-m8-mstd101-n3-p1-t3aw"), np.random.default_rng(0)
    for _ in range(1000):
        op(PIXEL, rng)
    drawn = [name for _, name, *_ in calls]
    assert all(len(set(drawn[i : i + 3])) == 3 for i in range(0, len(drawn), 3))
    magnitudes = [magnitude for _, _, magnitude, *_ in calls]
    assert abs(np.mean(magnitudes) - 4) < 0.2 and max(magnitudes) <= 8 and min(magnitudes) >= 0


def test_no_bits_are_black():
    image = np.full((4, 4, 3), 200, np.uint8)
    assert not rand_augment_op(image, "PosterizeIncreasing", 10).any()
    assert (rand_augment_op(image, "PosterizeIncreasing", 9) == 128).all()
    assert (rand_augment_op(image, "PosterizeOriginal", 10) == 200).all()


def test_the_other_operations():
    ramp = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5
    gray = rand_augment_op(ramp, "Desaturate", 10)
    assert (gray[..., 0] == gray[..., 1]).all()
    assert abs(gray.astype(int) - ramp).max() > 2
    blurred = rand_augment_op(ramp, "GaussianBlur", 10)
    assert np.std(blurred) < np.std(ramp)
    np.testing.assert_array_equal(rand_augment_op(ramp, "Color", 5), ramp)  # a factor of 1


def test_in_a_pipeline_it_is_the_same_for_the_same_draws_and_travels_to_workers():
    image = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    pipeline = parse_pipeline("rand_augment('rand-m9-mstd0.5-inc1-p1')|to_float")
    first = pipeline({"image": image}, np.random.default_rng(3))["image"]
    again = pickle.loads(pickle.dumps(pipeline))({"image": image}, np.random.default_rng(3))
    np.testing.assert_array_equal(first, again["image"])
    other = pipeline({"image": image}, np.random.default_rng(4))["image"]
    assert first.shape == (24, 24, 3) and not np.array_equal(first, other)

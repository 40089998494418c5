"""Networks whose prefix tokens differ, and a teacher with images of its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.native import IMAGES, cross_entropy, draw, network
from vit_jax_xfer.models.attention import kernels
from vit_jax_xfer.models.extract import extract
from vit_jax_xfer.pretrained.parameter_rules import stack_blocks
from vit_jax_xfer.transfer.forward import transfer_forward
from vit_jax_xfer.transfer.tokens import TokenLayout, common_tokens, layout_of

PATCHES = 16
RICH = {"registers": 2, "distillation_token": True}

# Student, teacher, and the numbers of the common tokens' places before the patches in each.
PAIRS = {
    "registers": ({}, {"registers": 2}, [0], [0]),
    "everything": ({}, RICH, [0], [0]),
    "no class token": ({"class_token": False, "pool": "avg"}, RICH, [], []),
    "both distil": ({"distillation_token": True}, RICH, [0, 1], [0, 1]),
    "other registers": ({"registers": 1}, {"registers": 2}, [0], [0]),
    "equal registers": ({"registers": 2}, RICH, [0, 1, 2], [0, 2, 3]),
    "teacher without": (RICH, {}, [0], [0]),
    "as many by accident": ({"registers": 1}, {"distillation_token": True}, [0], [0]),
    "biased": ({"relative_bias": "block"}, {"relative_bias": "shared", **RICH}, [0], [0]),
}
# Where the teacher has all that the student has.
COPYING = ("registers", "everything", "no class token", "both distil", "equal registers")


def places(model, prefix):
    return np.array([*prefix, *range(model.prefix_tokens, model.prefix_tokens + PATCHES)])


def sub_maps(maps, kept):
    """The rows and columns of the tokens that are kept, whose rows sum to 1 again."""
    part = np.asarray(maps, np.float64)[..., kept, :][..., kept]
    return part / part.sum(-1, keepdims=True)


class Pair:
    """One of PAIRS with random variables and what each network shows by itself."""

    def __init__(self, name):
        student, teacher, own, other = PAIRS[name]
        self.networks = []
        self.seen, self.kept = [], []
        for seed, fields, prefix in ((1, student, own), (2, teacher, other)):
            model = network(**fields)
            variables = draw(model, seed)
            self.networks += [model, variables]
            self.seen.append(extract(model, variables, IMAGES, attention=True, qkv=True))
            self.kept.append(places(model, prefix))


@pytest.mark.parametrize("materialize", [False, True])
@pytest.mark.parametrize("name", PAIRS)
def test_distilled_maps_are_those_of_the_common_tokens(monkeypatch, name, materialize):
    monkeypatch.setattr(kernels, "QUERY_BLOCK", 8)
    pair = Pair(name)
    options = {"tokens": "common", "materialize": materialize}
    logits, loss = transfer_forward(*pair.networks, IMAGES, **options)
    student, teacher = (
        sub_maps(out.attention, kept) for out, kept in zip(pair.seen, pair.kept, strict=True)
    )
    assert student.shape == teacher.shape
    wanted = sum(cross_entropy(*maps) for maps in zip(teacher, student, strict=True))
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)
    np.testing.assert_allclose(logits, pair.seen[0].logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("part", "qkv")
@pytest.mark.parametrize("name", ["everything", "equal registers", "teacher without"])
def test_distilled_tensors_are_those_of_the_common_tokens(name, part):
    pair = Pair(name)
    loss = transfer_forward(*pair.networks, IMAGES, mode=f"distill_{part}", tokens="common")[1]
    one, other = (
        np.asarray(getattr(out, part))[:, :, kept]
        for out, kept in zip(pair.seen, pair.kept, strict=True)
    )
    wanted = ((one - other) ** 2).mean(axis=(1, 2, 3, 4)).sum()
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "mode", "scan"),
    [
        *((name, "copy", False) for name in COPYING),
        *(("equal registers", mode, False) for mode in ("copy_q", "copy_k", "copy_v")),
        *(("everything", mode, True) for mode in ("copy", "copy_v")),
    ],
)
def test_copies_are_those_of_the_common_tokens(name, mode, scan):
    pair = Pair(name)
    student, variables, teacher, other = pair.networks
    seen, kept = pair.seen[1], pair.kept[1]
    if mode == "copy":
        given = {"map": sub_maps(seen.attention, kept).astype(np.float32)}
    else:
        given = {mode[-1]: np.asarray(getattr(seen, mode[-1]))[:, :, kept]}
    blocks = {
        f"blocks_{i}": {"attention": {name: jnp.asarray(x[i]) for name, x in given.items()}}
        for i in range(2)
    }
    wanted = student.apply({**variables, "given": blocks}, IMAGES)
    if scan:
        student, variables = student.clone(scan=True), stack_blocks(variables)
    for materialize in (False, True) if mode == "copy" else (False,):
        options = {"mode": mode, "tokens": "common", "materialize": materialize}
        logits, _ = transfer_forward(student, variables, teacher, other, IMAGES, **options)
        np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=2e-5)


def test_equal_layouts_leave_nothing_out():
    pair = [network(**RICH), draw(network(**RICH), 1), network(**RICH), draw(network(**RICH), 2)]

    def program(tokens):
        forward = lambda s, t: transfer_forward(  # noqa: E731 - the same program
            pair[0], s, pair[2], t, IMAGES, tokens=tokens
        )
        return str(jax.make_jaxpr(forward)(pair[1], pair[3]))

    assert program("all") == program("common")


def test_places_by_hand():
    one, other = TokenLayout(True, False, 2, (1, 2)), TokenLayout(True, True, 2, (1, 2))
    assert common_tokens(one, other) == (None, (0, 2, 3, 4, 5))
    assert common_tokens(other, one) == ((0, 2, 3, 4, 5), None)
    fewer = one._replace(registers=1)
    assert common_tokens(one, fewer) == ((0, 3, 4), (0, 2, 3))
    without = one._replace(class_token=False, registers=0)
    assert common_tokens(one, without) == ((3, 4), None)
    assert layout_of(network(**RICH), (32, 16, 3)) == TokenLayout(True, True, 2, (4, 2))


@pytest.mark.parametrize("mode", ["distill", "distill_v", "copy"])
def test_a_teacher_with_images_of_its_own(mode):
    """Another patch size at another resolution: the same grid, so the same tokens."""
    student, teacher = network(), network(image_size=16, patch_size=4)
    own, other = draw(student, 1), draw(teacher, 2)
    small = np.random.default_rng(5).standard_normal((3, 16, 16, 3)).astype(np.float32)
    seen = extract(teacher, other, small, attention=True, qkv=True)
    logits, loss = transfer_forward(
        student, own, teacher, other, IMAGES, mode=mode, teacher_images=small
    )
    mine = extract(student, own, IMAGES, attention=True, qkv=True)
    if mode == "copy":
        given = {f"blocks_{i}": {"attention": {"map": x}} for i, x in enumerate(seen.attention)}
        wanted = student.apply({**own, "given": given}, IMAGES)
        np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-5)
    elif mode == "distill":
        wanted = sum(map(cross_entropy, seen.attention, mine.attention))
        np.testing.assert_allclose(loss, wanted, rtol=1e-5)
    else:
        wanted = ((mine.v - seen.v) ** 2).mean(axis=(1, 2, 3, 4)).sum()
        np.testing.assert_allclose(loss, wanted, rtol=1e-5)

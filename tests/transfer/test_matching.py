"""Teachers of another depth or with other heads: who teaches whom, by hand and in a pair."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.native import IMAGES, cross_entropy, draw, network
from vit_jax_xfer.models.attention import kernels
from vit_jax_xfer.models.extract import extract
from vit_jax_xfer.pretrained.parameter_rules import stack_blocks
from vit_jax_xfer.transfer.forward import transfer_forward
from vit_jax_xfer.transfer.matching import HeadMatch, match_heads, match_layers

ALL = range(4)


@pytest.mark.parametrize(
    ("how", "student", "teacher", "layers", "wanted"),
    [
        ("same", 4, 4, [2, 0], (2, 0)),
        ("even", 4, 12, ALL, (2, 5, 8, 11)),
        ("even", 4, 4, ALL, (0, 1, 2, 3)),
        ("even", 4, 6, ALL, (1, 2, 4, 5)),  # 1.5, 3, 4.5, 6, halves up
        ("even", 4, 2, ALL, (0, 0, 1, 1)),  # 0.5, 1, 1.5, 2
        ("even", 4, 1, ALL, (0, 0, 0, 0)),
        ("even", 3, 8, range(3), (2, 4, 7)),  # 2.67, 5.33, 8
        ("even", 4, 12, [3, 1], (11, 5)),
        ("last", 2, 6, range(2), (4, 5)),
        ("last", 4, 3, [3, 1], (2, 0)),
        ("first", 2, 6, range(2), (0, 1)),
        ("first", 4, 3, [2, 0], (2, 0)),
        ((5, 0, -1, 5), 4, 6, ALL, (5, 0, 5, 5)),
        ((np.int64(-2),), 4, 6, [0], (4,)),
    ],
)
def test_layers(how, student, teacher, layers, wanted):
    assert match_layers(how, student, teacher, layers) == wanted


@pytest.mark.parametrize(
    ("how", "student", "teacher", "layers", "message"),
    [
        ("same", 4, 6, ALL, "teacher: depth 6 differs from the student's 4; match_layers pairs"),
        ("last", 4, 3, ALL, "match_layers: 'last' leaves the student's layer 0 without"),
        ("first", 4, 3, ALL, "match_layers: 'first' leaves the student's layer 3 without"),
        ((0, 1), 4, 6, ALL, r"match_layers: \(0, 1\) names 2 of the teacher's layers for 4 of"),
        ((6,), 4, 6, [0], "match_layers: 6 is not a layer of a teacher of depth 6"),
        ((-7,), 4, 6, [0], "match_layers: -7 is not a layer"),
        (("2",), 4, 6, [0], "match_layers: 2 is not a layer"),
    ],
)
def test_layers_that_have_no_partner(how, student, teacher, layers, message):
    with pytest.raises(ValueError, match=message):
        match_layers(how, student, teacher, layers)


@pytest.mark.parametrize(
    ("how", "student", "teacher", "chosen", "wanted"),
    [
        ("same", 3, 3, None, HeadMatch(None, None)),
        ("same", 3, 3, (2, 0), HeadMatch((2, 0), None)),
        ("average", 3, 3, (1,), HeadMatch(None, 1)),
        ("average", 3, 8, None, HeadMatch(None, 1)),
        ("group", 3, 3, (1,), HeadMatch((1,), None)),
        ("group", 2, 6, None, HeadMatch((0, 1, 2, 3, 4, 5), 2)),
        ("group", 2, 6, (1,), HeadMatch((3, 4, 5), 1)),
        ("group", 3, 6, (2, 0), HeadMatch((4, 5, 0, 1), 2)),
        ("group", 6, 2, None, HeadMatch((0, 0, 0, 1, 1, 1), None)),
        ("group", 6, 2, (5, 2), HeadMatch((1, 0), None)),
    ],
)
def test_heads(how, student, teacher, chosen, wanted):
    assert match_heads(how, student, teacher, chosen) == wanted


def target(maps, how, number):
    """The map (B, H, T, T) of each of the student's heads, from the teacher's, in words."""
    maps = np.asarray(maps, np.float64)
    if how == "average":
        return np.repeat(maps.mean(1, keepdims=True), number, axis=1)
    if number >= maps.shape[1]:
        return np.repeat(maps, number // maps.shape[1], axis=1)
    return np.stack([part.mean(1) for part in np.split(maps, number, axis=1)], axis=1)


# The student has 4 heads of 12 channels, and 2 layers.
STUDENT = network(num_heads=4)
TEACHERS = {
    "group of 2": ("group", {"num_heads": 8, "width": 64}),
    "group of equals": ("group", {"num_heads": 4, "width": 64}),
    "repeat": ("group", {"num_heads": 2, "width": 24}),
    "repeat larger": ("group", {"num_heads": 2}),
    "average": ("average", {"num_heads": 3}),
    "average biased": ("average", {"num_heads": 3, "relative_bias": "block"}),
    "group biased": ("group", {"num_heads": 8, "relative_bias": "shared"}),
    "repeat biased": ("group", {"num_heads": 2, "relative_bias": "shared"}),
}


@pytest.fixture(scope="module")
def own():
    return draw(STUDENT, 1)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(kernels, "QUERY_BLOCK", 8)


@pytest.mark.parametrize("heads", [None, (3, 0)])
@pytest.mark.parametrize("name", TEACHERS)
def test_distilled_heads(own, name, heads):
    how, fields = TEACHERS[name]
    teacher = network(**fields)
    other = draw(teacher, 2)
    chosen = list(range(4) if heads is None else heads)
    mine = extract(STUDENT, own, IMAGES, attention=True).attention[:, :, chosen]
    theirs = extract(teacher, other, IMAGES, attention=True).attention
    wanted = sum(
        cross_entropy(target(layer, how, 4)[:, chosen], student)
        for layer, student in zip(theirs, mine, strict=True)
    )

    for materialize in (False, True):
        options = {"match_heads": how, "heads": heads, "materialize": materialize}
        loss = transfer_forward(STUDENT, own, teacher, other, IMAGES, **options)[1]
        np.testing.assert_allclose(loss, wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("layers", "heads", "scan"), [(None, None, False), (None, (3, 0), False), ((1,), None, True)]
)
@pytest.mark.parametrize("name", TEACHERS)
def test_copied_heads(own, name, layers, heads, scan):
    how, fields = TEACHERS[name]
    teacher = network(**fields)
    other = draw(teacher, 2)
    maps = extract(teacher, other, IMAGES, attention=True).attention
    mask = np.isin(np.arange(4), range(4) if heads is None else heads)
    given = {
        f"blocks_{i}": {
            "attention": {"map": jnp.asarray(target(maps[i], how, 4), jnp.float32), "heads": mask}
        }
        for i in (range(2) if layers is None else layers)
    }
    wanted = STUDENT.apply({**own, "given": given}, IMAGES)
    student, variables = (STUDENT.clone(scan=True), stack_blocks(own)) if scan else (STUDENT, own)
    options = {"mode": "copy", "match_heads": how, "layers": layers, "heads": heads}
    logits, _ = transfer_forward(student, variables, teacher, other, IMAGES, **options)
    np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "maps"), [("repeat", 0), ("group of 2", 1), ("average", 1)])
def test_copies_of_repeated_heads_build_no_map(monkeypatch, own, name, maps):
    """Queries and keys are repeated; a mean of maps is a map."""
    monkeypatch.setattr(kernels, "QUERY_BLOCK", 4)
    how, fields = TEACHERS[name]
    teacher = network(**fields, attention="blockwise")
    student = STUDENT.clone(attention="blockwise")
    other = jax.eval_shape(teacher.init, jax.random.key(0), IMAGES)
    program = str(
        jax.make_jaxpr(
            lambda s, t: transfer_forward(
                student, s, teacher, t, IMAGES, mode="copy", match_heads=how
            )
        )(own, other)
    )
    assert bool(re.search(r"\[3,\d+,17,17\]", program)) == maps


@pytest.mark.parametrize(
    ("mode", "how"),
    [
        *(("distill", how) for how in ("even", "last", "first", (3, 0))),
        *((mode, "even") for mode in ("distill_v", "copy", "copy_k")),
    ],
)
def test_other_depths(mode, how):
    student, teacher = network(), network(depth=4)
    own, other = draw(student, 1), draw(teacher, 2)
    theirs = {"even": (1, 3), "last": (2, 3), "first": (0, 1)}.get(how, how)
    mine = extract(student, own, IMAGES, attention=True, qkv=True)
    seen = extract(teacher, other, IMAGES, attention=True, qkv=True, layers=theirs)
    options = {"mode": mode, "match_layers": how}
    logits, loss = transfer_forward(student, own, teacher, other, IMAGES, **options)
    if mode.startswith("distill"):
        wanted = ((mine.v - seen.v) ** 2).mean(axis=(1, 2, 3, 4)).sum()
        if mode == "distill":
            wanted = sum(map(cross_entropy, seen.attention, mine.attention))
        np.testing.assert_allclose(loss, wanted, rtol=1e-5)
    else:
        given = {"map": seen.attention} if mode == "copy" else {"k": seen.k}
        blocks = {
            f"blocks_{i}": {"attention": {name: x[i] for name, x in given.items()}}
            for i in range(2)
        }
        wanted = student.apply({**own, "given": blocks}, IMAGES)
        np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["distill", "copy"])
def test_other_depths_scanned(mode):
    student, teacher = network(depth=3), network(depth=4)
    own, other = draw(student, 1), draw(teacher, 2)
    options = {"mode": mode, "layers": [-1, 0], "match_layers": (1, 1)}
    wanted = transfer_forward(student, own, teacher, other, IMAGES, **options)
    got = transfer_forward(
        student.clone(scan=True),
        stack_blocks(own),
        teacher.clone(scan=True),
        stack_blocks(other),
        IMAGES,
        **options,
    )
    np.testing.assert_allclose(got[0], wanted[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got[1], wanted[1], rtol=1e-5)

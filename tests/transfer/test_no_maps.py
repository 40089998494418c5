"""Map-free distillation: no array of tokens × tokens in the compiled step, memory linear."""

import math
import re

import jax
import jax.numpy as jnp
import pytest

from vit_jax_xfer.models.attention import kernels
from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.transfer.forward import transfer_forward

# 1 + 11·15 tokens: no other dimension is 166, nor is the padded length, 6 blocks of 32.
IMAGE, TOKENS, BATCH, HEADS = (22, 30), 166, 3, 2


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(kernels, "QUERY_BLOCK", 32)


def model(image_size=IMAGE, **fields):
    sizes = {"patch_size": 2, "width": 8, "depth": 1, "num_heads": HEADS, "mlp_dim": 8}
    return VisionTransformer(image_size=image_size, num_classes=3, **{**sizes, **fields})


def compiled_step(
    image_size=IMAGE, materialize=False, mode="distill", teacher=None, match_heads="same", **fields
):
    """The compiled gradient of transfer loss and logits in the student's variables."""
    student = model(image_size, **fields)
    teacher = student if teacher is None else model(image_size, **{**fields, **teacher})
    images = jax.ShapeDtypeStruct((BATCH, *image_size, 3), jnp.float32)
    variables, teacher_variables = (
        jax.eval_shape(network.init, jax.random.key(0), images) for network in (student, teacher)
    )

    def total(variables, teacher_variables, images):
        logits, loss = transfer_forward(
            student,
            variables,
            teacher,
            teacher_variables,
            images,
            mode=mode,
            materialize=materialize,
            match_heads=match_heads,
        )
        return loss + jnp.square(logits).sum()

    lowered = jax.jit(jax.grad(total)).lower(variables, teacher_variables, images)
    # Unoptimised machine code is the same program of arrays, and is there sooner.
    return lowered.compile(compiler_options={"xla_backend_optimization_level": 0})


def array_shapes(program: str) -> set[tuple[int, ...]]:
    """The shapes of all arrays in a program's text."""
    found = re.findall(r"\b(?:f16|bf16|f32|f64|pred|s32|u32)\[([\d,]*)\]", program)
    return {tuple(int(n) for n in dims.split(",") if n) for dims in found}


def maps_in(compiled) -> list[tuple[int, ...]]:
    """Arrays that are a map by their dimensions, or by holding as much as the maps of a layer."""
    whole = BATCH * HEADS * TOKENS * TOKENS
    return [
        shape
        for shape in array_shapes(compiled.as_text())
        if sum(n >= TOKENS for n in shape) >= 2 or math.prod(shape) >= whole
    ]


@pytest.mark.parametrize("image_size", [(28, 28), (22, 30)])  # 197 and 166 tokens
@pytest.mark.parametrize("mode", ["distill", "copy"])
def test_no_map_is_built_by_default(mode, image_size, monkeypatch):
    """README's sentence, of networks and blocks as they are when nobody asks for anything."""
    monkeypatch.setattr(kernels, "QUERY_BLOCK", 256)
    tokens = 1 + image_size[0] * image_size[1] // 4
    shapes = array_shapes(compiled_step(image_size, mode=mode).as_text())
    assert any(tokens in shape for shape in shapes)
    assert [shape for shape in shapes if sum(n >= tokens for n in shape[-2:]) == 2] == []


@pytest.mark.parametrize(
    ("mode", "fields"),
    [
        ("distill", {"attention": "blockwise"}),
        ("distill", {"blockwise_above": 100, "depth": 2, "scan": True, "remat": "full"}),
        ("copy", {"blockwise_above": 100}),
    ],
)
def test_no_map_is_built(mode, fields):
    compiled = compiled_step(mode=mode, **fields)
    assert any(TOKENS in shape for shape in array_shapes(compiled.as_text()))
    assert maps_in(compiled) == []


def maps_of_images_in(compiled) -> list[tuple[int, ...]]:
    """Arrays as large as a map of every image: a bias (H, T, T) is smaller, being for all."""
    whole = BATCH * TOKENS * TOKENS
    return [shape for shape in array_shapes(compiled.as_text()) if math.prod(shape) >= whole]


BIASED = {"relative_bias": "shared", "blockwise_above": 100}
MEAN = {"teacher": {"num_heads": 4}, "match_heads": "group", "blockwise_above": 100}


@pytest.mark.parametrize(
    ("mode", "fields"),
    [
        ("distill", BIASED),
        ("distill", {"teacher": {"relative_bias": "block"}, "blockwise_above": 100}),
        ("distill", {**MEAN, "depth": 2, "scan": True}),
        ("distill", {**MEAN, "match_heads": "average"}),
        ("copy", BIASED),
    ],
)
def test_no_images_map_is_built_with_a_bias_or_a_mean_of_heads(mode, fields):
    assert maps_of_images_in(compiled_step(mode=mode, **fields)) == []
    if mode == "distill":
        maps = maps_of_images_in(compiled_step(mode=mode, materialize=True, **fields))
        assert (BATCH, HEADS, TOKENS, TOKENS) in maps


@pytest.mark.parametrize(
    ("materialize", "fields"), [(True, {"attention": "blockwise"}), (False, {"attention": "plain"})]
)
def test_the_search_finds_maps_where_they_are(materialize, fields):
    assert (BATCH, HEADS, TOKENS, TOKENS) in maps_in(
        compiled_step(materialize=materialize, **fields)
    )


def test_maps_that_are_built_serve_the_networks_too():
    looped = {
        attention: " while("
        in compiled_step(materialize=True, attention=attention, blockwise_above=100).as_text()
        for attention in ("auto", "blockwise")
    }
    assert looped == {"auto": False, "blockwise": True}


def test_memory_grows_with_the_tokens_not_their_square():
    """From 133 to 529 tokens: about 4 times for blocks, about 16 times for maps."""

    def memory(image_size, **options):
        compiled = compiled_step(image_size, **options)
        return compiled.memory_analysis().temp_size_in_bytes

    small, large = (22, 24), (44, 48)
    linear = [memory(size, attention="blockwise") for size in (small, large)]
    square = [memory(size, attention="plain", materialize=True) for size in (small, large)]
    assert linear[1] < 6 * linear[0]
    assert square[1] > 10 * square[0]
    assert linear[1] < square[1] / 4


def test_a_plain_forward_returns_no_map():
    network = model()
    images = jax.ShapeDtypeStruct((BATCH, *IMAGE, 3), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    assert jax.eval_shape(network.apply, variables, images).shape == (BATCH, 3)
    _, out = jax.eval_shape(
        lambda variables, images: network.apply(variables, images, mutable=["qkv"]),
        variables,
        images,
    )
    assert not any(x.shape.count(TOKENS) > 1 for x in jax.tree.leaves(out))

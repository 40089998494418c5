"""One bright object on dark noise: what a scorer learned to keep, and what is drawn, lies on it.

The network learns the object's colour from labels alone. Nothing tells it where the object is, and
nothing of its training knows where cells lie.
"""

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from vit_jax_xfer.explain.filter_masks import main
from vit_jax_xfer.explain.kept_tokens import KeptTokens
from vit_jax_xfer.explain.overlay import MARK, spread
from vit_jax_xfer.models.filter.filter_blocks import Stage
from vit_jax_xfer.models.filter.network import FilterViT
from vit_jax_xfer.models.preprocessing import INCEPTION, Preprocessing
from vit_jax_xfer.pretrained.saved_models import save_file

SIDE, OBJECT, BATCH, STEPS = 48, 10, 16, 150
SCALE = 4  # pixels of a picture per pixel of an image, because cells end at half pixels


def scenes(key, number, height=SIDE, width=SIDE):
    """Images in [-1, 1], the object's colour 0 … 2, and where it is (N, H, W) bool."""
    keys = jax.random.split(key, 5)
    colours = jax.random.randint(keys[0], (number,), 0, 3)
    tops = jax.random.randint(keys[1], (number, 1, 1), 0, height - OBJECT + 1)
    lefts = jax.random.randint(keys[2], (number, 1, 1), 0, width - OBJECT + 1)
    down, across = jnp.arange(height)[:, None] - tops, jnp.arange(width) - lefts
    inside = (down >= 0) & (down < OBJECT) & (across >= 0) & (across < OBJECT)
    noise = jax.random.uniform(keys[3], (number, height, width, 3), minval=0.05, maxval=0.25)
    light = jax.random.uniform(keys[4], (number, height, width, 1), minval=0.8)
    colour = 0.25 + 0.75 * jax.nn.one_hot(colours, 3)[:, None, None]
    return 2 * jnp.where(inside[..., None], colour * light, noise) - 1, colours, inside


@pytest.fixture(scope="module")
def trained():
    """A network whose importances weigh features that colours are told from, and its variables."""
    share = OBJECT**2 / SIDE**2
    stage = Stage("filter", 8, 2, expand=1, keep=share)
    model = FilterViT((stage,), SIDE, stem_width=8, stem_expand=1, num_classes=0)
    start = jax.jit(model.init)(jax.random.key(2), jnp.zeros((1, SIDE, SIDE, 3)))
    optimizer = optax.adam(1e-2)

    def loss(params, statistics, images, colours):
        _, found = model.apply(
            {"params": params["network"], "batch_stats": statistics},
            images,
            train=True,
            rngs={"dropout": jax.random.key(0)},
            mutable=["batch_stats", "filter", "intermediates"],
            capture_intermediates=lambda module, _: module.name == "stem_residual",
        )
        (features,) = found["intermediates"]["stem_residual"]["__call__"]
        importance = found["filter"]["stage_0"]["importance"]
        weights = jax.nn.softmax(5 * importance, axis=(1, 2))[..., None]
        logits = (weights * features).sum(axis=(1, 2)) @ params["head"]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, colours)
        return losses.mean(), found["batch_stats"]

    def step(i, state):
        params, statistics, moments = state
        images, colours, _ = scenes(jax.random.fold_in(jax.random.key(7), i), BATCH)
        slope, statistics = jax.grad(loss, has_aux=True)(params, statistics, images, colours)
        updates, moments = optimizer.update(slope, moments)
        return optax.apply_updates(params, updates), statistics, moments

    params = {"network": start["params"], "head": jnp.zeros((8, 3))}
    state = params, start["batch_stats"], optimizer.init(params)
    params, statistics, _ = jax.jit(lambda state: jax.lax.fori_loop(0, STEPS, step, state))(state)
    return model, {"params": params["network"], "batch_stats": statistics}


def enlarged(images):
    """(N, H, W, …) with SCALE × SCALE pixels for each."""
    return np.asarray(images).repeat(SCALE, axis=1).repeat(SCALE, axis=2)


def offset(marked, where):
    """How far the middle of what is marked is from the object's: (rows, columns) in pixels."""
    middles = [np.argwhere(area).mean(axis=0) for area in (marked, where)]
    return (middles[0] - middles[1]) / SCALE


@pytest.mark.parametrize("size", [(48, 48), (40, 64)])
def test_kept_cells_lie_on_the_object(trained, size):
    images, _, inside = scenes(jax.random.key(5), 32, *size)
    canvas = (SCALE * size[0], SCALE * size[1])
    shares, offsets, contrasts = [], [], []
    for (stage,), where in zip(
        KeptTokens(*trained)(np.asarray(images)), enlarged(inside), strict=True
    ):
        marked = spread(stage.mask, stage.cells, canvas, fill=False)
        shares.append(where[marked].mean())
        offsets.append(offset(marked, where))
        heat = spread(stage.importance, stage.cells, canvas, fill=np.nan)
        contrasts.append(np.nanmean(heat[where]) - np.nanmean(heat[~where]))
    assert np.mean(shares) > 0.85 > 10 * np.mean(inside)  # by chance it is the object's share
    assert min(shares) > 0.4
    assert np.mean(contrasts) > 0.2
    # Less than the border of the stem, 2 pixels, and than half a cell, 1 pixel.
    assert np.abs(np.median(offsets, axis=0)).max() < 0.6


def run(folder, model, variables, images, *options):
    """The command on images (H, W, 3) uint8, written as files; where it put its pictures."""
    (folder / "images").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / "images" / f"{i}.png")
    save_file(folder / "model.safetensors", model, variables)
    names = [str(folder / name) for name in ("images", "model.safetensors", "out")]
    given = [names[0], "--model", names[1], "--out", names[2], "--overlays", *options]
    assert main(given) == 0
    return folder / "out"


def marked_in(path, image):
    """Which pixels of an overlay are shown as they are, or as a frame."""
    overlay = np.asarray(Image.open(path))
    assert overlay.shape == image.shape
    return (overlay == image).all(axis=-1) | (overlay == MARK).all(axis=-1)


def test_the_command_marks_the_object(trained, tmp_path):
    size = (61, 37)
    images, _, inside = scenes(jax.random.key(6), 6, *size)
    pictures = enlarged(np.round((images + 1) * 127.5).astype(np.uint8))
    sides = ",".join(map(str, size))
    out = run(tmp_path, *trained, pictures, "--whole", "--image-size", sides)
    shares, offsets, contrasts = [], [], []
    for i, (picture, where) in enumerate(zip(pictures, enlarged(inside), strict=True)):
        marked = marked_in(out / f"{i}_stage0_kept.png", picture)
        shares.append(where[marked].mean())
        offsets.append(offset(marked, where))
        heat = np.asarray(Image.open(out / f"{i}_stage0_importance.png")).astype(float).sum(-1)
        contrasts.append(heat[where].mean() - heat[~where].mean())
    assert np.mean(shares) > 0.85
    assert np.mean(contrasts) > 100
    assert np.abs(np.median(offsets, axis=0)).max() < 0.6


def brightness_network(keep):
    """A network that keeps the brightest cells of a pooled, halved map; no weight is random."""
    stages = (Stage("pooled", 4, 1, stride=2), Stage("filter", 4, 1, keep=keep))
    whole = Preprocessing(*INCEPTION, crop=1.0)
    model = FilterViT(stages, stem_width=4, stem_expand=1, num_classes=0, preprocessing=whole)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))

    def weight(path, x):
        if path[-3:] == ("stage_1", "score", "kernel"):
            return jnp.zeros_like(x).at[3, 3].set(1)  # the middle tap
        if path[-1] == "kernel":
            return jnp.full_like(x, x.shape[-1] / x.size)  # the mean of a window
        # What the pooled block adds is nothing, so that every cell is of its own place.
        return jnp.zeros_like(x) if "norm2" in path or path[-1] == "bias" else x

    return model, flax.traverse_util.path_aware_map(weight, variables)


@pytest.mark.parametrize("crop", [False, True])
def test_the_marked_cells_are_exactly_those_on_the_object(tmp_path, crop):
    # Cells of the map lie at 4·i + 0.5 to 4·i + 4.5: the object is around cells (4 … 6, 8 … 9).
    noise = np.random.default_rng(0).integers(10, 40, (61, 101, 3)).astype(np.uint8)
    noise[16:29, 32:41] = (255, 170, 60)
    size, rows, columns = (61, 101), (16.5, 28.5), (32.5, 40.5)
    if crop:
        # The middle 61 columns are seen, from 20 on; the object is around cells (4 … 6, 3 … 4).
        size, columns = (61, 61), (32.5, 40.5)
    (picture,) = enlarged(noise[None])
    sides = ["--image-size", f"{size[0]},{size[1]}", *([] if crop else ["--whole"])]
    out = run(tmp_path, *brightness_network(keep=6), [picture], *sides)
    expected = np.zeros(picture.shape[:2], bool)
    (top, bottom), (left, right) = ((int(SCALE * x) for x in edges) for edges in (rows, columns))
    expected[top:bottom, left:right] = True
    marked = marked_in(out / "0_stage1_kept.png", picture)
    np.testing.assert_array_equal(marked, expected)

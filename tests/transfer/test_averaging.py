"""Maps averaged before they move: over heads, queries and images, by hand and in a pair."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.native import IMAGES, cross_entropy, draw, network
from tests.outputs import assert_close
from vit_jax_xfer.models.extract import extract
from vit_jax_xfer.pretrained.parameter_rules import stack_blocks
from vit_jax_xfer.tasks.attention_transfer import AttentionTransfer, AttentionTransferSettings
from vit_jax_xfer.train.sharding import batch_sharding, make_mesh
from vit_jax_xfer.transfer.averaging import averaged
from vit_jax_xfer.transfer.forward import transfer_forward
from vit_jax_xfer.transfer.spec import Transfer

MODEL = network()
AXES = {"heads": 2, "queries": 3, "images": 1}  # of maps (L, B, H, T, T)


@pytest.fixture(scope="module")
def pair():
    """Variables of the student and the teacher, and the maps of both (L, B, H, T, T)."""
    own, other = draw(MODEL, 1), draw(MODEL, 2)
    maps = [extract(MODEL, x, IMAGES, attention=True).attention for x in (own, other)]
    return own, other, *maps


def target(maps, over):
    """The mean, in the place of each of those that it is of."""
    maps = np.asarray(maps, np.float64)
    return np.broadcast_to(maps.mean(AXES[over], keepdims=True), maps.shape)


@pytest.mark.parametrize(("over", "scan"), [("heads", False), ("queries", True), ("images", False)])
def test_what_a_student_learns_from_is_the_mean(pair, over, scan):
    own, other, mine, theirs = pair
    wanted = target(theirs, over)
    model = MODEL.clone(scan=scan)
    variables = [stack_blocks(x) if scan else x for x in (own, other)]
    sides = (model, variables[0], model, variables[1], IMAGES)
    _, loss = transfer_forward(*sides, average=over)
    np.testing.assert_allclose(loss, sum(map(cross_entropy, wanted, mine)), rtol=1e-5)
    logits, _ = transfer_forward(*sides, "copy", average=over)
    given = {f"blocks_{i}": {"attention": {"map": jnp.float32(wanted[i])}} for i in range(2)}
    assert_close(logits, MODEL.apply({**own, "given": given}, IMAGES), tolerance=1e-5)


def test_a_mean_over_heads_needs_no_map_and_the_others_do(pair):
    own, other, *_ = pair
    blocks = MODEL.clone(attention="blockwise", blockwise_above=4)

    def maps(over):
        program = jax.make_jaxpr(
            lambda s, t: transfer_forward(blocks, s, blocks, t, IMAGES, average=over)
        )
        return bool(re.search(r"\[3,\d+,17,17\]", str(program(own, other))))

    assert [maps(over) for over in AXES] == [False, True, True]


def test_rows_that_fill_a_batch_up_are_no_part_of_a_mean(pair):
    own, other, *_ = pair
    settings = AttentionTransferSettings(transfer=Transfer("copy", average="images"))
    task = AttentionTransfer(MODEL, settings, MODEL, other)
    labels = jnp.zeros(3, jnp.int32)
    two = {"image": IMAGES[:2], "label": labels[:2], "mask": jnp.ones(2, bool)}
    filled = {"image": IMAGES, "label": labels, "mask": jnp.arange(3) < 2}
    evaluate = jax.jit(task.evaluate)
    found, wanted = (evaluate(own, other, batch) for batch in (filled, two))
    assert_close(found["loss"], wanted["loss"], tolerance=1e-5)


def test_eight_devices_average_over_the_same_images_as_one():
    maps = jax.random.uniform(jax.random.key(0), (8, 2, 3, 3))
    mesh = make_mesh(jax.device_count(), 1, 1)
    spread = jax.device_put(maps, batch_sharding(mesh))
    assert len(spread.sharding.device_set) == jax.device_count() > 1
    found = jax.jit(averaged, static_argnums=1)(spread, "images")
    np.testing.assert_allclose(found, target(maps[None], "images")[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": "distill_v", "average": "images"}, "average: 'images' averages maps, and mode"),
        ({"average": "heads", "match_heads": "group"}, "average: 'heads' gives every head"),
        ({"average": "query"}, "average: 'query' is none of none, heads, queries, images"),
    ],
)
def test_what_contradicts_itself_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Transfer(**fields)

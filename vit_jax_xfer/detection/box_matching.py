"""Which box belongs to which object, and which of them a loss counts."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vit_jax_xfer.arguments.given_arrays import given_array
from vit_jax_xfer.arguments.whole_numbers import check_each_whole, check_number
from vit_jax_xfer.detection.compiled import compiled


@compiled("low", "high", "allow_low_quality")
def match(
    iou: ArrayLike, low: float, high: float, allow_low_quality: bool = False
) -> tuple[jax.Array, jax.Array]:
    """The object of each box, and whether it is one: IoU (…, G, N) → indices, labels (…, N) int32.

    labels: 1 from `high` on, 0 below `low`, -1 between, which no loss counts. allow_low_quality:
    the best box of each object, and all that equal it, are 1 whatever their IoU, if that is
    above 0; indices stay those of the highest IoU (detectron2). A row of padding is -1 throughout.
    Without objects (G = 0) all labels are 0. ValueError unless low ≤ high.
    """
    for name, value in (("low", low), ("high", high)):
        check_number(name, value)
    if not low <= high:
        raise ValueError(f"low: {low} is above high, {high}")
    overlaps = given_array("iou", iou).astype(jnp.float32)
    if overlaps.ndim < 2:
        raise ValueError(f"iou: expected (…, G, N), got {tuple(overlaps.shape)}")
    overlaps = jnp.where(jnp.isnan(overlaps), -1.0, overlaps)
    if overlaps.shape[-2] == 0:
        none = jnp.zeros((*overlaps.shape[:-2], overlaps.shape[-1]), jnp.int32)
        return none, none
    best = overlaps.max(-2)
    labels = jnp.where(best >= high, 1, jnp.where(best >= low, -1, 0))
    if allow_low_quality:
        most = overlaps.max(-1, keepdims=True)
        labels = jnp.where(((overlaps == most) & (most > 0)).any(-2), 1, labels)
    return overlaps.argmax(-2).astype(jnp.int32), labels.astype(jnp.int32)


def hungarian(cost: ArrayLike, valid: ArrayLike | None = None) -> jax.Array:
    """The query of each object in the one-to-one matching of least cost, by optax's algorithm.

    cost: (…, Q, G), Q ≥ G. valid: (…, G) bool, False for padding, whose query is -1. → (…, G)
    int32. A cost that is not finite counts as higher than all others. Under jit as well;
    `vjx.analysis.match_heads` is the host's. ValueError for fewer queries than objects.
    """
    import optax.assignment  # none of the other functions needs it

    cost = given_array("cost", cost).astype(jnp.float32)
    if cost.ndim < 2:
        raise ValueError(f"cost: expected (…, Q, G), got {tuple(cost.shape)}")
    queries, objects = cost.shape[-2:]
    if queries < objects:
        raise ValueError(f"cost: {queries} queries are fewer than {objects} objects")
    places = (*cost.shape[:-2], objects)
    valid = jnp.ones(places, bool) if valid is None else given_array("valid", valid)
    if valid.shape != places:
        raise ValueError(f"valid: got {tuple(valid.shape)}, expected {places}, as cost's (…, G)")
    finite = jnp.isfinite(cost)
    usual = jnp.where(finite, cost, 0.0)
    above = 2 * jnp.abs(usual).max((-2, -1), keepdims=True) * objects + 1
    # What padding costs is one number, so that it changes no other object's query.
    cost = jnp.where(valid[..., None, :], jnp.where(finite, cost, above), 0.0)

    def one(cost: jax.Array) -> jax.Array:
        rows, columns = optax.assignment.hungarian_algorithm(cost)
        return jnp.zeros(objects, jnp.int32).at[columns].set(rows.astype(jnp.int32))

    found = jax.vmap(one)(cost.reshape(-1, queries, objects)) if objects else jnp.zeros(0)
    return jnp.where(valid, found.reshape(valid.shape).astype(jnp.int32), -1)


def sample(
    key: jax.Array, labels: ArrayLike, number: int, positives: int
) -> tuple[jax.Array, jax.Array]:
    """Boxes drawn for a loss: labels (N,) 1, 0, -1 → indices and whether each is one, (number,).

    At most `positives` of label 1 come first, then as many of label 0 as there is room; each at
    random without repetition. Those that are none have index 0. number is cut to N.
    """
    check_each_whole(0, number=number, positives=positives)
    labels = given_array("labels", labels)
    if labels.ndim != 1:
        raise ValueError(f"labels: expected (N,), got {tuple(labels.shape)}; vmap over more")
    total = labels.shape[0]
    number = min(number, total)
    positives = min(positives, number)
    noise = jax.random.uniform(key, (total,))
    # Shares of one draw: among positives and among negatives each order is as likely.
    first, chosen = jax.lax.top_k(jnp.where(labels == 1, noise, -1.0), positives)
    taken = jnp.zeros(total, bool).at[chosen].set(first >= 0)
    rank = jnp.where(taken, 2 + noise, jnp.where(labels == 0, noise, -1.0))
    rank, indices = jax.lax.top_k(rank, number)
    return jnp.where(rank >= 0, indices, 0), rank >= 0

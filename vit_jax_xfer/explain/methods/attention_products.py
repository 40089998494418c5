"""Explanations of a vision transformer from products of its attention maps, and of their slopes.

A is a block's map, softmaxed, g the derivative of the explained class's logit by it. Each method
makes a matrix (B, T, T) a block; the row that the head reads of their product tells how much each
token counts. Class pooling reads the class token's row, average pooling the mean of its tokens',
attention pooling those that its own map takes.

Sources: rollout 2005.00928, its discard and its gradients jacobgil/vit-explain; generic attention
and the attention's Grad-CAM 2103.15679.
"""

import jax
import jax.numpy as jnp

from vit_jax_xfer.explain.methods.watched_network import Tree, WatchedNetwork, block_maps, pool_map


def mean_over_heads(maps: jax.Array) -> jax.Array:
    """Maps (B, H, T, S) → (B, T, S).

    Head by head: XLA's CPU backend walks a reduction over an outer axis cell by cell, nine times as
    long for eight images of a ViT-B.
    """
    return sum(maps[:, head] for head in range(maps.shape[1])) / maps.shape[1]


_FUSIONS = {
    "mean": mean_over_heads,
    "max": lambda maps: maps.max(axis=1),
    "min": lambda maps: maps.min(axis=1),
}


def fuse_heads(maps: jax.Array, head_fusion: str) -> jax.Array:
    """Maps (B, H, T, S) → (B, T, S): the mean, maximum or minimum over heads."""
    if head_fusion not in _FUSIONS:
        raise ValueError(f"head_fusion: {head_fusion!r} is none of {', '.join(_FUSIONS)}")
    return _FUSIONS[head_fusion](maps)


def positive_part(maps: jax.Array, gradients: jax.Array) -> jax.Array:
    """Mean over heads of relu(A · g): (B, H, T, S) twice → (B, T, S)."""
    return mean_over_heads(jax.nn.relu(maps * gradients))


def discard_smallest(fused: jax.Array, discard: float, keep_first: bool) -> jax.Array:
    """Fused maps (B, T, S) with the int(T·S·discard) smallest entries of each at zero.

    Of the whole matrix, not row by row. keep_first: the entry (0, 0), the class token's look at
    itself, stays.
    """
    if not 0.0 <= discard < 1.0:
        raise ValueError(f"discard: expected a share from 0 up to 1, without it; got {discard}")
    flat = fused.reshape(len(fused), -1)
    number = int(flat.shape[1] * discard)
    smallest = jnp.argsort(flat, axis=1)[:, :number]
    dropped = jax.vmap(lambda row, index: row.at[index].set(0.0))(flat, smallest)
    if keep_first:
        dropped = dropped.at[:, 0].set(flat[:, 0])
    return dropped.reshape(fused.shape)


def roll_out(fused: list[jax.Array], start_layer: int = 0) -> jax.Array:
    """The product of (A + I)/2, rows scaled to a sum of 1, later blocks on the left: (B, T, T)."""
    joint = _identity(fused[0])
    for one in fused[start_layer:]:
        step = (one + _identity(one)) / 2
        joint = step / step.sum(axis=-1, keepdims=True) @ joint
    return joint


def accumulate(steps: list[jax.Array], start_layer: int = 0) -> jax.Array:
    """The product of (I + A), later blocks on the left, without scaling: (B, T, T)."""
    joint = _identity(steps[0])
    for step in steps[start_layer:]:
        joint = joint + step @ joint
    return joint


def read_rows(network: WatchedNetwork, images: jax.Array, matrix: jax.Array) -> jax.Array:
    """What the head takes of each token, (B, T), from rows (B, T, T) of all tokens.

    Or from (B, 1, S), attention pooling's, which sees all tokens or the patches alone.
    """
    if matrix.shape[1] == 1:
        return pad_prefix(network, images, matrix)[:, 0]
    weights = _read_by_head(network.model, matrix.shape[1])
    return jnp.einsum("t,bts->bs", weights.astype(matrix.dtype), matrix)


def read_joint(
    network: WatchedNetwork, images: jax.Array, joint: jax.Array, pooled: jax.Array | None
) -> jax.Array:
    """What the head takes of each token, (B, T), through all blocks' joint matrix (B, T, T).

    pooled: the row (B, 1, S) of attention pooling, where there is one.
    """
    if pooled is None:
        return read_rows(network, images, joint)
    row, model = pad_prefix(network, images, pooled), network.model
    if model.has_distillation_head:  # which pools nothing
        row = (row + distillation_row(model, row.shape[-1])) / 2
    return (row @ joint)[:, 0]


def pad_prefix(network: WatchedNetwork, images: jax.Array, row: jax.Array) -> jax.Array:
    """A row (B, 1, S) of attention pooling with zeros for prefix tokens that it doesn't see."""
    missing = network.model.num_tokens(images.shape) - row.shape[-1]
    return jnp.pad(row, ((0, 0), (0, 0), (missing, 0)))


def number_of_patches(network: WatchedNetwork, images: jax.Array) -> int:
    """How many of a vision transformer's tokens are patches."""
    return network.model.num_tokens(images.shape) - network.model.prefix_tokens


def _read_by_head(model: object, number: int) -> jax.Array:
    """How much the heads read of each token after the last block, (T,), of sum 1."""
    read = _read_by_pool(model, number)
    if not model.has_distillation_head:
        return read
    return (read + distillation_row(model, number)) / 2


def distillation_row(model: object, number: int) -> jax.Array:
    """What a second head reads of each token, (T,): the distillation token alone."""
    return (jnp.arange(number) == int(model.class_token)).astype(jnp.float32)


def _read_by_pool(model: object, number: int) -> jax.Array:
    """How much the pooling takes of each token, (T,), of sum 1."""
    place = jnp.arange(number)
    cls = (place == 0).astype(jnp.float32)
    patches = (place >= model.prefix_tokens).astype(jnp.float32)
    patches = patches / patches.sum()
    if model.pool == "avg_all":
        return jnp.full(number, 1 / number)
    if model.pool == "cls_avg":
        return (cls + patches) / 2
    if model.pool == "cls" or (model.pool == "none" and model.class_token):
        return cls
    return patches


def _identity(like: jax.Array) -> jax.Array:
    return jnp.broadcast_to(jnp.eye(like.shape[-1], dtype=like.dtype), like.shape)


def fused_maps(network: WatchedNetwork, values: Tree, head_fusion: str) -> list[jax.Array]:
    """Every block's map, (B, T, T)."""
    return [fuse_heads(one, head_fusion) for one in block_maps(values, range(network.model.depth))]


def fused_pool(values: Tree, head_fusion: str) -> jax.Array | None:
    """Attention pooling's map (B, 1, T), None without."""
    pooled = pool_map(values)
    return None if pooled is None else fuse_heads(pooled, head_fusion)


def last_map(network: WatchedNetwork, tree: Tree, layer: int = -1) -> jax.Array:
    """Of one block what `Watched` has of its map; of attention pooling, where it comes last."""
    pooled = pool_map(tree)
    if layer == -1 and pooled is not None:
        return pooled
    return block_maps(tree, [network.layer("layer", layer)])[0]

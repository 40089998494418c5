"""A small training state of every kind of leaf, on meshes, and a bit that changes on disk."""

import pathlib
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec


class Extra(NamedTuple):
    counter: jax.Array
    keys: jax.Array


@flax.struct.dataclass
class State:
    params: dict
    opt_state: tuple
    extra: Extra
    ema: dict | None = None


def mesh_of(devices: int) -> Mesh:
    return Mesh(np.array(jax.devices()[:devices]), ("data",))


def make_state(seed: int = 0, width: int = 16) -> State:
    key = jax.random.key(seed)
    params = {
        "body": {"kernel": jax.random.normal(key, (16, width)), "nothing": {}},
        "head": jax.random.normal(key, (24,)).astype(jnp.bfloat16),
    }
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
    opt_state = tx.init(params)
    _, opt_state = tx.update(jax.tree.map(lambda x: x * 3, params), opt_state, params)
    return State(params, opt_state, Extra(jnp.int32(7), jax.random.split(key, 8)))


def shardings(tree: State, devices: int):
    mesh = mesh_of(devices)

    def one(leaf):
        split = leaf.ndim > 0 and leaf.shape[0] % devices == 0
        return NamedSharding(mesh, PartitionSpec("data") if split else PartitionSpec())

    return jax.tree.map(one, tree)


def place(tree: State, devices: int) -> State:
    return jax.device_put(tree, shardings(tree, devices))


def abstract(tree: State, devices: int):
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        tree,
        shardings(tree, devices),
    )


def assert_same_bits(tree, other) -> None:
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    for x, y in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def flip_one_bit(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

"""What is told of each array of a state: in one program, with one wait."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vit_jax_xfer.storage import tree_check
from vit_jax_xfer.train.stopping import NonFiniteLoss, check_state


@pytest.fixture
def programs(monkeypatch):
    """The programs that are run, each as its compiled text."""
    texts, make = [], tree_check._program

    def counted(function, place):
        def run(arrays):
            program = make(function, place)
            texts.append(program.lower(arrays).compile().as_text())
            return program(arrays)

        return run

    monkeypatch.setattr(tree_check, "_program", counted)
    return texts


def state_of(leaves: int) -> dict:
    """So many arrays, split over eight devices, and one that is whole."""
    mesh = Mesh(np.array(jax.devices()), ("data",))
    split, whole = (NamedSharding(mesh, PartitionSpec(*axis)) for axis in (("data",), ()))
    rng = np.random.default_rng(0)
    state = {f"kernel_{i}": rng.standard_normal((8 * (1 + i % 3), 4)) for i in range(leaves)}
    state = {name: jax.device_put(x.astype(np.float32), split) for name, x in state.items()}
    return {**state, "step": jax.device_put(jnp.int32(3), whole)}


def test_checks_of_a_state_are_one_program_each_whatever_its_leaves(programs):
    state = state_of(12)
    sums = tree_check.checksums(state)
    check_state(3, state)
    assert len(programs) == 2
    # What each device has is exchanged as one vector, or as one operation over all of them.
    assert [text.count(" all-reduce(") for text in programs] == [1, 1]
    on_host = tree_check.checksums({name: np.asarray(x) for name, x in state.items()})
    assert sums == on_host and list(sums) == list(on_host)


def test_the_bad_leaf_among_many_is_named(programs):
    state = state_of(5)
    state["kernel_3"] = state["kernel_3"].at[2, 1].set(jnp.nan)
    with pytest.raises(NonFiniteLoss, match="kernel_3 is not finite at step 7"):
        check_state(7, state)
    assert len(programs) == 1


def test_arrays_of_several_devices_orders_are_told_too():
    backwards = Mesh(np.array(jax.devices()[::-1]), ("data",))
    state = state_of(2)
    place = NamedSharding(backwards, PartitionSpec("data"))
    state["other"] = jax.device_put(jnp.arange(16.0), place)
    state["alone"] = jnp.arange(5, dtype=jnp.bfloat16)
    wanted = tree_check.checksums({name: np.asarray(x) for name, x in state.items()})
    assert tree_check.checksums(state) == wanted

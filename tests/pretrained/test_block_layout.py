"""Blocks stacked for a scan and taken apart again."""

import jax
import numpy as np
import pytest

from vit_jax_xfer.pretrained.parameter_rules import stack_blocks, unstack_blocks

PARAMS = {
    "encoder": {f"blocks_{i}": {"norm1": {"scale": np.full(3, i)}} for i in range(11)},
    "decoder_blocks_0": {"bias": np.zeros(2)},
    "decoder_blocks_1": {"bias": np.ones(2)},
    "norm": {"scale": np.ones(3)},
}


def test_stacking_and_back():
    stacked = stack_blocks(PARAMS)
    assert stacked["encoder"]["blocks"]["norm1"]["scale"].shape == (11, 3)
    # In the order of numbers, not of names: 10 is last.
    np.testing.assert_array_equal(
        stacked["encoder"]["blocks"]["norm1"]["scale"][:, 0], np.arange(11)
    )
    assert stacked["decoder_blocks"]["bias"].shape == (2, 2)
    back = unstack_blocks(stacked)
    assert jax.tree.structure(back) == jax.tree.structure(PARAMS)
    assert jax.tree.all(jax.tree.map(np.array_equal, back, PARAMS))
    assert jax.tree.all(jax.tree.map(np.array_equal, unstack_blocks(PARAMS), PARAMS))


def test_only_the_groups_that_are_stacked_elsewhere():
    half = stack_blocks(PARAMS, like={"encoder": {"blocks": {}}, "norm": {}})
    assert half.keys() == {"encoder", "decoder_blocks_0", "decoder_blocks_1", "norm"}
    assert half["encoder"].keys() == {"blocks"}


def test_gaps_and_uneven_stacks_are_named():
    with pytest.raises(ValueError, match=r"blocks: blocks are numbered \[0, 2\]"):
        stack_blocks({"blocks_0": {"b": np.ones(1)}, "blocks_2": {"b": np.ones(1)}})
    with pytest.raises(ValueError, match=r"blocks: leading axes \[2, 3\]"):
        unstack_blocks({"blocks": {"a": np.ones((2, 1)), "b": np.ones((3, 1))}})

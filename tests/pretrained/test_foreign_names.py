"""The name map: one error with everything that does not fit, alternatives, both directions."""

import numpy as np
import pytest

from vit_jax_xfer.pretrained import load_pretrained
from vit_jax_xfer.pretrained.fill import from_publisher
from vit_jax_xfer.pretrained.parameter_rules import (
    QKV_BIAS,
    QKV_KERNEL,
    SPLIT_QKV_BIAS,
    SPLIT_QKV_KERNEL,
    Layout,
    inside,
    rule,
)
from vit_jax_xfer.pretrained.publish import to_publisher


def test_one_error_lists_all_that_is_left_over(golden):
    state = golden("timm/supervised_cls")
    del state["blocks.1.mlp.fc2.bias"]
    state["blocks.2.norm1.weight"] = np.ones(47, np.float32)
    state["blocks.0.adapter.weight"] = np.ones(48, np.float32)
    with pytest.raises(ValueError) as caught:
        load_pretrained(state, num_heads=3)
    message = str(caught.value)
    assert "not used: blocks.0.adapter.weight" in message
    assert "not filled: blocks_1/mlp/fc2/bias (from blocks.1.mlp.fc2.bias)" in message
    assert "disagree: blocks.2.norm1.weight: found (47,), wanted (48,)" in message


def test_a_block_too_many_is_left_over():
    rules = (rule("blocks_{i}/scale", "blocks.{i}.weight"),)
    state = {f"blocks.{i}.weight": np.ones(2) for i in range(3)}
    shapes = {f"blocks_{i}/scale": (2,) for i in range(2)}
    with pytest.raises(ValueError, match="1 names in the file that were not used: blocks.2.weight"):
        from_publisher(state, shapes, rules)


def test_buffers_may_be_ignored_by_pattern():
    rules, state = (rule("w", "w"),), {"w": np.ones(2), "blocks.0.rope.periods": np.ones(4)}
    ignored = (r"blocks\.\d+\.rope\.periods",)
    assert from_publisher(state, {"w": (2,)}, rules, ignored).keys() == {"w"}
    with pytest.raises(ValueError, match="1 names in the file .* not used: blocks.0.rope.periods"):
        from_publisher(state, {"w": (2,)}, rules)


def test_a_parameter_without_a_name_is_an_error_both_ways():
    with pytest.raises(ValueError, match=r"not filled: gate \(no name in this family\)"):
        from_publisher({}, {"gate": (2,)}, ())
    with pytest.raises(ValueError, match="parameters without a name in this family: gate"):
        to_publisher({"gate": np.ones(2)}, ())


def test_the_first_alternative_that_the_file_has_is_taken():
    fused = rule("qkv/bias", "qkv.bias", QKV_BIAS)
    split = rule("qkv/bias", ("q.bias", "k.bias", "v.bias"), SPLIT_QKV_BIAS)
    q, k, v = np.arange(12.0).reshape(3, 4)
    shapes, expected = {"qkv/bias": (3, 2, 2)}, np.arange(12.0).reshape(3, 2, 2)
    for state in ({"q.bias": q, "k.bias": k, "v.bias": v}, {"qkv.bias": np.arange(12.0)}):
        loaded = from_publisher(state, shapes, (fused, split))
        np.testing.assert_array_equal(loaded["qkv/bias"], expected)
    assert to_publisher(loaded, (fused, split)).keys() == {"qkv.bias"}
    with pytest.raises(
        ValueError, match=r"; 1 param\S+ that were not filled: qkv/bias \(from v.bias\)$"
    ):
        from_publisher({"q.bias": q, "k.bias": k}, shapes, (fused, split))


def test_arrays_that_the_file_has_in_part():
    """A key bias that the publisher leaves out is zero in ours, and left out again."""

    def load(theirs, shape):
        q, v = theirs
        return np.stack([q, np.zeros_like(q), v]).reshape(shape)

    layout = Layout(load, lambda ours: (ours[0].reshape(-1), ours[2].reshape(-1)))
    rules = (rule("bias", ("q_bias", "v_bias"), layout),)
    state = {"q_bias": np.ones(4), "v_bias": np.full(4, 2.0)}
    loaded = from_publisher(state, {"bias": (3, 2, 2)}, rules)
    np.testing.assert_array_equal(loaded["bias"][1], 0)
    assert to_publisher(loaded, rules).keys() == state.keys()


def test_split_and_fused_projections_agree():
    q, k, v = np.random.default_rng(0).standard_normal((3, 6, 6))
    shape = (6, 3, 2, 3)
    fused = QKV_KERNEL.load([np.concatenate([q, k, v])], shape)
    split = SPLIT_QKV_KERNEL.load([q, k, v], shape)
    np.testing.assert_array_equal(fused, split)
    for got, want in zip(SPLIT_QKV_KERNEL.save(split), (q, k, v), strict=True):
        np.testing.assert_array_equal(got, want)
    # Row (which, head, channel) of PyTorch's matrix is output (which, head, channel) of ours.
    np.testing.assert_array_equal(split[:, 1, 1, 2], k[1 * 3 + 2])


def test_rules_of_a_module_inside_another():
    (moved,) = inside("encoder/", (rule("norm/scale", "norm.weight"),))
    assert (moved.ours, moved.theirs) == ("encoder/norm/scale", ("norm.weight",))

"""Name rules: the first whole match decides, and nothing is treated by accident."""

import flax.struct
import jax.numpy as jnp
import pytest

from vit_jax_xfer.train.rules import Rules, named_leaves


def test_first_match_wins():
    rules = Rules([("head/.*", 1), (".*/kernel", 2), (".*", 3)], "test")
    assert [rules.of(name) for name in ("head/kernel", "a/kernel", "a/bias")] == [1, 2, 3]


def test_patterns_match_whole_names():
    rules = Rules([("head", 1), ("kernel", 2), (".*", 3)], "test")
    assert rules.of("head") == 1
    assert rules.of("head/kernel") == rules.of("ahead") == 3


def test_uncovered_name_is_an_error():
    with pytest.raises(ValueError, match=r"sharding: no rule covers the parameter 'a/bias'"):
        Rules([(".*kernel", 1)], "sharding").tree({"a": {"kernel": 0, "bias": 0}})


@pytest.mark.parametrize("rules", [[("(", 1)], [("a",)], [(3, 1)], ["abc"]])
def test_bad_rules_name_the_field(rules):
    with pytest.raises(ValueError, match="optim.lr_rules: expected"):
        Rules(rules, "optim.lr_rules")


def test_tree_keeps_the_structure_and_values_may_be_none():
    tree = {"a": {"kernel": jnp.zeros(2)}, "b": [jnp.zeros(1), jnp.zeros(1)]}
    values = Rules([("b/1", None), ("b/.*", 5), (".*", 7)], "test").tree(tree)
    assert values == {"a": {"kernel": 7}, "b": [5, None]}


def test_names_are_the_same_for_dicts_and_dataclasses():
    @flax.struct.dataclass
    class Pair:
        left: dict
        right: tuple

    names = [name for name, _ in named_leaves(Pair({"x": {"y": 1}}, (2, 3)))]
    assert names == ["left/x/y", "right/0", "right/1"]

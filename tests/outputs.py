"""What networks give and are, compared; files renamed."""

import re
from typing import Any

import jax
import numpy as np

from vit_jax_xfer.pretrained import load_pretrained
from vit_jax_xfer.pretrained.file_to_model import load_on_host


def assert_close(found: Any, wanted: Any, name: str = "", tolerance: float = 1e-5) -> None:
    """Fails unless no number differs by more than `tolerance` times the largest wanted one."""
    assert found is not None, f"{name}: there is none"
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    assert found.shape == wanted.shape, f"{name}: {found.shape}, wanted {wanted.shape}"
    difference = np.abs(found - wanted).max() / np.abs(wanted).max()
    assert difference <= tolerance, f"{name}: differs by {difference:.1e} of the largest number"


def assert_same(found: Any, wanted: Any) -> None:
    """Fails unless both trees have the same names and equal arrays, bit by bit."""
    names = [
        [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
        for tree in (found, wanted)
    ]
    assert set(names[0]) == set(names[1]), set(names[0]) ^ set(names[1])
    for name, left, right in zip(
        names[0], jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True
    ):
        np.testing.assert_array_equal(left, right, err_msg=name)


def assert_same_network(
    state: Any, origin: Any, family: str, weights: str | None = None, **different: Any
) -> None:
    """Fails unless both are loaded as the same model with equal variables, `state` as `family`'s.

    different: fields, and their values for `state`, that its names tell otherwise than origin's.
    Preprocessing is the family's affair.
    """
    model, variables, found = load_on_host(state, weights=weights, num_heads=3)
    wanted, origins = load_pretrained(origin, num_heads=3)
    assert found.family.name == family
    wanted = wanted.clone(preprocessing=model.preprocessing, **different)
    assert model == wanted
    assert_same(variables, origins)


def renamed(state: dict[str, Any], *pairs: tuple[str, str]) -> dict[str, Any]:
    """The state with each name changed by every (pattern, replacement) in turn."""
    names = {}
    for old, value in state.items():
        new = old
        for pattern, replacement in pairs:
            new = re.sub(pattern, replacement, new)
        assert new not in names, f"{old}: another name became {new} too"
        names[new] = value
    return names


def prefixed(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    """The state with the prefix before every name."""
    return {prefix + name: value for name, value in state.items()}

"""The benchmark of attributions compares the same maps."""

import pytest

from benchmarks import explain_speed

pytest.importorskip("torch", reason="needs torch, which ours is compared with")


def test_pytorchs_maps_are_ours():
    found = explain_speed.contenders("vit_micro_patch8", 32, 2)
    explain_speed.check(found)
    found["gradcam/torch"] = lambda: 2 * found["gradcam/vit_jax_xfer"]()
    with pytest.raises(ValueError, match="gradcam: maps differ by"):
        explain_speed.check(found)

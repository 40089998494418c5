"""The benchmark of attributions compares the same maps."""

import argparse

import pytest

from benchmarks import explain_speed

pytest.importorskip("torch", reason="needs torch, which ours is compared with")


def test_pytorchs_maps_are_ours():
    found = explain_speed.contenders("vit_micro_patch8", 32, 2)
    explain_speed.check(found)
    found["gradcam/torch"] = lambda: 2 * found["gradcam/vit_jax_xfer"]()
    with pytest.raises(ValueError, match="gradcam: maps differ by"):
        explain_speed.check(found)


def test_a_row_has_its_methods_products():
    found = explain_speed.method_products("vit_micro_patch8", 32, 2)
    assert len(found) == 2 * len(explain_speed.CASES)
    times = {name: [8.0] * 10 for name in found}
    for name, milliseconds in (("vit_jax_xfer", 10.0), ("torch", 16.0)):
        times |= {f"{label}/{name}": [milliseconds] * 10 for label in explain_speed.CASES}
    arguments = argparse.Namespace(widest=0.15, batch=2)
    row = explain_speed.row_of("legrad/vit_jax_xfer", "alone", times, arguments)
    assert row["ratio"] == 1.6 and row["of gradcam"] == 1 and row["share %"] == 80
    assert row["images_s"] == 200 and "mark" not in row
    # A gradient through all blocks is more work than one of the last block alone.
    work = {name: rate.gflops for name, rate in found.items()}
    whole, last = (f"{label}/products alone, JAX" for label in ("legrad", "legrad, last two"))
    assert work[whole] > work[last]

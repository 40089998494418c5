"""UPerNet and its neck against reference outputs, and on maps of another stride."""

import jax
import numpy as np

from tests.models.dense import torch_names as torch
from vit_jax_xfer.models.dense.upernet import POOL_SIDES, ScaleNeck, UPerNetHead

CLOSE = {"rtol": 2e-5, "atol": 2e-5}


def test_upernet_is_the_reference(golden_case):
    case = golden_case("dense/seg/upernet")
    params, stats = {}, {}
    names = {f"pool_{side}": f"psp_modules.{i}.1" for i, side in enumerate(POOL_SIDES)}
    for i in range(3):
        names |= {f"lateral_{i}": f"lateral_convs.{i}", f"level_{i}": f"fpn_convs.{i}"}
    names |= {"context": "bottleneck", "fuse": "fpn_bottleneck"}
    for ours, theirs in names.items():
        layer = torch.convolution_norm(case.state, f"{theirs}.conv", f"{theirs}.batch_norm")
        params[ours], stats[ours] = layer
    params["pixels"] = {"classify": torch.linear(case.state, "classifier")}
    head = UPerNetHead(7, width=case.meta["hidden"])
    maps = [case.arrays[f"in{i}"] for i in range(4)]
    logits = jax.jit(head.apply)({"params": params, "batch_stats": stats}, maps)
    np.testing.assert_allclose(logits, case.arrays["logits"], **CLOSE)


def test_the_neck_is_the_reference(golden_case):
    case = golden_case("dense/seg/vit_upernet_neck")
    params = {
        "scale_0_up_0": torch.doubling(case.state, "fpn1.0"),
        "scale_0_norm_1": torch.norm(case.state, "fpn1.1"),
        "scale_0_up_1": torch.doubling(case.state, "fpn1.3"),
        "scale_1_up_0": torch.doubling(case.state, "fpn2.0"),
    }
    stats = {"scale_0_norm_1": torch.statistics(case.state, "fpn1.1")}
    maps = [case.arrays[f"layer{i}"] for i in range(4)]
    found = jax.jit(ScaleNeck().apply)({"params": params, "batch_stats": stats}, maps)
    for i, x in enumerate(found):
        np.testing.assert_allclose(x, case.arrays[f"out{i}"], **CLOSE)


def test_maps_of_half_the_stride_come_to_the_same_sizes():
    maps = [np.zeros((1, 8, 8, 4), np.float32)] * 4
    shapes = jax.eval_shape(lambda: ScaleNeck(finest=1).init_with_output(jax.random.key(0), maps))
    assert [x.shape[1] for x in shapes[0]] == [16, 8, 4, 2]

"""The light heads of segmentation against reference outputs."""

import jax
import numpy as np

from tests.models.dense import torch_names as torch
from vit_jax_xfer.models.dense.segmentation_heads import (
    LinearHead,
    PixelClasses,
    SegmenterHead,
    SetrHead,
    resized_map,
)

CLOSE = {"rtol": 2e-5, "atol": 2e-5}


def test_a_linear_head_on_four_layers_is_dinov2s(golden_case):
    case = golden_case("dense/seg/linear_bn_4layers")
    params = {"norm": torch.norm(case.state, "bn")}
    params["pixels"] = {"classify": torch.linear(case.state, "conv_seg")}
    variables = {"params": params, "batch_stats": {"norm": torch.statistics(case.state, "bn")}}
    maps = [case.arrays[f"layer{i}"] for i in range(4)]
    logits = LinearHead(7).apply(variables, maps)
    np.testing.assert_allclose(logits, case.arrays["logits"], **CLOSE)
    upsampled = resized_map(logits, (84, 70))
    stride = int(case.arrays["upsampled_stride"])
    found = upsampled[:, ::stride, ::stride]
    np.testing.assert_allclose(found, case.arrays["upsampled"], **CLOSE)


def test_a_mask_transformer_is_segmenters(golden_case):
    case = golden_case("dense/seg/segmenter_mask")
    state, heads = case.state, case.meta["heads"]
    decoder = {}
    for i in range(case.meta["layers"]):
        name = f"blocks.{i}"
        qkv, proj = (torch.linear(state, f"{name}.{part}") for part in ("qkv", "proj"))
        qkv = {"kernel": qkv["kernel"].reshape(24, 3, heads, -1),
               "bias": qkv["bias"].reshape(3, heads, -1)}  # fmt: skip
        proj["kernel"] = proj["kernel"].reshape(heads, -1, 24)
        decoder[f"blocks_{i}"] = {
            "attention": {"qkv": qkv, "proj": proj},
            "mlp": {part: torch.linear(state, f"{name}.{part}") for part in ("fc1", "fc2")},
            **{part: torch.norm(state, f"{name}.{part}") for part in ("norm1", "norm2")},
        }
    params = {
        "embed": torch.linear(state, "proj_dec"),
        "class_tokens": state["cls_emb"],
        "decoder": decoder,
        "norm": torch.norm(state, "decoder_norm"),
        "mask_norm": torch.norm(state, "mask_norm"),
        "project_cells": {"kernel": state["proj_patch"]},
        "project_classes": {"kernel": state["proj_classes"]},
    }
    tokens = case.arrays["tokens"]
    head = SegmenterHead(7, heads)
    masks = jax.jit(head.apply)({"params": params}, [tokens.reshape(2, 5, 6, 24)])
    np.testing.assert_allclose(masks.reshape(2, 30, 7), case.arrays["masks"], **CLOSE)


def test_progressive_upsampling_is_setrs(golden_case):
    case = golden_case("dense/seg/setr_pup")
    params, stats = {"norm": torch.norm(case.state, "norm")}, {}
    for i in range(4):
        layer = torch.convolution_norm(case.state, f"conv_{i}", f"bn_{i}")
        params[f"up_{i}"], stats[f"up_{i}"] = layer
    params["pixels"] = {"classify": torch.linear(case.state, "conv_4")}
    tokens = case.arrays["tokens"].reshape(2, *case.meta["grid"], 24)
    variables = {"params": params, "batch_stats": stats}
    logits = jax.jit(SetrHead(7, width=12).apply)(variables, [tokens])
    np.testing.assert_allclose(logits, case.arrays["logits"], **CLOSE)


def test_channels_are_dropped_whole_and_only_in_training():
    x = np.ones((2, 3, 3, 40), np.float32)
    head = PixelClasses(40, dropout=0.5)
    params = {"classify": {"kernel": np.eye(40, dtype=np.float32), "bias": np.zeros(40)}}
    rngs = {"dropout": jax.random.key(0)}
    seen = np.asarray(head.apply({"params": params}, x, True, rngs=rngs))
    assert (seen == seen[:, :1, :1]).all() and set(np.unique(seen)) == {0.0, 2.0}
    assert (np.asarray(head.apply({"params": params}, x)) == 1).all()

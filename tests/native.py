"""Tiny networks with the native parts of published families, for tests of transfer."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax_xfer.models.vit import VisionTransformer

# The shapes of the published cases: run op by op, equal shapes are compiled once for all files.
FIELDS: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 8,
    "width": 48,
    "depth": 2,
    "num_heads": 3,
    "num_classes": 10,
}
IMAGES = np.random.default_rng(0).standard_normal((3, 32, 32, 3)).astype(np.float32)

NATIVE: dict[str, dict[str, Any]] = {
    "layer_scale": {"layer_scale": 0.1},
    "registers": {"registers": 2},
    "class_position": {"class_position": False},
    "distillation_token": {"distillation_token": True},
    "pre_norm": {"pre_norm": True},
    "activation": {"activation": "quick_gelu"},
    "swiglu": {"mlp": "swiglu", "mlp_norm": True, "mlp_dim": 64},
    "no_key_bias": {"qkv_bias": "no_key"},
    "masked_key_bias": {"qkv_bias": "masked_key"},
    "qk_norm": {"qk_norm": True},
    "attention_norm": {"attention_norm": True},
    "block_bias": {"relative_bias": "block", "position": "none"},
    "shared_bias": {"relative_bias": "shared", "position": "none"},
    "dinov3_rotary": {"rotary": "dinov3", "position": "none", "registers": 1},
    "eva02_rotary": {"rotary": "eva02", "rotary_base": 10000.0},
    "attention_pooling": {"pool": "map", "class_token": False},
    "patch_bias": {"patch_bias": False},
}


def network(**fields: Any) -> VisionTransformer:
    """A tiny network; its fields win over FIELDS."""
    return VisionTransformer(**{**FIELDS, **fields})


def draw(model: VisionTransformer, seed: int) -> Any:
    """Random variables far from the initial ones, whose maps would be almost uniform."""
    height, width = (side * model.patch_size for side in model.grid)
    images = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(0.3 * rng.standard_normal(x.shape), x.dtype), shapes)


def cross_entropy(teacher: np.ndarray, student: np.ndarray) -> np.ndarray:
    """The loss of one layer's maps (B, H, T, S) by its definition, in float64."""
    rows = np.asarray(teacher, np.float64) * np.log(np.asarray(student, np.float64))
    return -rows.sum(-1).mean()

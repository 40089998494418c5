"""Native parts of published families: parameters, off by default; one invariant each."""

from functools import partial

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.native import FIELDS, IMAGES, NATIVE, draw, network
from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.pretrained.parameter_rules import stack_blocks

PLAIN = network()
# Of the plain network, and of each of its blocks: what published files have had all along.
ENDS = {
    "cls_token": (1, 1, 48),
    "pos_embed": (1, 17, 48),
    "patch_embed/kernel": (8, 8, 3, 48),
    "patch_embed/bias": (48,),
    "norm/scale": (48,),
    "norm/bias": (48,),
    "head/kernel": (48, 10),
    "head/bias": (10,),
}
BLOCK = {
    "norm1/scale": (48,),
    "norm1/bias": (48,),
    "attention/qkv/kernel": (48, 3, 3, 16),
    "attention/qkv/bias": (3, 3, 16),
    "attention/proj/kernel": (3, 16, 48),
    "attention/proj/bias": (48,),
    "norm2/scale": (48,),
    "norm2/bias": (48,),
    "mlp/fc1/kernel": (48, 192),
    "mlp/fc1/bias": (192,),
    "mlp/fc2/kernel": (192, 48),
    "mlp/fc2/bias": (48,),
}
GATE = {"blocks_1/mlp/gate/kernel": (48, 192), "blocks_1/mlp/gate/bias": (192,)}
POOL = {
    "attention_pool/probe": (1, 1, 48),
    **{
        f"attention_pool/{name.removeprefix('attention/').replace('norm2', 'norm')}": shape
        for name, shape in BLOCK.items()
        if not name.startswith("norm1")
    },
}
# fields: (what they add to the plain network, or change in it; what they take away)
PARTS = [
    ({"layer_scale": 0.1}, {"blocks_1/layer_scale1": (48,), "blocks_1/layer_scale2": (48,)}, ()),
    ({"registers": 2}, {"register_tokens": (1, 2, 48)}, ()),
    ({"class_position": False}, {"pos_embed": (1, 16, 48)}, ()),
    (
        {"distillation_token": True},
        {
            "dist_token": (1, 1, 48),
            "pos_embed": (1, 18, 48),
            "distillation_classifier/kernel": (48, 10),
            "distillation_classifier/bias": (10,),
        },
        (),
    ),
    (
        {"distillation_token": True, "distillation_head": False},
        {"dist_token": (1, 1, 48), "pos_embed": (1, 18, 48)},
        (),
    ),
    ({"mask_token": True}, {"mask_token": (1, 1, 48)}, ()),
    ({"patch_bias": False}, {}, ("patch_embed/bias",)),
    ({"pre_norm": True}, {"norm_pre/scale": (48,), "norm_pre/bias": (48,)}, ()),
    ({"activation": "gelu_tanh"}, {}, ()),
    ({"mlp": "swiglu"}, GATE, ()),
    ({"mlp": "geglu"}, GATE, ()),
    ({"mlp_norm": True}, {"blocks_1/mlp/norm/scale": (192,), "blocks_1/mlp/norm/bias": (192,)}, ()),
    ({"qkv_bias": "no_key"}, {"blocks_1/attention/qkv/bias": (2, 3, 16)}, ()),
    ({"qkv_bias": "masked_key"}, {}, ()),
    ({"qkv_bias": "none"}, {}, ("blocks_1/attention/qkv/bias",)),
    (
        {"qk_norm": True},
        {f"blocks_1/attention/{x}_norm/{y}": (16,) for x in "qk" for y in ("scale", "bias")},
        (),
    ),
    (
        {"attention_norm": True},
        {"blocks_1/attention/norm/scale": (48,), "blocks_1/attention/norm/bias": (48,)},
        (),
    ),
    ({"relative_bias": "block"}, {"blocks_1/attention/relative_bias": (7 * 7 + 3, 3)}, ()),
    ({"relative_bias": "shared"}, {"relative_bias": (7 * 7 + 3, 3)}, ()),
    ({"rotary": "dinov3"}, {}, ()),
    ({"rotary": "eva02", "position": "none"}, {}, ("pos_embed",)),
    ({"head_bias": False}, {}, ("head/bias",)),
    ({"pre_logits": True}, {"representation/kernel": (48, 48), "representation/bias": (48,)}, ()),
    ({"pool": "map"}, POOL, ()),
    ({"pool": "cls_avg"}, {"head/kernel": (96, 10)}, ()),
    ({"pool": "avg_all"}, {}, ()),
]


def shapes(model):
    flat = flax.traverse_util.flatten_dict(draw_shapes(model), sep="/")
    return {name: leaf.shape for name, leaf in flat.items()}


def draw_shapes(model):
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), images)["params"]


def plain():
    return {**ENDS, **{f"blocks_{i}/{name}": x for i in range(2) for name, x in BLOCK.items()}}


def test_all_parts_are_off_by_default():
    assert shapes(PLAIN) == plain()
    off = {
        "layer_scale": None,
        "registers": 0,
        "class_position": True,
        "distillation_token": False,
        "distillation_head": None,
        "mask_token": False,
        "patch_bias": True,
        "pre_norm": False,
        "activation": "gelu",
        "mlp": "plain",
        "mlp_norm": False,
        "qkv_bias": "full",
        "qk_norm": False,
        "attention_norm": False,
        "relative_bias": "none",
        "rotary": "none",
        "head_bias": True,
        "pre_logits": False,
    }
    assert VisionTransformer(**FIELDS, **off) == PLAIN


@pytest.mark.parametrize(("fields", "added", "removed"), PARTS, ids=[str(x[0]) for x in PARTS])
def test_parameters_of_each_part(fields, added, removed):
    both = {
        name.replace("blocks_1", f"blocks_{i}"): shape
        for name, shape in added.items()
        for i in range(2)
    }
    gone = {name.replace("blocks_1", f"blocks_{i}") for name in removed for i in range(2)}
    wanted = {name: shape for name, shape in {**plain(), **both}.items() if name not in gone}
    assert shapes(network(**fields)) == wanted


@pytest.mark.parametrize("name", NATIVE)
def test_scanned_and_bfloat16_forms(name):
    """One block scanned gives the same; bfloat16 gives it to its digits, logits in float32."""
    model = network(**NATIVE[name])
    variables = jax.tree.map(lambda x: 0.5 * x, draw(model, 0))
    images = IMAGES[:1]

    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def forms(variables):
        scanned = {"params": stack_blocks(variables["params"])}
        return (
            model.apply(variables, images),
            model.clone(scan=True).apply(scanned, images),
            model.clone(dtype=jnp.bfloat16).apply(variables, images),
        )

    logits, scanned, rough = forms(variables)
    np.testing.assert_allclose(scanned, logits, rtol=1e-4, atol=1e-5)
    assert rough.dtype == jnp.float32
    assert 0 < np.abs(rough - logits).max() < 0.1 * np.abs(logits).max()

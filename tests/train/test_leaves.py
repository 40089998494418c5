"""The table of leaves over every network there is: one row a leaf, and what the row says."""

import functools
import re

import jax
import jax.numpy as jnp
import pytest

from vit_jax_xfer.models.dense.dense_network import DenseNetwork
from vit_jax_xfer.models.filter.patterns import PATTERNS
from vit_jax_xfer.models.mae import MaskedAutoencoder
from vit_jax_xfer.models.registry import create_model, list_models
from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.train import leaves
from vit_jax_xfer.train.optimizer import DECAY_RULES, layer_decay_rules
from vit_jax_xfer.train.rules import Rules, named_leaves
from vit_jax_xfer.train.sharding import TENSOR_RULES, make_mesh, param_shardings

DEPTH = 2
# Fields that change sizes or values, and no leaf's name, by what they are here.
SAME = {
    **{
        "width": 16,
        "depth": DEPTH,
        "num_heads": 2,
        "mlp_dim": 24,
        "image_size": 32,
        "patch_size": 16,
    },
    **{"norm_eps": 1e-6, "activation": "gelu", "kernel_init": "truncated_normal"},
    **{"layer_scale": 1.0, "registers": 1, "position_resize": "bicubic", "rotary": "none"},
    **{"rotary_grid": None, "rotary_base": 100.0, "preprocessing": None, "num_classes": 3},
}
# Parts that no network of the registry has, and blocks stacked.
MORE = {
    "normalised queries": ("vit_micro_patch2", {"qk_norm": True, "pre_logits": True}),
    "probe": ("vit_micro_patch2", {"batch_norm": True}),
    "stacked": ("vit_micro_patch2", {"scan": True}),
    "stacked DINOv2": ("vit_giant_patch14_reg4_dinov2", {"scan": True}),
    "stacked EVA-02": ("eva02_base_patch16_clip", {"scan": True}),
    "stacked BEiT": ("beit_base_patch16", {"scan": True}),
    "stacked SigLIP": ("vit_base_patch16_siglip", {"scan": True}),
    "stacked MAE": ("mae_vit_micro_patch2", {"scan": True}),
    "convolutions": ("vitdet_micro_patch4", {"conv_blocks": (0,)}),
    "MAE with learned positions": ("mae_vit_micro_patch2", {"position": "learned"}),
    "UPerNet on LiFT": ("segmentation", {"head": "upernet", "channels": 8, "lift": "lift"}),
    "UPerNet": ("segmentation", {"head": "upernet", "channels": 8}),
    "Segmenter": ("segmentation", {"head": "segmenter"}),
    "centre detector of several maps": ("centre_detector", {"backbone": "filter_vit_micro"}),
    **{f"FilterViT, {name}": ("filter_vit_micro", {"attend": name}) for name in PATTERNS},
    "FilterViT, none": ("filter_vit_micro", {"attend": "none"}),
    "SETR": ("segmentation", {"head": "setr_pup", "channels": 8}),
}


def small(model):
    """A vision transformer with the same names in few and small blocks."""
    if isinstance(model, MaskedAutoencoder):
        fields = {"decoder_width": 16, "decoder_depth": DEPTH, "decoder_num_heads": 2}
        return model.clone(encoder=small(model.encoder), **fields)
    if isinstance(model, DenseNetwork):
        lift = model.lift and model.lift.clone(width=SAME["width"], patch_size=SAME["patch_size"])
        return model.clone(encoder=small(model.encoder), lift=lift)
    if not isinstance(model, VisionTransformer):
        return model
    model = model.shallow(min(DEPTH, model.depth))
    return model.clone(**{name: value for name, value in SAME.items() if getattr(model, name)})


@functools.cache
def shapes_of(model):
    """Shapes of a network's variables."""
    return jax.eval_shape(model.init_variables, jax.random.key(0))


@pytest.fixture(scope="module")
def networks():
    """{name of a network: shapes of its variables}, of all, those of one structure shared."""
    found = {name: shapes_of(small(create_model(name))) for name in list_models()}
    for title, (name, fields) in MORE.items():
        found[title] = shapes_of(small(create_model(name, **fields)))
    assert len(found) > 120
    return found


@pytest.fixture(scope="module")
def distinct(networks):
    """Each structure's name and shapes, once."""
    return {id(shapes): (name, shapes) for name, shapes in networks.items()}.values()


def test_each_leaf_of_each_network_has_one_row_and_each_row_a_leaf(distinct):
    patterns = [re.compile(pattern) for pattern, _ in leaves.leaf_rules(lambda row: row)]
    used = set()
    for network, shapes in distinct:
        for name, leaf in named_leaves(shapes):
            rows = [i for i, pattern in enumerate(patterns) if pattern.fullmatch(name)]
            assert len(rows) == 1, (network, name, [leaves.LEAVES[i] for i in rows])
            used.update(rows)
            tensor = leaves.LEAVES[rows[0]].kind.tensor
            assert tensor is None or leaf.ndim >= -tensor, (network, name)
    unused = [row for i, row in enumerate(leaves.LEAVES) if i not in used]
    assert not unused


def test_a_row_says_what_the_shape_of_a_leaf_shows(distinct):
    """Decay takes kernels and nothing else; stacked and single blocks agree."""
    decays = Rules(DECAY_RULES, "test")
    for network, shapes in distinct:
        for name, leaf in named_leaves(shapes):
            assert decays.of(name) == bool(re.search("(^|[/_])kernel$", name)), (network, name)
            if leaf.ndim == 1:
                assert not decays.of(name), (network, name)


def test_layer_decay_counts_each_leaf_of_each_network_once(distinct):
    rules = [
        (re.compile(pattern), scale)
        for pattern, scale in layer_decay_rules(20, 0.5)  # the longest FilterViT has fewer stages
    ]
    for network, shapes in distinct:
        for name, _ in named_leaves(shapes["params"]):
            found = [scale for pattern, scale in rules if pattern.fullmatch(name)]
            assert len(found) == 1, (network, name)
            block = re.match(r"(encoder/)?(blocks|stage)_(\d+)/", name)
            if block:
                assert found == [0.5 ** (20 - int(block[3]))], (network, name)
            elif re.match("(encoder/)?blocks/", name):
                assert found[0].shape == (20,)
            else:
                assert found[0] in (0.5**21, 1.0), (network, name)


@pytest.mark.parametrize(
    ("names", "tensor", "decays", "at"),
    [
        ("patch_embed/kernel stem/conv/kernel stem_residual/widen/kernel", None, True, "start"),
        ("cls_token dist_token register_tokens mask_token pos_embed", None, False, "start"),
        ("relative_bias norm_pre/scale norm_pre/bias patch_embed/bias", None, False, "start"),
        ("stem/norm/scale stem_residual/depthwise_norm/bias stem/conv/bias", None, False, "start"),
        ("blocks_1/attention/qkv/kernel", -2, True, "block"),
        ("blocks_1/attention/qkv/bias", -2, False, "block"),
        ("blocks_1/attention/proj/kernel", -3, True, "block"),
        ("blocks_1/attention/norm/scale", -1, False, "block"),
        ("blocks_1/attention/q_norm/scale blocks_1/attention/proj/bias", None, False, "block"),
        ("blocks_1/attention/relative_bias blocks_1/layer_scale1", None, False, "block"),
        ("blocks_1/mlp/fc1/kernel blocks_1/mlp/gate/kernel", -1, True, "block"),
        ("blocks_1/mlp/fc1/bias blocks_1/mlp/gate/bias", -1, False, "block"),
        ("blocks_1/mlp/norm/scale blocks_1/mlp/norm/bias", -1, False, "block"),
        ("blocks_1/mlp/fc2/kernel", -2, True, "block"),
        ("blocks_1/mlp/fc2/bias blocks_1/norm1/scale blocks_1/norm2/bias", None, False, "block"),
        ("stage_1/score/kernel stage_1/encoder_0/qkv_kernel", None, True, "block"),
        ("stage_1/score/bias stage_1/encoder_0/qkv_bias stage_1/score/norm/scale", None, False,
         "block"),
        ("norm/scale head_norm/bias head/bias attention_pool/probe", None, False, "end"),
        ("head/kernel head_hidden/kernel distillation_classifier/kernel", None, True, "end"),
        ("attention_pool/qkv/kernel decoder_blocks_1/attention/qkv/kernel", -2, True, "end"),
        ("attention_pool/mlp/fc2/kernel decoder_blocks_1/mlp/fc2/kernel", -2, True, "end"),
        ("decoder_pos_embed decoder_norm/scale distance", None, False, "end"),
        ("decoder_embed/kernel image_0/conv/kernel up/kernel offset/kernel", None, True, "end"),
    ],
)  # fmt: skip
def test_what_the_table_says_of_each_kind_of_leaf(names, tensor, decays, at):
    scale = {"start": 0.5**5, "block": 0.5**3, "end": 1.0}[at]
    for name in names.split():
        for before in ("", "encoder/"):
            assert Rules(TENSOR_RULES, "test").of(before + name) == tensor, name
            assert Rules(DECAY_RULES, "test").of(before + name) == decays, name
            assert Rules(layer_decay_rules(4, 0.5), "test").of(before + name) == scale, name
        # A frozen teacher, a member of an ensemble, and one of these with a teacher of its own.
        for before in ("params/", "member_0/params/", "member_1/own/params/encoder/"):
            assert Rules(TENSOR_RULES, "test").of(before + name) == tensor, name
    if at == "block":
        for name in names.split():
            stacked = name.replace("blocks_1/", "blocks/")
            assert Rules(TENSOR_RULES, "test").of(stacked) == tensor
            assert Rules(DECAY_RULES, "test").of(stacked) == decays


@pytest.mark.parametrize(
    "name",
    ["head/weight", "blocks_0/attention/kernel", "blocks_9/extra/norm1/scale", "adapter/kernel",
     "other/head/kernel", "blocks_0/mlp/fc3/kernel", "batch_stats/head/mean"],
)  # fmt: skip
def test_a_leaf_that_no_row_names_is_an_error(name):
    tree = functools.reduce(lambda value, key: {key: value}, reversed(name.split("/")), jnp.ones(2))
    for rules in (DECAY_RULES, layer_decay_rules(4, 0.5), layer_decay_rules(4, 1.0)):
        with pytest.raises(ValueError, match=f"test: no rule covers the parameter '{name}'"):
            Rules(rules, "test").tree(tree)
    with pytest.raises(ValueError, match=f"train/leaves.py: no rule covers .*'{name}'"):
        param_shardings(tree, make_mesh(-1, 1, 1), 1)


def test_layer_decay_of_a_block_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="no rule covers the parameter 'blocks_4/norm1/bias'"):
        Rules(layer_decay_rules(4, 0.5), "test").of("blocks_4/norm1/bias")


@pytest.mark.parametrize("scan", [False, True])
def test_the_tensor_axis_splits_all_of_a_gated_mlp_and_qkv_biases_of_two_parts(scan):
    model = small(create_model("eva02_base_patch16_clip", scan=scan))
    shapes = shapes_of(model)["params"]
    block = "blocks/" if scan else "blocks_1/"
    found = {
        name.removeprefix(block): (leaf.shape[scan:], tuple(sharding.spec)[scan:])
        for (name, leaf), (_, sharding) in zip(
            named_leaves(shapes),
            named_leaves(param_shardings(shapes, make_mesh(4, 1, 2), 1)),
            strict=True,
        )
        if name.startswith(block)
    }
    assert found["attention/qkv/bias"] == ((2, 2, 8), (None, "tensor", None))
    assert found["attention/norm/scale"] == ((16,), ("tensor",))
    for layer in ("fc1", "gate"):
        assert found[f"mlp/{layer}/kernel"] == ((16, 24), (None, "tensor"))
        assert found[f"mlp/{layer}/bias"] == ((24,), ("tensor",))
    assert found["mlp/norm/scale"] == found["mlp/norm/bias"] == ((24,), ("tensor",))
    assert found["mlp/fc2/kernel"] == ((24, 16), ("tensor", None))
    assert found["norm1/scale"] == ((16,), (None,))
    with pytest.raises(ValueError, match="mesh.tensor: 4 does not divide 2, .* blocks.*/attention"):
        param_shardings(shapes, make_mesh(2, 1, 4), 1)

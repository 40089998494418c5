"""Families: whole loading, fields told from shapes, and what is refused."""

import jax
import numpy as np
import pytest

from vit_jax_xfer.models.mae import MaskedAutoencoder
from vit_jax_xfer.models.preprocessing import IMAGENET, Preprocessing
from vit_jax_xfer.models.transformer.positions import resize_positions, sincos_2d
from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.pretrained import FAMILIES, load_pretrained, to_publisher_names
from vit_jax_xfer.pretrained.families import FAMILIES as BY_NAME
from vit_jax_xfer.pretrained.family_entry import usual_heads
from vit_jax_xfer.pretrained.file_to_model import load_on_host

# case: (family that its names tell, the fields that shapes can't tell)
CASES = {
    "timm/supervised_cls": ("supervised", {"num_heads": 3}),
    "timm/mae_gap": ("mae", {"num_heads": 3}),
    "mae_pretrain/normpix_0": ("mae", {"num_heads": 3, "decoder_num_heads": 4}),
    "attention_transfer/distill_end0_gap": ("mae", {"num_heads": 3}),
    "attention_transfer/distill_end0_cls": ("supervised", {"num_heads": 3}),
}
PLAIN = "timm/supervised_cls"


def same_arrays(left, right):
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_a_file_loads_whole_and_goes_back(golden, case, scan):
    family, fields = CASES[case]
    model, variables, found = load_on_host(golden(case), scan=scan, **fields)
    assert (found.family.name, found.dialect) == (family, "timm")
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    decodes = isinstance(model, MaskedAutoencoder)
    assert decodes == ("decoder_num_heads" in fields)
    noise = (jax.ShapeDtypeStruct((1, 16), np.float32),) if decodes else ()
    init = jax.eval_shape(model.init, jax.random.key(0), images, *noise)
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), dict(init))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), variables) == shapes
    same_arrays(to_publisher_names(variables, family), golden(case))


def test_fields_come_from_shapes_and_names(golden):
    model, _ = load_pretrained(golden("timm/mae_gap"), num_heads=3, drop_path=0.1)
    expected = VisionTransformer(
        image_size=32,
        patch_size=8,
        width=48,
        depth=3,
        num_heads=3,
        mlp_dim=192,
        num_classes=10,
        pool="avg",
        position_resize="bicubic",
        preprocessing=Preprocessing(*IMAGENET, size=32),
        drop_path=0.1,
    )
    assert model == expected
    assert load_pretrained(golden(PLAIN), num_heads=3)[0].pool == "cls"


def test_without_its_head_a_network_pools_as_asked(golden):
    """All tokens are normed first, as before; with its head it goes on reading what it learnt."""
    state = golden(PLAIN)
    bare = {name: x for name, x in state.items() if not name.startswith("head")}
    for source, more in ((bare, {}), (bare, {"num_classes": 4}), (state, {"num_classes": 0})):
        model, _ = load_pretrained(source, num_heads=3, pool="avg", **more)
        assert (model.pool, model.norm_after_pool) == ("avg", False)
    assert not load_pretrained(bare, num_heads=3, pool="avg_all")[0].norm_after_pool
    with pytest.raises(ValueError, match="not filled: head_norm/bias"):
        load_pretrained(state, num_heads=3, pool="avg")


def test_mae_gives_the_autoencoder_or_its_encoder(golden):
    state = golden("mae_pretrain/normpix_1")
    whole, variables = load_pretrained(state, num_heads=3, decoder_num_heads=4)
    assert isinstance(whole, MaskedAutoencoder)
    assert (whole.decoder_width, whole.decoder_depth, whole.decoder_mlp_dim) == (32, 2, 128)
    assert whole.encoder.pool == "none"
    alone, encoder = load_pretrained(state, num_heads=3, decoder=False)
    assert isinstance(alone, VisionTransformer)
    assert (alone.pool, alone.num_classes) == ("cls", 0)
    assert jax.tree.all(
        jax.tree.map(np.array_equal, encoder["params"], variables["params"]["encoder"])
    )


def test_a_headless_file_is_told_by_its_positions(golden):
    state = golden("mae_pretrain/normpix_0")
    alone = {k: x for k, x in state.items() if k != "mask_token" and not k.startswith("decoder_")}
    assert told(alone) == ("dino", "bicubic_offset")
    fixed = sincos_2d((4, 4), 48)
    assert told({**alone, "pos_embed": fixed}) == ("mae", "bicubic")
    # MoCo v3's table has the two halves of MAE's exchanged.
    halves = np.concatenate([fixed[..., 24:], fixed[..., :24]], axis=-1)
    assert told({**alone, "pos_embed": halves})[0] == "moco_v3"
    assert told({**alone, "masked_embed": np.zeros((1, 48))})[0] == "ibot"
    with pytest.raises(ValueError, match="decoder: got True"):
        load_pretrained(alone, "mae", num_heads=3, decoder=True)


def told(state):
    model, _, found = load_on_host(state, num_heads=3)
    return found.family.name, model.position_resize


def test_another_image_size_resizes_the_positions(golden):
    state = golden("mae_pretrain/normpix_0")
    fields = {"num_heads": 3, "decoder_num_heads": 4, "image_size": (48, 24)}
    model, variables = load_pretrained(state, **fields)
    assert model.encoder.image_size == (48, 24)
    for found, name in (
        (variables["params"]["encoder"]["pos_embed"], "pos_embed"),
        (variables["params"]["decoder_pos_embed"], "decoder_pos_embed"),
    ):
        np.testing.assert_array_equal(found, resize_positions(state[name], (4, 4), (6, 3)))


def test_positions_that_are_not_square_need_their_image_size(golden):
    state = golden(PLAIN)
    state["pos_embed"] = state["pos_embed"][:, : 1 + 12]
    with pytest.raises(ValueError, match="pos_embed: 13 positions"):
        load_pretrained(state, num_heads=3)
    model, variables = load_pretrained(state, num_heads=3, image_size=(32, 24))
    assert model.image_size == (32, 24)
    np.testing.assert_array_equal(variables["params"]["pos_embed"], state["pos_embed"])


def test_the_head_is_dropped_only_on_request(golden):
    model, variables = load_pretrained(golden(PLAIN), num_heads=3, num_classes=0)
    assert model.num_classes == 0
    assert "head" not in variables["params"]


def test_averaging_patches_after_the_norm_without_a_class_token(golden):
    state = golden(PLAIN)
    del state["cls_token"]
    state["pos_embed"] = state["pos_embed"][:, 1:]
    model, variables = load_pretrained(state, num_heads=3)
    assert (model.class_token, model.pool, model.pool_norm) == (False, "avg", False)
    assert model.apply(variables, np.zeros((1, 32, 32, 3), np.float32)).shape == (1, 10)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "num_heads: shapes don't tell it for width 48; pass num_heads="),
        ({"num_heads": 5}, "num_heads: 5 does not divide width 48"),
        ({"num_heads": 3, "width": 64}, "width: got 64, but the file has 48"),
        ({"num_heads": 3, "position": "sincos"}, "position: got 'sincos'"),
        ({"num_heads": 3, "image_sise": 32}, "image_sise.*image_size"),
        ({"num_heads": 3, "image_size": 33}, "image_size: 33"),
        ({"num_heads": 3, "pool": "avg"}, r"norm\.weight.*not filled: head_norm"),
    ],
)
def test_fields_that_do_not_fit_are_named(golden, fields, message):
    with pytest.raises(ValueError, match=message):
        load_pretrained(golden(PLAIN), **fields)


def test_heads_of_the_decoder_are_named(golden):
    with pytest.raises(ValueError, match="decoder_num_heads: shapes don't tell it for width 32"):
        load_pretrained(golden("mae_pretrain/normpix_0"), num_heads=3)


def test_usual_heads_are_the_published_ones():
    published = {192: 3, 384: 6, 768: 12, 1024: 16, 1152: 16, 1280: 16, 64: None, 100: None}
    assert {width: usual_heads(width) for width in published} == published


def test_a_family_that_is_asked_for(golden):
    assert {"mae", "supervised"} <= set(BY_NAME) <= set(FAMILIES)
    names = ", ".join(sorted(BY_NAME))
    with pytest.raises(ValueError, match=f"family 'dyno' is unknown; families: {names}"):
        load_pretrained(golden(PLAIN), "dyno")
    model, _, found = load_on_host(golden(PLAIN), "dino", num_heads=3)
    assert (found.family.name, model.position_resize) == ("dino", "bicubic_offset")
    assert model.preprocessing == Preprocessing(*IMAGENET, size=32)


def test_where_several_families_fit_the_most_telling_is_taken(golden):
    """A file may be iBOT's and DINO's; the first of FAMILIES that fits is taken."""
    order = list(BY_NAME)
    assert order.index("mae") < order.index("ibot") < order.index("dino")
    assert order.index("dino") < order.index("supervised")


def test_networks_of_no_family_need_one_to_be_named(golden):
    state = golden(PLAIN)
    del state["pos_embed"]
    with pytest.raises(ValueError, match="of no known family; pass the nearest one as family=: "):
        load_pretrained(state, num_heads=3)
    with pytest.raises(ValueError, match="position: the file has none.*pass position='none'"):
        load_pretrained(state, "supervised", num_heads=3, image_size=32)
    said = {"position": "none", "image_size": 32}
    model, _ = load_pretrained(state, "supervised", num_heads=3, **said)
    assert (model.position, model.image_size) == ("none", 32)


def test_files_that_hold_no_vision_transformer(golden):
    with pytest.raises(ValueError, match="fit no family: conv1.weight"):
        load_pretrained({"conv1.weight": np.zeros((8, 3, 7, 7))})
    state = golden(PLAIN)
    del state["patch_embed.proj.weight"]
    with pytest.raises(ValueError, match="patch_embed.proj.weight: not in the file"):
        load_pretrained(state, "supervised")

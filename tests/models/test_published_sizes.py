"""Published networks have their publishers' sizes, and are what their files are read as."""

import fnmatch
import math
import re

import jax
import numpy as np
import pytest

from vit_jax_xfer.models.published import PUBLISHED
from vit_jax_xfer.models.registry import create_model
from vit_jax_xfer.models.transformer.positions import sincos_2d
from vit_jax_xfer.pretrained import to_publisher_names
from vit_jax_xfer.pretrained.file_to_model import recognise
from vit_jax_xfer.pretrained.fill import param_shapes
from vit_jax_xfer.pretrained.read_files import read_checkpoint

# What our networks have more than timm's of the same files.
MORE = {
    "": lambda model: 0,
    # Meta's and BAAI's own files have one; timm leaves it out.
    "mask token": lambda model: model.width,
    # Meta's files hold a bias of the keys that is masked; timm's `_qkvb` models leave it out.
    "mask token, key bias": lambda model: model.width + model.depth * model.width,
    # CLIP's projection has no bias; timm's has one of zeros.
    "no head bias": lambda model: -model.num_classes,
    # timm has the pre-trained ones, with 21,843 classes.
    "1000 classes": lambda model: -(21_843 - 1000) * (model.width + 1),
    # timm has the fine-tuned ones: a head of 1000, and a table of relative positions in each block.
    "one table, mask token, no head": lambda model: (
        -1000 * (model.width + 1)
        - (model.depth - 1) * (27 * 27 + 3) * model.num_heads
        + model.width
    ),
}
# name: (timm 1.0.31's number of parameters, what is more here, the publisher's figure in millions)
COUNTS = {
    "vit_tiny_patch16_augreg": (5_717_416, "", None),
    "vit_small_patch16_augreg": (22_050_664, "", None),
    "vit_small_patch32_augreg": (30_903_507, "1000 classes", None),
    "vit_base_patch8_augreg": (102_605_139, "1000 classes", None),
    "vit_base_patch16_augreg": (86_567_656, "", 86),
    "vit_base_patch32_augreg": (88_224_232, "", None),
    "vit_large_patch16_augreg": (304_326_632, "", 307),
    "deit_tiny_patch16": (5_717_416, "", 5),
    "deit_small_patch16": (22_050_664, "", 22),
    "deit_base_patch16": (86_567_656, "", 86),
    "deit_tiny_distilled_patch16": (5_910_800, "", 6),
    "deit_small_distilled_patch16": (22_436_432, "", 22),
    "deit_base_distilled_patch16": (87_338_192, "", 87),
    "deit3_small_patch16": (22_059_496, "", 22),
    "deit3_medium_patch16": (38_849_512, "", None),
    "deit3_base_patch16": (86_585_320, "", 86.6),
    "deit3_large_patch16": (304_374_760, "", 304.4),
    "deit3_huge_patch14": (632_126_440, "", 632.1),
    "vit_base_patch16_mae": (85_798_656, "", None),
    "vit_large_patch16_mae": (303_301_632, "", None),
    "vit_huge_patch14_mae": (630_764_800, "", None),
    "vit_small_patch16_dino": (21_665_664, "", 21),
    "vit_small_patch8_dino": (21_670_272, "", 21),
    "vit_base_patch16_dino": (85_798_656, "", 85),
    "vit_base_patch8_dino": (85_807_872, "", 85),
    # iBOT's and MoCo v3's are not in timm, but have the parameters of these that are.
    "vit_small_patch16_ibot": (21_665_664, "", 21),
    "vit_base_patch16_ibot": (85_798_656, "", 85),
    "vit_large_patch16_ibot": (303_301_632, "", 307),
    "vit_small_patch16_mocov3": (21_665_664, "", 22),
    "vit_base_patch16_mocov3": (85_798_656, "", 86),
    "vit_small_patch14_dinov2": (22_056_192, "mask token", 21),
    "vit_base_patch14_dinov2": (86_579_712, "mask token", 86),
    "vit_large_patch14_dinov2": (304_367_616, "mask token", 300),
    "vit_giant_patch14_dinov2": (1_136_479_232, "mask token", 1100),
    # timm adds the class token's position to the token: its table has a row less.
    "vit_small_patch14_reg4_dinov2": (22_057_344 + 384, "mask token", 21),
    "vit_base_patch14_reg4_dinov2": (86_582_016 + 768, "mask token", 86),
    "vit_large_patch14_reg4_dinov2": (304_370_688 + 1024, "mask token", 300),
    "vit_giant_patch14_reg4_dinov2": (1_136_483_840 + 1536, "mask token", 1100),
    "vit_small_patch16_dinov3": (21_596_160, "mask token, key bias", 21),
    "vit_small_plus_patch16_dinov3": (28_692_480, "mask token, key bias", 29),
    "vit_base_patch16_dinov3": (85_659_648, "mask token, key bias", 86),
    "vit_large_patch16_dinov3": (303_128_576, "mask token, key bias", 300),
    "vit_huge_plus_patch16_dinov3": (840_591_360, "mask token, key bias", 840),
    "vit_7b_patch16_dinov3": (6_716_030_976, "mask token", 6716),
    "vit_base_patch32_clip": (87_849_728, "no head bias", None),
    "vit_base_patch16_clip": (86_193_152, "no head bias", None),
    "vit_large_patch14_clip": (303_966_976, "no head bias", None),
    "vit_huge_patch14_clip": (632_077_824, "no head bias", None),
    "vit_giant_patch14_clip": (1_012_646_656, "no head bias", None),
    "vit_gigantic_patch14_clip": (1_844_908_544, "no head bias", None),
    "vit_base_patch32_clip_quickgelu": (87_849_728, "no head bias", None),
    "vit_base_patch16_clip_quickgelu": (86_193_152, "no head bias", None),
    "vit_large_patch14_clip_quickgelu": (303_966_976, "no head bias", None),
    "vit_base_patch16_siglip": (92_884_224, "", None),
    "vit_base_patch32_siglip": (94_552_320, "", None),
    "vit_large_patch16_siglip": (315_956_224, "", None),
    "vit_so400m_patch14_siglip": (428_225_600, "", 428),
    "vit_so400m_patch16_siglip": (427_888_064, "", 428),
    "vit_giantopt_patch16_siglip": (1_163_168_256, "", None),
    "beit_base_patch16": (86_530_984, "", 87),
    "beit_large_patch16": (304_430_568, "", 304),
    "beit_base_patch16_pt22k": (86_530_984, "one table, mask token, no head", None),
    "beit_large_patch16_pt22k": (304_430_568, "one table, mask token, no head", None),
    "beitv2_base_patch16": (86_530_984, "", None),
    "beitv2_large_patch16": (304_430_568, "", None),
    "beitv2_base_patch16_pt1k": (86_530_984, "one table, mask token, no head", None),
    "beitv2_large_patch16_pt1k": (304_430_568, "one table, mask token, no head", None),
    "eva02_tiny_patch14": (5_502_144, "mask token", 6),
    "eva02_small_patch14": (21_621_120, "mask token", 22),
    "eva02_base_patch14": (85_758_720, "mask token", 86),
    "eva02_large_patch14": (303_268_800, "mask token", 304),
    "eva02_base_patch16_clip": (86_263_040, "", None),
    "eva02_large_patch14_clip": (304_105_152, "", None),
}
# Names, as patterns, whose files don't tell some fields, and what must be passed beside them.
UNTOLD = {
    "vit_*_clip": {"activation"},  # OpenAI's quick GELU, unless the caller passes "gelu"
}
FAMILY = {"deit_*_patch16": "deit", "beitv2_*": "beitv2"}  # else AugReg's, BEiT's


def test_every_published_network_is_counted():
    assert COUNTS.keys() == PUBLISHED.keys()


@pytest.mark.parametrize("name", COUNTS)
def test_numbers_of_parameters(name):
    # Scanned, for the same number of parameters is traced sooner.
    model = create_model(name, scan=True)
    number = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(param_shapes(model)))
    timm, more, published = COUNTS[name]
    assert number == timm + MORE[more](model)
    # Publishers round generously: DINOv2's 300M and 1,100M.
    if published is not None:
        assert abs(number / 1e6 - published) < max(1, 0.06 * published)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_publishers_file_is_read_as_the_network_of_its_name(name):
    model = create_model(name)
    family = next((f for pattern, f in FAMILY.items() if fnmatch.fnmatch(name, pattern)), None)
    found = recognise(read_checkpoint(file_of(name, model)), family, {}).model
    differ = {f for f in model.__dataclass_fields__ if getattr(found, f) != getattr(model, f)}
    untold = [fields for pattern, fields in UNTOLD.items() if fnmatch.fnmatch(name, pattern)]
    assert differ == set().union(*untold)


def file_of(name, model):
    """The names and shapes of a publisher's file, in full depth, of arrays without memory."""
    shapes = param_shapes(model.clone(depth=1))
    zeros = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), shapes)
    names = "google" if name.endswith("_augreg") else None
    once = to_publisher_names({"params": zeros}, publisher(name), names)
    first = re.compile(r"(\bblocks\.|\bresblocks\.|encoderblock_)0\b")
    state = {
        first.sub(rf"\g<1>{i}", key): array
        for i in range(model.depth)
        for key, array in once.items()
    }
    if name.endswith(("_mae", "_mocov3")):
        table = sincos_2d(model.grid, model.width)  # MoCo's has its two halves exchanged
        shift = model.width // 2 if name.endswith("_mocov3") else 0
        state["pos_embed"] = np.roll(table, shift, axis=2)
    return state


def publisher(name):
    """Whose names a network's file has, of FAMILIES."""
    by_end = {
        "_augreg": "supervised",
        "_mae": "mae",
        "_dino": "dino",
        "_ibot": "ibot",
        "_mocov3": "moco_v3",
        "_dinov2": "dinov2",
        "_dinov3": "dinov3",
        "_siglip": "siglip",
    }
    start = name.split("_")[0]
    if start != "vit":
        return start
    return next((family for end, family in by_end.items() if name.endswith(end)), "clip")

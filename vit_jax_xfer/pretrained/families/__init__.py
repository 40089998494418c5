"""The families of published checkpoints, each one file, in the order in which a file is tried.

A new family is a file beside these and an entry here; nothing else names it.
"""

from collections.abc import Iterator

from vit_jax_xfer.pretrained.families.beit3_weights import BEIT3
from vit_jax_xfer.pretrained.families.beit_weights import BEIT, BEITV2
from vit_jax_xfer.pretrained.families.clip_weights import CLIP
from vit_jax_xfer.pretrained.families.deit_weights import DEIT, DEIT3
from vit_jax_xfer.pretrained.families.dino_weights import DINO, IBOT
from vit_jax_xfer.pretrained.families.dinov2_weights import DINOV2
from vit_jax_xfer.pretrained.families.dinov3_weights import DINOV3
from vit_jax_xfer.pretrained.families.eva02_weights import EVA02
from vit_jax_xfer.pretrained.families.eva_weights import EVA
from vit_jax_xfer.pretrained.families.filter_vit_weights import FILTER_VIT
from vit_jax_xfer.pretrained.families.flip_weights import FLIP
from vit_jax_xfer.pretrained.families.ijepa_weights import IJEPA
from vit_jax_xfer.pretrained.families.lift_weights import LIFT
from vit_jax_xfer.pretrained.families.mae_weights import MAE
from vit_jax_xfer.pretrained.families.moco_v3_weights import MOCO_V3
from vit_jax_xfer.pretrained.families.siglip_weights import SIGLIP
from vit_jax_xfer.pretrained.families.supervised_weights import SUPERVISED
from vit_jax_xfer.pretrained.families.timm_rotary_weights import TIMM_ROTARY
from vit_jax_xfer.pretrained.families.torchvision_weights import TORCHVISION_VIT
from vit_jax_xfer.pretrained.families.vitdet_weights import VITDET
from vit_jax_xfer.pretrained.family_entry import Family
from vit_jax_xfer.pretrained.rename import Dialect

# The most telling first: where several fit a file, the first is taken.
_IN_ORDER = (
    FILTER_VIT,
    LIFT,
    VITDET,
    BEITV2,
    BEIT,
    BEIT3,
    EVA02,
    EVA,
    TIMM_ROTARY,
    DINOV3,
    SIGLIP,
    CLIP,
    DINOV2,
    DEIT3,
    DEIT,
    MAE,
    MOCO_V3,
    IJEPA,
    FLIP,
    IBOT,
    DINO,
    TORCHVISION_VIT,
    SUPERVISED,
)

FAMILIES: dict[str, Family] = {family.name: family for family in _IN_ORDER}


def vit_dialects() -> Iterator[Dialect]:
    """Every way of naming in which a vision transformer of some family comes."""
    for family in FAMILIES.values():
        if family.other is None:
            yield from family.dialects

"""timm's tags: the training that a name's part behind the dot stands for, by its data and images.

What a tag says of a network of fresh weights: how many classes its head has, and how its images are
prepared. Source: the `pretrained_cfg`s of timm 1.0.31.
"""

import fnmatch
from typing import Any

from vit_jax_xfer.models.preprocessing import CLIP, IMAGENET, INCEPTION, Preprocessing

_COLOURS = {
    "imagenet": IMAGENET,
    "half": INCEPTION,
    "clip": CLIP,
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "satellite": ((0.430, 0.411, 0.296), (0.213, 0.156, 0.143)),
}
# Channels that images and texts share, by the image tower's width.
_SHARED = {256: 512, 512: 512, 640: 512, 768: 512, 896: 640, 1024: 768, 1280: 1024, 1408: 1024}
_SHARED |= {1664: 1280}

# architecture | tag | classes ("shared", as above) | colours | share of the crop, then "squash" or
# "bilinear" where it is so. The first that fits counts.
_TABLE = """
deit3_*           fb_in22k_ft_in1k            1000  imagenet 1.0
deit*_224         fb_in1k                     1000  imagenet 0.9
deit*             fb_in1k                     1000  imagenet 1.0
beit3_*           *in22k_ft_in1k              1000  imagenet 1.0
beit3_*           *pt                         0     imagenet 1.0
beit_*_224        in22k_ft_in22k_in1k         1000  half     0.9
beit_*            in22k_ft_in22k_in1k         1000  half     1.0
beit_*            in22k_ft_in22k              21841 half     0.9
beitv2_base_*     in1k_ft_in*1k               1000  imagenet 0.9
beitv2_large_*    in1k_ft_in*1k               1000  imagenet 0.95
beitv2_*          in1k_ft_in22k               21841 imagenet 0.9
eva_large_*_196   in22k_ft_in*1k              1000  clip     1.0
eva_large_*_336   in22k_ft_in*1k              1000  clip     1.0 squash
eva_giant_*_224   clip_ft_in1k                1000  clip     0.9
eva_giant_*_336   clip_ft_in1k                1000  clip     1.0 squash
eva_giant_*       m30m_ft_in22k_in1k          1000  imagenet 1.0 squash
eva_giant_*       laion400m                   1024  clip     0.9
eva_giant_*       merged2b                    1024  clip     0.9
eva02_large_*_336 merged2b                    768   clip     1.0
eva02_*           merged2b                    shared clip    0.9
eva02_*           mim_in22k                   0     clip     0.9
eva02_*           mim_m38m                    0     clip     0.9
eva02_*           mim_*_ft_in1k               1000  clip     1.0
eva02_*           mim_*_ft_in22k              21841 clip     1.0 squash
eva02_*           mim_*_ft_in22k_in1k         1000  clip     1.0 squash
flexivit_*        *ep_in1k                    1000  half     0.95
flexivit_*        *_in21k                     21843 half     0.95
vit_base_patch16_224_miil in21k               11221 none     0.875 bilinear
vit_base_patch16_224_miil in21k_ft_in1k       1000  none     0.875 bilinear
vit_*_224         augreg*_in1k                1000  half     0.9
vit_*_384         augreg*_in1k                1000  half     1.0
vit_*             augreg_in21k                21843 half     0.9
vit_*             orig_in21k                  0     half     0.9
vit_*_224         orig_in21k_ft_in1k          1000  half     0.9
vit_*_384         orig_in21k_ft_in1k          1000  half     1.0
vit_*             sam_in1k                    1000  half     0.9
vit_*             dino                        0     imagenet 0.9
vit_*             mae                         0     imagenet 0.9
vit_*_dinov2      lvd142m                     0     imagenet 1.0
vit_*_dinov3*     *lvd1689m                   0     imagenet 1.0
vit_*_dinov3*     sat493m                     0     satellite 1.0
vit_*_lingbot     robbyant                    0     imagenet 1.0 squash bilinear
vit_*_tipsv2      webli                       0     none     1.0
vit_*_gap_224     in*k_ijepa                  0     imagenet 0.9
vit_*_gap_448     in*k_ijepa                  0     imagenet 1.0
vit_*             bamboo                      115217 clip    1.0
vit_base_*clip*   openai                      shared clip    0.9
vit_*clip*        openai                      shared clip    1.0
vit_large_*       laion2b                     768   half     1.0
vit_base_patch32* laion2b                     shared clip    0.9
vit_*             laion2b                     shared clip    1.0
vit_base_patch32* laion400m_e32               shared clip    0.9
vit_*             laion400m_e32               shared clip    1.0
vit_*             datacompxl                  shared clip    1.0
vit_*             dfn[25]b*                   shared clip    1.0
vit_*             tinyclip_*                  shared clip    0.9
vit_*             apple_mclip2_dfndr2b        shared clip    1.0
vit_*_378         metaclip2_worldwide         shared clip    1.0 squash
vit_*             metaclip*                   shared clip    1.0
vit_large_*_224   laion2b_ft_in1k             1000  half     1.0
vit_large_*_336   laion2b_ft_in*1k            1000  half     1.0 squash
vit_large_*       laion2b_ft_in12k_in1k       1000  half     1.0
vit_large_*       laion2b_ft_in12k            11821 half     1.0
vit_base_*        *_ft_in12k                  11821 clip     0.9
vit_*clip*        *_ft_in12k                  11821 clip     1.0
vit_base_patch32_clip_224 *_ft_in*            1000  clip     0.9
vit_base_patch16_clip_224 laion2b_ft_in1k     1000  clip     1.0
vit_base_patch16_clip_224 openai_ft_in1k      1000  clip     0.9
vit_base_patch16_clip_224 *_ft_in12k_in1k     1000  clip     0.95
vit_base_*clip_384 openai_ft_in12k_in1k       1000  clip     0.95 squash
vit_base_patch32* laion2b_ft_in12k_in1k       1000  clip     1.0
vit_base_*clip_384 *_ft_in*                   1000  clip     1.0 squash
vit_*_clip_336    *_ft_in*                    1000  clip     1.0 squash
vit_*_clip_224    *_ft_in*                    1000  clip     1.0
vit_*siglip*      webli_ft_in1k               1000  half     1.0 squash
vit_*_gap_378     webli                       0     half     1.0
vit_so400m_*_gap_384 webli                    0     half     1.0
vit_*siglip*      *webli*                     0     half     0.9
vit_*_gap_224     pali*                       0     half     0.9
vit_*_gap_*       pali*                       0     half     1.0
vit_betwixt_patch16_rope_* sbb_in1k           1000  clip     0.95
vit_so150m2_*_448 sbb_*_ft_in1k               1000  half     1.0 squash
vit_so150m2_*     sbb_*_ft_in1k               1000  half     1.0
vit_so150m2_*     sbb_*_in12k                 11821 half     1.0
vit_*_384         sbb*_ft_in1k                1000  half     1.0
vit_*             sbb*_in12k                  11821 half     0.95
vit_*             sbb*_in1k                   1000  half     0.95
vit_*             sw_in12k                    11821 half     0.95
vit_*_384         sw_in12k_ft_in1k            1000  half     0.95 squash
vit_*             sw_in12k_ft_in1k            1000  half     0.95
test_vit*         r160_in1k                   1000  half     0.95
"""


def has_openais_activation(architecture: str, tag: str) -> bool:
    """Whether the weights are OpenAI's own, with their GELU, under any of timm's names.

    timm has them under a name of the exact GELU too, and says there that this is not theirs.
    Fine-tuned ones ("openai_ft_…") were trained on with the exact one.
    """
    return tag == "openai" and "_clip_" in architecture


def tagged(architecture: str, tag: str, width: int) -> dict[str, Any]:
    """The fields that a tag settles: `num_classes`, `preprocessing` without its size, a GELU.

    width: the network's. ValueError for a tag that is not known of this architecture.
    """
    if tag == "untrained":
        return {}
    quick = has_openais_activation(architecture, tag)
    for row in _TABLE.split("\n"):
        names, tags, classes, colours, share, *rest = row.split() or [""] * 5
        if fnmatch.fnmatch(architecture, names) and fnmatch.fnmatch(tag, tags):
            preprocessing = Preprocessing(
                *_COLOURS[colours],
                interpolation="bilinear" if "bilinear" in rest else "bicubic",
                crop=float(share),
                crop_mode="squash" if "squash" in rest else "center",
            )
            shared = classes == "shared"
            number = _SHARED[width] if shared else int(classes)
            found = {"num_classes": number, "preprocessing": preprocessing}
            return {**found, "activation": "quick_gelu"} if quick else found
    raise ValueError(
        f"tag {tag!r} of {architecture!r} is not known here; leave it out and pass num_classes= "
        "and preprocessing="
    )

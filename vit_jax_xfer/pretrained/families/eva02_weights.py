"""EVA-02 (2303.11331) and EVA-CLIP (2303.15389): BAAI's files, timm's."""

from vit_jax_xfer.models.preprocessing import CLIP, Preprocessing
from vit_jax_xfer.pretrained.family_entry import Evidence, Family, Naming, has_fields
from vit_jax_xfer.pretrained.fields_from_shapes import Fields
from vit_jax_xfer.pretrained.rename import TIMM, as_timm_keeps
from vit_jax_xfer.pretrained.rotary_tables import EVA02_BASE, EVA02_GRID, stored_grid

_MARKS = ("q_bias", "inner_attn_ln", "ffn_ln", "w1", "w2", "w3")


def _grid(evidence: Evidence) -> Fields:
    """Published ones, up to 448 pixels, count cells on the 16×16 grid of 224 and patches of 14.

    BAAI's files hold the angles themselves.
    """
    grid = stored_grid(evidence.reading.state)
    if grid is not None:
        return {"rotary_grid": grid}
    return {"rotary_grid": EVA02_GRID} if evidence.fields["width"] in (192, 384, 768, 1024) else {}


def _norms_after_branches(evidence: Evidence) -> str:
    """The enormous network norms after its branches, under the names of those that norm before."""
    fields = evidence.fields
    if fields["width"] != 1792 or fields["qkv_bias"] != "no_key":
        return ""
    return (
        "this is EVA-02 enormous, whose blocks norm after their branches; such blocks aren't "
        "built here, so it can't be loaded"
    )


# transformers has no class for it.
EVA02 = Family(
    name="eva02",
    source="EVA-02 (2303.11331), EVA-CLIP (2303.15389)",
    names={
        "publisher": Naming(TIMM, prefer=_MARKS, gated=("q_proj.weight",)),
        "timm": Naming(TIMM, gated=("q_proj",), change=as_timm_keeps),
    },
    fits=has_fields(position="learned", mlp="swiglu", qkv_bias="no_key"),
    refuses=_norms_after_branches,
    needs={"mlp": "swiglu", "qkv_bias": "no_key"},
    defaults={"rotary": "eva02", "rotary_base": EVA02_BASE, "position_resize": "bicubic"},
    choose=_grid,
    preprocessing=Preprocessing(*CLIP, crop=1.0),
    packed=True,
)

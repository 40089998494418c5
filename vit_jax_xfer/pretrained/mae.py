"""Family "mae": masked autoencoders as published, encoder alone or with the decoder.

Source: the state dicts of MAE (2111.06377). A file without `decoder_*`, or `decoder=False`, gives
the encoder as a VisionTransformer that pools the class token; otherwise a MaskedAutoencoder.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vit_jax_xfer.pretrained.family import Family, Fields, image_inputs
from vit_jax_xfer.pretrained.fields import (
    agree,
    count_blocks,
    fit_positions,
    heads,
    is_sincos,
    shape_of,
    stored_grid,
)
from vit_jax_xfer.pretrained.layout import LINEAR
from vit_jax_xfer.pretrained.names import State, affine, inside, norm, rule
from vit_jax_xfer.pretrained.vit import RULES as VIT_RULES
from vit_jax_xfer.pretrained.vit import block_rules, fit_vit, has_plain_names, vit_fields

RULES = (
    *VIT_RULES,  # the encoder alone
    *inside("encoder/", VIT_RULES),
    rule("mask_token", "mask_token"),
    rule("decoder_pos_embed", "decoder_pos_embed"),
    *affine("decoder_embed", "decoder_embed", LINEAR),
    *block_rules("decoder_blocks_{i}", "decoder_blocks.{i}"),
    *norm("decoder_norm", "decoder_norm"),
    *affine("decoder_pred", "decoder_pred", LINEAR),
)


def _recognises(state: Mapping[str, np.ndarray]) -> bool:
    """A decoder, or a headless ViT with MAE's fixed positions."""
    if not has_plain_names(state):
        return False
    headless = "head.weight" not in state and "fc_norm.weight" not in state
    return "decoder_embed.weight" in state or (headless and is_sincos(state["pos_embed"]))


def _plan(state: State, given: Fields) -> tuple[nn.Module, State]:
    from vit_jax_xfer.models.mae import MaskedAutoencoder
    from vit_jax_xfer.models.registry import build
    from vit_jax_xfer.models.vit import VisionTransformer

    given = {"position_resize": "bicubic", **given}
    present = "decoder_embed.weight" in state
    decoder = given.pop("decoder", present)
    if decoder and not present:
        raise ValueError("decoder: got True, but the file has no decoder_embed.weight")
    if decoder:
        model = build(MaskedAutoencoder, _both(state, given))
        return model, _fit(state, model)
    state = {name: x for name, x in state.items() if not _of_decoder(name)}
    model = build(VisionTransformer, vit_fields(state, given))
    return model, fit_vit(state, model)


def _both(state: State, given: Fields) -> Fields:
    """Fields of encoder and decoder, flat; the decoder's begin with `decoder_`."""
    width = shape_of(state, "decoder_embed.weight", 2)[0]
    own = {name: value for name, value in given.items() if name.startswith("decoder_")}
    rest = {name: value for name, value in given.items() if name not in own}
    told = {
        "decoder_width": width,
        "decoder_depth": count_blocks(state, "decoder_blocks.{i}."),
        "decoder_mlp_dim": shape_of(state, "decoder_blocks.0.mlp.fc1.weight", 2)[0],
    }
    number = heads(
        "decoder_num_heads", own.get("decoder_num_heads"), width, 16 if width == 512 else None
    )
    encoder = agree({"pool": "none", "num_classes": 0}, rest)
    return {**vit_fields(state, encoder), **agree(told, own), "decoder_num_heads": number}


def _fit(state: State, model: nn.Module) -> State:
    """The file with both tables of positions on the model's grid."""
    encoder = model.encoder
    tokens = shape_of(state, "decoder_pos_embed", 3)[1]
    old = stored_grid(tokens, 1, encoder.image_size, encoder.patch_size)
    table = fit_positions(state["decoder_pos_embed"], old, encoder.grid, 1, encoder.position_resize)
    return {**fit_vit(state, encoder), "decoder_pos_embed": table}


def _of_decoder(name: str) -> bool:
    return name == "mask_token" or name.startswith("decoder_")


def _inputs(model: nn.Module) -> tuple[jax.ShapeDtypeStruct, ...]:
    """One image, and for the autoencoder the noise that chooses its masked patches."""
    if not hasattr(model, "encoder"):
        return image_inputs(model)
    h, w = model.encoder.grid
    return (*image_inputs(model.encoder), jax.ShapeDtypeStruct((1, h * w), jnp.float32))


FAMILY = Family(name="mae", recognises=_recognises, plan=_plan, rules=RULES, inputs=_inputs)

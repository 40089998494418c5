"""MAE (2111.06377): its authors' files with or without the decoder, timm's, transformers'."""

from vit_jax_xfer.pretrained.families.hugging_face_names import HF_VIT
from vit_jax_xfer.pretrained.family_entry import (
    Evidence,
    Family,
    Naming,
    StoredNetwork,
    agree,
    imagenet,
    in_timm_names,
    is_self_supervised,
    is_sincos,
    number_of_heads,
    vision_transformer,
)
from vit_jax_xfer.pretrained.fields_from_shapes import Fields, Reading
from vit_jax_xfer.pretrained.rename import TIMM, as_timm_keeps, autoencoder_rules


def _fits(evidence: Evidence) -> bool:
    """With a decoder, or with its fixed table, or fine-tuned, with a norm after pooling."""
    if evidence.reading.has_decoder:
        return True
    if evidence.dialect == "timm" and evidence.reading.has("head_norm/scale"):
        return evidence.fields["position"] == "learned" and evidence.fields["class_token"]
    return evidence.dialect != "flax" and is_self_supervised(evidence) and is_sincos(evidence)


def _network(evidence: Evidence, fields: Fields, decoder_fields: Fields) -> StoredNetwork:
    """The autoencoder where the file has its decoder, or the encoder alone with decoder=False."""
    if not evidence.reading.has_decoder or not decoder_fields.get("decoder", True):
        return vision_transformer(evidence, fields, decoder_fields)
    decoder_fields = {k: v for k, v in decoder_fields.items() if k != "decoder"}
    if fields["num_classes"]:
        raise ValueError(
            "num_classes: a masked autoencoder has no head for classes; decoder=False loads the "
            "encoder, which may have one"
        )
    from vit_jax_xfer.models.mae import MaskedAutoencoder
    from vit_jax_xfer.models.registry import build

    rules, state = autoencoder_rules(), evidence.reading.state
    reading = Reading(state, rules, evidence.reading.shown)
    width = reading.shape("decoder_embed/kernel")[-1]
    stored = {
        "decoder_width": width,
        "decoder_depth": reading.count("decoder_blocks_{i}/norm1/scale"),
        "decoder_mlp_dim": reading.shape("decoder_blocks_0/mlp/fc2/kernel")[0],
    }
    heads = number_of_heads(
        "decoder_num_heads",
        decoder_fields.get("decoder_num_heads"),
        evidence.config.get("decoder_num_heads"),
        width,
        {512: 16},
        usual=False,
    )
    encoder = {**fields, "pool": "none", "num_classes": 0, "mask_token": False}
    decoder = {**agree(stored, decoder_fields), "decoder_num_heads": heads}
    return StoredNetwork(build(MaskedAutoencoder, {**encoder, **decoder}), rules, state)


MAE = Family(
    name="mae",
    source="MAE (2111.06377)",
    names={
        "publisher": Naming(TIMM),
        "timm": Naming(TIMM, change=as_timm_keeps),
        "huggingface": Naming(HF_VIT, inside="vit."),
    },
    fits=_fits,
    needs={"position": "learned", "class_token": True},
    choose=in_timm_names("bicubic"),
    preprocessing=imagenet(),
    network=_network,
)

"""Other ways of naming a ViT, as tables of pairs that read both ways.

A dialect renames a file to the common names (common.py) and back. In a pair, `{i}` stands for a
block's number and `*` for the rest of the name; where several of theirs mean one common name, the
first is what publishers' files carry and what is written.
"""

import dataclasses
import functools
import re
from collections.abc import Iterable

Pairs = tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Dialect:
    """One way of naming.

    name: what `convert --names` takes.
    signature: names (templates) of which a file in this dialect has at least one.
    pairs: (theirs, common). prefixes: what a whole model puts before its names, none included.
    prefer: marks of the common names that this dialect translates, for export.
    ignored: regular expressions of names that files carry to no use (buffers).
    """

    name: str
    signature: tuple[str, ...]
    pairs: Pairs
    prefixes: tuple[str, ...] = ("",)
    prefer: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    def speaks(self, names: Iterable[str]) -> bool:
        """Whether a file with these names is written in this dialect."""
        patterns = [_pattern(template) for template in self.signature]
        return any(p.fullmatch(self._bare(name)) for name in names for p in patterns)

    def to_common(self, name: str) -> str:
        """The common name of one of theirs; a name that no pair covers stays as it is."""
        return _translate(self._bare(name), self.pairs, 0, 1) or name

    def from_common(self, name: str) -> str:
        """Their name of a common one, the first of several; without a pair, as it is."""
        return _translate(name, self.pairs, 1, 0) or name

    def knows(self, name: str) -> bool:
        """Whether there is a name for a common one."""
        return _translate(name, self.pairs, 1, 0) is not None

    def _bare(self, name: str) -> str:
        for prefix in self.prefixes:
            if prefix and name.startswith(prefix):
                return name[len(prefix) :]
        return name


def _translate(name: str, pairs: Pairs, source: int, target: int) -> str | None:
    for pair in pairs:
        match = _pattern(pair[source]).fullmatch(name)
        if match is not None:
            found = match.groupdict()
            result = pair[target].replace("{i}", found.get("i") or "")
            return result.replace("*", found.get("rest") or "")
    return None


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    text = re.escape(template).replace(r"\{i\}", r"(?P<i>\d+)").replace(r"\*", "(?P<rest>.+)")
    return re.compile(text)


def _in_blocks(block: str, pairs: Iterable[tuple[str, str]]) -> Pairs:
    return tuple((f"{block}.{theirs}.*", f"blocks.{{i}}.{common}.*") for theirs, common in pairs)


_ATTENTION = (  # transformers up to 4, and all files on its hub
    ("attention.attention.query", "attn.q_proj"),
    ("attention.attention.key", "attn.k_proj"),
    ("attention.attention.value", "attn.v_proj"),
    ("attention.output.dense", "attn.proj"),
)
_NEW_ATTENTION = tuple((f"attention.{x}_proj", f"attn.{x}_proj") for x in "qkv") + (
    ("attention.o_proj", "attn.proj"),
)
_NORMS = (("layernorm_before", "norm1"), ("layernorm_after", "norm2"))
_PLAIN_MLP = (("mlp.fc1", "mlp.fc1"), ("mlp.fc2", "mlp.fc2"))

_VIT_ENDS: Pairs = (
    ("embeddings.cls_token", "cls_token"),
    ("embeddings.mask_token", "mask_token"),
    ("embeddings.distillation_token", "dist_token"),
    ("embeddings.register_tokens", "reg_token"),
    ("embeddings.position_embeddings", "pos_embed"),
    ("embeddings.patch_embeddings.projection.*", "patch_embed.proj.*"),
    ("layernorm.*", "norm.*"),
    ("classifier.*", "head.*"),
    ("cls_classifier.*", "head.*"),
    ("distillation_classifier.*", "head_dist.*"),
)

_DECODER: Pairs = tuple(
    (f"decoder.{block}.{{i}}.{theirs}.*", f"decoder_blocks.{{i}}.{common}.*")
    for block in ("decoder_layers", "decoder_encoder.layer")
    for theirs, common in (
        *_ATTENTION,
        *_NEW_ATTENTION,
        *_NORMS,
        ("intermediate.dense", "mlp.fc1"),
        ("output.dense", "mlp.fc2"),
        *_PLAIN_MLP,
    )
)

# ViT, DeiT, BEiT, MAE, and DINO and MSN, which transformers keeps as ViTs
HF_VIT = Dialect(
    name="hf_vit",
    signature=(
        "encoder.layer.{i}.layernorm_before.weight",
        "layers.{i}.layernorm_before.weight",
    ),
    prefixes=("vit.", "deit.", "beit.", "vit_msn.", "ijepa."),
    pairs=(
        *_VIT_ENDS,
        ("pooler.layernorm.*", "fc_norm.*"),
        ("pooler.dense.*", "pre_logits.fc.*"),
        *_in_blocks(
            "encoder.layer.{i}",
            (
                *_ATTENTION,
                *_NORMS,
                ("intermediate.dense", "mlp.fc1"),
                ("output.dense", "mlp.fc2"),
            ),
        ),
        *_in_blocks(
            "layers.{i}",
            (*_NEW_ATTENTION, *_NORMS, *_PLAIN_MLP),
        ),
        *(
            (
                f"{attention}.relative_position_bias.relative_position_bias_table",
                "blocks.{i}.attn.relative_position_bias_table",
            )
            for attention in ("encoder.layer.{i}.attention.attention", "layers.{i}")
        ),
        *(
            (f"{block}.{{i}}.lambda_{n}", f"blocks.{{i}}.gamma_{n}")
            for block in ("encoder.layer", "layers")
            for n in (1, 2)
        ),
        ("encoder.relative_position_bias.*", "rel_pos_bias.*"),
        ("shared_position_bias.*", "rel_pos_bias.*"),
        ("decoder.mask_token", "mask_token"),
        ("decoder.decoder_pos_embed", "decoder_pos_embed"),
        *_DECODER,
        *(
            (f"decoder.{name}.*", f"{name}.*")
            for name in ("decoder_embed", "decoder_norm", "decoder_pred")
        ),
    ),
    prefer=("q_proj", "gamma_"),
    ignored=(r".*relative_position_index", r"lm_head\.(weight|bias)"),
)

_DINOV2_BLOCK = (
    *_PLAIN_MLP,
    ("mlp.weights_in", "mlp.w12"),
    ("mlp.weights_out", "mlp.w3"),
    ("mlp.gate_proj", "mlp.gate"),
    ("mlp.up_proj", "mlp.up"),
    ("mlp.down_proj", "mlp.down"),
    ("norm1", "norm1"),
    ("norm2", "norm2"),
)

HF_DINOV2 = Dialect(
    name="hf_dinov2",
    signature=("encoder.layer.{i}.layer_scale1.lambda1",),
    prefixes=("dinov2.", "dinov2_with_registers."),
    pairs=(
        *_VIT_ENDS,
        *(
            (f"encoder.layer.{{i}}.layer_scale{n}.lambda1", f"blocks.{{i}}.ls{n}.gamma")
            for n in (1, 2)
        ),
        *_in_blocks("encoder.layer.{i}", (*_ATTENTION, *_NEW_ATTENTION, *_DINOV2_BLOCK)),
    ),
    prefer=("q_proj", "ls1", "ls2", "w12", "w3", "reg_token"),
)

_DINOV3_BLOCK = (
    *_NEW_ATTENTION,
    ("mlp.gate_proj", "mlp.gate"),
    ("mlp.up_proj", "mlp.up"),
    ("mlp.down_proj", "mlp.down"),
    ("norm1", "norm1"),
    ("norm2", "norm2"),
)

HF_DINOV3 = Dialect(
    name="hf_dinov3",
    signature=("layer.{i}.mlp.up_proj.weight", "model.layer.{i}.mlp.up_proj.weight"),
    prefixes=("dinov3_vit.",),
    pairs=(
        ("embeddings.patch_embeddings.*", "patch_embed.proj.*"),
        ("norm.*", "norm.*"),
        *_VIT_ENDS,
        *(
            (f"{block}.{{i}}.layer_scale{n}.lambda1", f"blocks.{{i}}.ls{n}.gamma")
            for block in ("layer", "model.layer")
            for n in (1, 2)
        ),
        *_in_blocks("layer.{i}", _DINOV3_BLOCK),
        *_in_blocks("model.layer.{i}", _DINOV3_BLOCK),
    ),
    prefer=("q_proj", "ls1", "ls2", "mlp.gate", "mlp.up", "mlp.down", "reg_token"),
    ignored=(r"rope_embeddings\..*",),
)

HF_CLIP = Dialect(
    name="hf_clip",
    signature=("encoder.layers.{i}.self_attn.q_proj.weight",),
    prefixes=("vision_model.",),
    pairs=(
        ("embeddings.class_embedding", "cls_token"),
        ("embeddings.position_embedding.weight", "pos_embed"),
        ("embeddings.patch_embedding.*", "patch_embed.proj.*"),
        ("pre_layrnorm.*", "norm_pre.*"),
        ("post_layernorm.*", "norm.*"),
        ("visual_projection.*", "head.*"),
        ("classifier.*", "head.*"),
        ("head.probe", "attn_pool.latent"),
        ("head.attention.in_proj_weight", "attn_pool.qkv.weight"),
        ("head.attention.in_proj_bias", "attn_pool.qkv.bias"),
        ("head.attention.out_proj.*", "attn_pool.proj.*"),
        ("head.layernorm.*", "attn_pool.norm.*"),
        ("head.mlp.*", "attn_pool.mlp.*"),
        *_in_blocks(
            "encoder.layers.{i}",
            (
                *((f"self_attn.{x}_proj", f"attn.{x}_proj") for x in "qkv"),
                ("self_attn.out_proj", "attn.proj"),
                ("layer_norm1", "norm1"),
                ("layer_norm2", "norm2"),
                *_PLAIN_MLP,
            ),
        ),
    ),
    prefer=("q_proj", "attn_pool.qkv"),
    ignored=(r"(vision_model\.)?embeddings\.position_ids",),
)

# OpenAI's CLIP, OpenCLIP, and others trained with OpenCLIP
OPENAI = Dialect(
    name="openai",
    signature=("transformer.resblocks.{i}.attn.in_proj_weight",),
    prefixes=("visual.",),
    pairs=(
        ("class_embedding", "cls_token"),
        ("positional_embedding", "pos_embed"),
        ("conv1.*", "patch_embed.proj.*"),
        ("ln_pre.*", "norm_pre.*"),
        ("ln_post.*", "norm.*"),
        ("proj", "head.proj"),
        ("transformer.resblocks.{i}.attn.in_proj_weight", "blocks.{i}.attn.qkv.weight"),
        ("transformer.resblocks.{i}.attn.in_proj_bias", "blocks.{i}.attn.qkv.bias"),
        *(
            (f"transformer.resblocks.{{i}}.ls_{n}.gamma", f"blocks.{{i}}.ls{n}.gamma")
            for n in (1, 2)
        ),
        *_in_blocks(
            "transformer.resblocks.{i}",
            (
                ("attn.out_proj", "attn.proj"),
                ("ln_1", "norm1"),
                ("ln_2", "norm2"),
                ("mlp.c_fc", "mlp.fc1"),
                ("mlp.c_proj", "mlp.fc2"),
            ),
        ),
    ),
    prefer=("head.proj", "attn.qkv"),
)

# timm, and publishers whose names are near enough for common.py to list them
TIMM = Dialect(
    name="timm",
    # The second is how DINOv2 numbers blocks while it trains: chunk.block.
    signature=("blocks.{i}.norm1.weight", "blocks.0.{i}.norm1.weight"),
    pairs=(),
    ignored=(
        r".*relative_position_index",
        r"(blocks\.\d+\.attn\.)?rope\..*",  # EVA-02's tables of angles
        r"rope_embed\.periods",  # DINOv3
        r".*\.bias_mask",  # DINOv3
        r".*\.k_bias",  # timm's zeros for BEiT's and EVA-02's missing key bias
        r"lm_head\.(weight|bias)",  # BEiT's and EVA-02's head of visual words
        r"cls_pt_(layers|norm|lm_head)\..*",  # BEiTv2's class token in pre-training
        r"(local_cls_norm|cls_norm)\..*",  # DINOv3: of crops in training
    ),
)

DIALECTS: tuple[Dialect, ...] = (HF_VIT, HF_DINOV2, HF_DINOV3, HF_CLIP, OPENAI, TIMM)

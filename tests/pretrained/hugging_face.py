"""Tiny networks of Hugging Face's transformers with random weights, for tests of loading."""

from typing import Any, NamedTuple

import numpy as np

SIZES: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 96,
    "image_size": 32,
    "patch_size": 8,
}
_BEIT = {"use_relative_position_bias": True, "layer_scale_init_value": 0.1}
_TEXT = {
    "hidden_size": 40,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 80,
    "vocab_size": 60,
    "max_position_embeddings": 8,
    "projection_dim": 24,
    "bos_token_id": 58,
    "eos_token_id": 59,
    "pad_token_id": 1,
}


class Network(NamedTuple):
    """One class of transformers.

    family: what its file is told as. fields: of its configuration. fixed: takes images of any size
    without being asked. image: what holds the image tower's outputs, None for the outputs
    themselves. again: the class that takes the image tower alone.
    """

    model: str
    config: str
    family: str
    fields: dict[str, Any] = {}
    fixed: bool = False
    image: str | None = None
    again: tuple[str, str] | None = None


NETWORKS: dict[str, Network] = {
    "vit": Network("ViTModel", "ViTConfig", "supervised"),
    "vit_without_pooler": Network("ViTForImageClassification", "ViTConfig", "supervised"),
    "vit_without_biases": Network(
        "ViTForImageClassification", "ViTConfig", "supervised", {"qkv_bias": False}
    ),
    "deit": Network("DeiTForImageClassificationWithTeacher", "DeiTConfig", "deit"),
    "deit_class_token": Network("DeiTForImageClassification", "DeiTConfig", "deit"),
    "beit": Network("BeitForImageClassification", "BeitConfig", "beit", _BEIT),
    "beit_shared": Network(
        "BeitModel",
        "BeitConfig",
        "beit",
        {
            "use_shared_relative_position_bias": True,
            "use_mean_pooling": False,
            "use_mask_token": True,
        },
    ),
    "dinov2": Network("Dinov2Model", "Dinov2Config", "dinov2", {"mlp_ratio": 2}, fixed=True),
    "dinov2_swiglu": Network(
        "Dinov2ForImageClassification",
        "Dinov2Config",
        "dinov2",
        {"use_swiglu_ffn": True},
        fixed=True,
    ),
    "dinov2_registers": Network(
        "Dinov2WithRegistersModel",
        "Dinov2WithRegistersConfig",
        "dinov2",
        {"mlp_ratio": 2, "num_register_tokens": 3},
        fixed=True,
    ),
    "dinov3": Network(
        "DINOv3ViTModel", "DINOv3ViTConfig", "dinov3", {"num_register_tokens": 3}, fixed=True
    ),
    "dinov3_gated": Network(
        "DINOv3ViTModel",
        "DINOv3ViTConfig",
        "dinov3",
        {
            "num_register_tokens": 3,
            "use_gated_mlp": True,
            "hidden_act": "silu",
            **dict.fromkeys(("query_bias", "key_bias", "value_bias"), False),
        },
        fixed=True,
    ),
    "clip_vision": Network("CLIPVisionModel", "CLIPVisionConfig", "clip", {"hidden_act": "gelu"}),
    "clip": Network(
        "CLIPModel",
        "CLIPConfig",
        "clip",
        image="vision_model_output",
        again=("CLIPVisionModelWithProjection", "CLIPVisionConfig"),
    ),
    "siglip_vision": Network("SiglipVisionModel", "SiglipVisionConfig", "siglip"),
    "siglip": Network(
        "SiglipModel",
        "SiglipConfig",
        "siglip",
        image="vision_model_output",
        again=("SiglipVisionModel", "SiglipVisionConfig"),
    ),
    "msn": Network("ViTMSNModel", "ViTMSNConfig", "dino"),
    "ijepa": Network("IJepaModel", "IJepaConfig", "supervised"),
}


def configuration(transformers: Any, name: str, fields: dict[str, Any]) -> Any:
    """A configuration of the class `name` with the sizes of all these networks."""
    make = getattr(transformers, name)
    if name in ("CLIPConfig", "SiglipConfig"):
        text = {**_TEXT, "hidden_size": 48} if name == "SiglipConfig" else _TEXT
        towers = {"text_config": text, "vision_config": {**SIZES, "projection_dim": 24}}
        return make(**towers, projection_dim=24, **fields)
    return make(**{**SIZES, "projection_dim": 24, "num_labels": 5, **fields})


def build(transformers: Any, network: Network, seed: int = 0) -> Any:
    """The network, whose weights are all far from their initial values."""
    import torch

    config = configuration(transformers, network.config, network.fields)
    model = getattr(transformers, network.model)(config)
    model.set_attn_implementation("eager")
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            draw = rng.standard_normal(tuple(parameter.shape))
            if name.endswith("bias"):
                draw *= 0.1
            elif parameter.ndim == 1 and "class_embedding" not in name:  # norms and scales
                draw = 1 + 0.2 * draw
            else:
                draw *= 0.2
            parameter.copy_(torch.from_numpy(np.asarray(draw, np.float32)))
    return model.eval()


def run(network: Network, model: Any, images: np.ndarray, **more: Any) -> tuple[Any, Any]:
    """(outputs of the image tower, outputs of the whole) on images (B, H, W, 3)."""
    import torch

    if not network.fixed:
        more["interpolate_pos_encoding"] = True
    if network.image is not None:
        more["input_ids"] = torch.tensor([[58, 5, 59, 1]])
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    with torch.no_grad():
        out = model(pixel_values=pixels, output_attentions=True, **more)
    return (out if network.image is None else out[network.image]), out

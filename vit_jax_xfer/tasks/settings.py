"""Tasks by name: the settings that a config carries for each."""

from typing import Any

from vit_jax_xfer.tasks.attention_transfer import AttentionTransferSettings
from vit_jax_xfer.tasks.distillation import (
    FeatureDistillationSettings,
    LogitDistillationSettings,
)
from vit_jax_xfer.tasks.ensemble import EnsembleSettings
from vit_jax_xfer.tasks.feature_upsampling import FeatureUpsamplingSettings
from vit_jax_xfer.tasks.masked_pretraining import MaskedPretrainingSettings
from vit_jax_xfer.tasks.supervised import ClassificationSettings

SETTINGS: dict[str, type[Any]] = {
    "classification": ClassificationSettings,
    "masked_pretraining": MaskedPretrainingSettings,
    "attention_transfer": AttentionTransferSettings,
    "logit_distillation": LogitDistillationSettings,
    "feature_distillation": FeatureDistillationSettings,
    "feature_upsampling": FeatureUpsamplingSettings,
    "ensemble": EnsembleSettings,
}

"""From a config to a task. Every task there is stands in the list below, and nowhere else."""

from vit_jax_xfer.tasks.attention_transfer import AttentionTransfer
from vit_jax_xfer.tasks.choice_transfer import ChoiceTransfer
from vit_jax_xfer.tasks.configured_model import build_model
from vit_jax_xfer.tasks.distillation import FeatureDistillation, LogitDistillation
from vit_jax_xfer.tasks.ensemble import Ensemble, load_member, load_run
from vit_jax_xfer.tasks.feature_upsampling import FeatureUpsampling
from vit_jax_xfer.tasks.masked_pretraining import MaskedPretraining
from vit_jax_xfer.tasks.object_detection import Detection
from vit_jax_xfer.tasks.registration import TASKS, build_task, find_task, register, task_settings
from vit_jax_xfer.tasks.semantic_segmentation import Segmentation
from vit_jax_xfer.tasks.supervised import Classification

__all__ = [
    "TASKS",
    "build_model",
    "build_task",
    "find_task",
    "load_member",
    "load_run",
    "register",
    "task_settings",
]

for task in (
    Classification,
    MaskedPretraining,
    AttentionTransfer,
    LogitDistillation,
    FeatureDistillation,
    ChoiceTransfer,
    FeatureUpsampling,
    Detection,
    Segmentation,
    Ensemble,
):
    register(task)

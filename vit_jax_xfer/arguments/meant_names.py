"""The name that a wrong one most likely stands for: by meaning first, by spelling else."""

import difflib
from collections.abc import Iterable

# This project's names for a field, of which the first counts that there is where a wrong name was
# written, and what timm, PyTorch, transformers, MAE and others call it.
_CALLED: dict[tuple[str, ...], str] = {
    # Length and rate.
    ("epochs",): "num_epochs n_epochs max_epochs train_epochs num_train_epochs epoch",
    ("steps",): "num_steps n_steps max_steps total_steps train_steps num_train_steps iterations "
    "max_iter max_iters num_iterations",
    ("optim.lr",): "learning_rate base_lr base_learning_rate blr peak_lr max_lr init_lr lr_max",
    ("optim.end_lr",): "min_lr final_lr lr_min eta_min end_learning_rate",
    ("optim.warmup_epochs",): "warmup warm_up warmup_epoch num_warmup_epochs",
    ("optim.warmup_steps",): "num_warmup_steps warmup_iters warmup_iterations warm_up_steps",
    ("optim.warmup_from",): "warmup_lr warmup_init_lr warmup_start_lr",
    ("optim.cosine_from",): "scheduler lr_scheduler lr_scheduler_type lr_schedule sched schedule "
    "cosine",
    ("optim.name",): "opt optimizer optimiser optimizer_name optimizer_type",
    ("optim.weight_decay",): "wd weight_decay_rate l2",
    ("optim.b1",): "beta1 beta_1 adam_beta1 betas opt_betas",
    ("optim.b2",): "beta2 beta_2 adam_beta2",
    ("optim.clip_norm",): "clip_grad grad_clip clip_grad_norm max_grad_norm gradient_clip_val "
    "gradient_clipping clip",
    ("optim.accumulate",): "accum_iter accum_steps grad_accum grad_accum_steps "
    "gradient_accumulation_steps accumulate_grad_batches accumulation",
    ("optim.ema",): "ema_decay model_ema model_ema_decay",
    ("optim.layer_decay",): "layerwise_decay lr_layer_decay llrd",
    # Batches, data, evaluation.
    ("batch_size",): "batch bs train_batch_size per_device_train_batch_size global_batch_size",
    ("eval.batch_size",): "eval_batch_size val_batch_size validation_batch_size "
    "per_device_eval_batch_size",
    ("data.source",): "dataset dataset_name data_path data_dir train_dir data_root train_path",
    ("data.pipeline",): "augmentation augmentations augment aug aa auto_augment transforms",
    ("data.workers",): "num_workers dataloader_num_workers",
    ("data.per_class",): "labels shots images_per_class labels_per_class",
    ("eval.source",): "val_dir val_path validation_dir eval_dataset",
    ("eval.every",): "eval_steps eval_interval eval_freq evaluation_interval val_interval",
    ("mix.mixup",): "mixup_alpha",
    ("mix.cutmix",): "cutmix_alpha",
    ("mix.probability",): "mixup_prob mix_prob",
    ("mix.switch",): "mixup_switch_prob switch_prob",
    ("mix.mode",): "mixup_mode",
    ("seed",): "random_seed rng_seed",
    ("log.every",): "log_interval logging_steps print_freq log_freq",
    ("checkpoint.every",): "save_steps save_freq save_every save_interval checkpoint_every",
    ("checkpoint.keep_last",): "save_total_limit max_to_keep checkpoint_hist",
    ("mesh.fsdp",): "fully_sharded zero_stage",
    # Tasks.
    ("task.label_smoothing",): "smoothing label_smooth label_smoothing_factor smooth",
    ("task.teacher",): "teacher_path teacher_model teacher_name teacher_checkpoint",
    ("task.weight",): "loss_weight attention_weight distillation_weight distillation_alpha lambda",
    ("task.temperature",): "tau distillation_tau temp",
    ("task.mask_ratio",): "masking_ratio mask_prob",
    # Networks.
    ("init_from",): "pretrained weights finetune ckpt checkpoint_path pretrained_path load_from",
    ("model.image_size", "image_size"): "img_size input_size resolution image_resolution",
    ("model.patch_size", "patch_size"): "patch patchsize",
    ("model.width", "width"): "embed_dim hidden_size hidden_dim d_model dim embedding_dim",
    ("model.depth", "depth"): "num_layers num_hidden_layers n_layer n_layers num_blocks",
    ("model.num_heads", "num_heads"): "n_heads n_head heads num_attention_heads nhead",
    ("model.mlp_dim", "mlp_dim"): "intermediate_size mlp_ratio ffn_dim mlp_hidden_dim",
    ("model.num_classes", "num_classes"): "num_labels n_classes nb_classes",
    ("in_channels",): "in_chans num_channels input_channels",
    ("model.drop_path", "drop_path"): "drop_path_rate drop_path_prob stochastic_depth "
    "stochastic_depth_rate",
    ("model.dropout", "dropout", "model.drop_path", "drop_path"): "drop_rate dropout_rate "
    "hidden_dropout_prob",
    ("model.layer_scale", "layer_scale"): "init_values layerscale layerscale_value ls_init_value "
    "layer_scale_init_value",
    ("model.registers", "registers"): "reg_tokens num_register_tokens num_registers",
    ("model.pool", "pool"): "global_pool pooling pool_type",
    ("model.norm_eps", "norm_eps"): "layer_norm_eps eps epsilon layer_norm_epsilon",
    ("model.activation", "activation"): "hidden_act act_layer act",
    ("model.attention", "attention"): "attn_implementation fused_attn attn attention_kernel",
    ("model.remat", "remat"): "gradient_checkpointing grad_checkpointing use_checkpoint "
    "activation_checkpointing set_grad_checkpointing",
    ("model.dtype", "dtype"): "precision mixed_precision amp bf16 fp16 torch_dtype half_precision",
    ("model.name",): "architecture arch model_name backbone_name",
}
SYNONYMS = {theirs: ours for ours, text in _CALLED.items() for theirs in text.split()}


def meant_name(typed: str, known: Iterable[str]) -> str:
    """Of the known names, dotted or not, the one that a wrong name most likely stands for.

    By meaning where it is another library's name for a field; else by spelling, where the last
    part counts most, and its start may do.
    """
    known = list(known)
    meanings = SYNONYMS.get(typed.rpartition(".")[2].lower().replace("-", "_"), ())
    found = [name for name in meanings if name in known]
    return found[0] if found else max(known, key=lambda name: _likeness(typed, name))


def _likeness(typed: str, known: str) -> float:
    """How near two dotted names are in their spelling."""
    section, _, last = typed.rpartition(".")
    known_section, _, known_last = known.rpartition(".")
    starts = (known_last, known_last[: len(last)])
    same_last = max(difflib.SequenceMatcher(None, last, start).ratio() for start in starts)
    return 3 * same_last + difflib.SequenceMatcher(None, section, known_section).ratio()

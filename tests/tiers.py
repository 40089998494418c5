"""Two tiers of tests: `make test` runs the quick one, `make test-all` everything (docs/testing.md).

Of a product of cases, those stay in the quick tier that run every code path once; of whole runs,
those that no function's test and no field's (train/test_wiring.py) stands for. Chosen by what each
test took; `python -m tests.mutants` says whether the quick tier still notices.
"""

import fnmatch

import pytest

# file: {test: patterns of its cases' ids that are quick; () = none}. All other tests are quick.
SLOW: dict[str, dict[str, tuple[str, ...]]] = {
    "benchmarks/test_filter_benchmarks.py": {
        "test_pytorchs_network_is_ours": (),
        "test_pytorch_learns_as_ours_does": (),
        "test_cost_falls_with_the_tokens_kept": (),
        "test_logits_that_disagree_are_refused": (),
    },
    "benchmarks/test_lift_benchmark.py": {
        "test_pytorchs_outputs_are_ours": (),
        "test_pytorch_learns_as_ours_does": (),
    },
    "benchmarks/test_step_benchmark.py": {
        "test_contenders_take_the_same_steps": (),
        "test_fused_attention_gives_the_scores_loss": (),
        "test_the_command": (),
        "test_long_steps_are_only_compiled": (),
        "test_operations_are_three_forward_passes_and_a_teacher": (),
    },
    "evaluate/correspondence/test_correspondence_benchmark.py": {
        "test_real_willow_is_reproducible": (),
    },
    "evaluate/objects/test_object_benchmark.py": {
        "test_real_boxes": (),
        "test_the_command": (),
        "test_the_command_says_what_is_wrong": (
            "change0-error: --data: /nowhere: no such folder",
            "change2-error: --size 60: plain: image_size: 60\\xd760 pixels are not",
            "change5-error: --extractors: 'nearest' is none of plain",
            "change8-error: --extractors: bilateral takes features of patches side by",
        ),
    },
    "evaluate/objects/test_object_discovery.py": {
        "test_both_ways_agree": (),
        "test_published_results": ("0.2-0-True", "0.2-1-False", "0.3-0-True", "0.3-1-False"),
    },
    "evaluate/similarity/test_similarity_commands.py": {
        "test_sheets": (),
        "test_the_table": (),
    },
    "evaluate/test_classification.py": {
        "test_ties_and_what_is_no_number": (
            "logits0-0-0",
            "logits2-0-1",
            "logits5-0-1",
            "logits8-0-1",
        ),
    },
    "evaluate/videos/test_label_propagation.py": {
        "test_any_tiling_equals_the_plain_loop": (
            "2-5-4194304",
            "0-4-1",
            "1-200-300",
            "50-1-1",
            "4-3-*",
        ),
    },
    "evaluate/videos/test_video_benchmark.py": {
        "test_real_video_is_reproducible": (),
        "test_all_grids": ("fields0",),
        "test_real_objects": (),
        "test_command": (),
        "test_perfect_features": ("0",),
    },
    "explain/test_bright_object.py": {
        "test_kept_cells_lie_on_the_object": (),
        "test_the_command_marks_the_object": (),
        "test_the_marked_cells_are_exactly_those_on_the_object": ("True",),
    },
    "explain/test_cells.py": {
        "test_maps_have_the_networks_own_sizes": ("*xxs", "*dropout*"),
        "test_convolutions_see_what_was_worked_out": ("stem", "strides", "pooled_down"),
        "test_centres_are_centres_of_mass": ("stem", "strides", "pooled_down"),
    },
    "features/test_feature_extractor.py": {
        "test_fingerprint_is_the_same_at_another_size": ("shared",),
        "test_upsamplers_remember_what_they_were_trained_on": ("lift_*",),
        "test_doubling_is_lift_on_the_same_images": (),
    },
    "features/test_features_command.py": {
        "test_lifted_twice_in_half_the_bytes": (),
        "test_shapes_that_are_kept": (),
    },
    "fuzz/test_fixed_cases.py": {
        "test_bad_files_are_one_line": ("[!p]*", "pi*", "pr*"),
    },
    "launch_scripts/test_colab_notebook.py": {
        "test_from_top_to_bottom_then_with_its_teacher_given": (),
    },
    "models/filter/test_attention_patterns.py": {
        "test_any_map_keeps_its_shape": ("*-grid3",),
        "test_every_hashed_pixel_hears_64": (),
        "test_images_of_a_batch_do_not_hear_each_other": ("lsh", "window"),
        "test_deformable_points_start_around_the_pixel_and_learn": (),
        "test_all_hear_all": (),
    },
    "models/filter/test_filter_training.py": {
        "test_maps_of_one_pixel_and_odd_ones": ("score-size0",),
        "test_a_cpu_that_runs_a_batch_in_parts_gives_the_same": ("random",),
        "test_two_blocks_of_one_size_draw_apart": (),
        "test_straight_through_scores_learn_without_weighing_the_map": (),
    },
    "models/filter/test_published_networks.py": {
        "test_the_authors_outputs": ("xxs",),
        "test_any_image_size": ("size1",),
        "test_parameter_counts": ("*xxs", "dropout*"),
        "test_back_to_the_authors_names": ("xxs", "xs"),
    },
    "models/filter/test_selection.py": {
        "test_scores_are_a_dilated_convolution": ("size0", "size2"),
    },
    "models/test_collections.py": {
        "test_given_values_are_used_where_they_are_given": (
            "names0-False-None",
            "names0-True-heads3",
            "names1-False-heads1",
            "names2-True-None",
        ),
    },
    "models/test_convex_lift.py": {
        "test_half_precision_activations": (),
        "test_images_of_a_batch_do_not_mix": (),
        "test_gradients_reach_every_parameter": (),
        "test_outputs_stay_among_their_neighbours": ("8-size0-2",),
        "test_every_size_from_one_patch_on": ("1", "4"),
    },
    "models/test_descriptors.py": {
        "test_keys_are_dinos": ("native",),
        "test_any_facet_of_any_layer": ("key-k-0", "key-k--2", "query-q--1", "value-v-1"),
        "test_every_native_part": (
            "layer_scale",
            "distillation_token",
            "swiglu",
            "qk_norm",
            "shared_bias",
            "attention_pooling",
        ),
        "test_overlapping_patches_are_those_of_shifted_images": ("size0-1", "size1-1"),
        "test_log_bins_by_their_definition": ("grid0",),
    },
    "models/test_distillation_kernels.py": {
        "test_loss_and_gradient": ("*float32*",),
    },
    "models/test_float32_heads.py": {
        "test_kernels_that_differ_by_less_than_bfloat16_give_different_logits": (
            "cls",
            "pixels",
            "attention pooling",
            "filter, one layer",
        ),
    },
    "models/test_joint_bilateral.py": {
        "test_any_size_and_again": ("7-*",),
    },
    "models/test_kernels_on_mesh.py": {
        "test_what_a_mesh_does_not_divide_still_computes": ("3-2",),
        "test_each_device_computes_its_images_and_heads": ("sizes0",),
    },
    "models/test_lift.py": {
        "test_equals_pytorch": ("patch8", "patch16_beyond", "patch14_beyond", "patch4"),
        "test_training_equals_pytorch": ("patch16_beyond",),
        "test_every_size_from_one_patch_on": ("1", "7", "8", "16"),
        "test_the_authors_outputs": ("c48_p8", "c48_p16"),
        "test_half_precision_activations": (),
    },
    "models/test_lift_depths.py": {
        "test_the_second_doubling_sees_the_half": ("pick",),
        "test_gradients_flow_through_both_doublings": (),
    },
    "models/test_masked_autoencoder.py": {
        "test_the_least_noisy_patches_are_seen": ("0.75-4", "0.7-4"),
    },
    "models/test_mlp_and_pooling.py": {
        "test_formulas_of_the_mlp": (
            "False-plain-gelu",
            "False-swiglu-gelu",
            "False-geglu-gelu",
            "True-plain-gelu",
            "True-swiglu-gelu",
            "True-geglu-gelu",
        ),
    },
    "models/test_multiply_adds.py": {
        "test_the_published_counts": ("*xxs",),
        "test_the_published_counts_at_256_pixels": (),
        "test_the_same_on_every_backend": (),
        "test_a_vit_by_its_formula": (),
        "test_a_masked_autoencoder_sees_a_quarter": (),
        "test_the_same_however_it_runs": ("{'scan': True}", "{'scan': True, 'remat': 'full'}"),
        "test_a_lifts_published_counts": ("384-8", "768-8"),
    },
    "models/test_neighbours.py": {
        "test_gradients_are_those_of_finite_differences": ("grid0*",),
        "test_memory_grows_far_slower_than_the_window": (),
        "test_combinations_are_those_of_a_loop": ("grid0-1", "grid2-1"),
    },
    "models/test_parts.py": {
        "test_scanned_and_bfloat16_forms": (
            "swiglu",
            "qk_norm",
            "registers",
            "pre_norm",
            "layer_scale",
            "shared_bias",
        ),
        "test_parameters_of_each_part": (
            "{'layer_scale': 0.1}",
            "{'class_position': False}",
            "{'mask_token': True}",
            "{'activation': 'gelu_tanh'}",
            "{'mlp_norm': True}",
            "{'qkv_bias': 'none'}",
            "{'relative_bias': 'block'}",
            "{'rotary': 'eva02', 'position': 'none'}",
            "{'pool': 'map'}",
        ),
    },
    "models/test_published_models.py": {
        "test_masked_pretraining": ("normpix_0*",),
        "test_timm": ("supervised_cls-fields0", "mae_gap-fields0"),
    },
    "models/test_published_sizes.py": {
        "test_the_publishers_file_is_read_as_the_network_of_its_name": (
            "*_tiny_*",
            "*_small_*",
            "*_base_patch16*",
            "vit_giant_*dinov2",
            "vit_7b_*",
            "vit_so400m_patch14_siglip",
            "eva02_large_patch14*",
        ),
        "test_numbers_of_parameters": (
            "vit_tiny_patch16_augreg",
            "vit_small_patch32_augreg",
            "vit_base_patch32_augreg",
            "deit_small_patch16",
            "deit_small_distilled_patch16",
            "deit3_medium_patch16",
            "deit3_huge_patch14",
            "vit_huge_patch14_mae",
            "vit_base_patch16_dino",
            "vit_base_patch16_ibot",
            "vit_base_patch16_mocov3",
            "vit_large_patch14_dinov2",
            "vit_base_patch14_reg4_dinov2",
            "vit_giant_patch14_reg4_dinov2",
            "vit_base_patch16_dinov3",
            "vit_7b_patch16_dinov3",
            "vit_large_patch14_clip",
            "vit_gigantic_patch14_clip",
            "vit_large_patch14_clip_quickgelu",
            "vit_large_patch16_siglip",
            "vit_giantopt_patch16_siglip",
            "beit_base_patch16_pt22k",
            "beitv2_large_patch16",
            "eva02_tiny_patch14",
            "eva02_large_patch14",
        ),
    },
    "models/test_splash_kernel.py": {
        "test_attention_and_every_gradient": ("21-21-8-6",),
        "test_bfloat16_inputs_keep_wide_statistics": (),
    },
    "models/test_vision_transformer.py": {
        "test_rematerialisation_changes_no_gradient": ("True",),
    },
    "pretrained/test_families.py": {
        "test_a_file_loads_whole_and_goes_back": (
            "timm/supervised_cls-False",
            "timm/mae_gap-False",
            "mae_pretrain/normpix_0-True",
            "attention_transfer/distill_end0_gap-True",
        ),
    },
    "pretrained/test_hugging_face_names.py": {
        "test_names_of_the_hub": (
            "vit-supervised-pairs0",
            "beit-beit-pairs2",
            "dinov2-dinov2-pairs4",
        ),
    },
    "pretrained/test_other_names.py": {
        "test_buffers_change_nothing": ("hf/clip-clip-buffers3", "timm/beit-beit-buffers0"),
    },
    "pretrained/test_published_teachers.py": {
        "test_the_family_is_told": (
            "*native",
            "timm/*",
            "hf/*",
            "dino/large",
            "dinov2/registers_large",
            "dinov3/mlp_large",
        ),
        "test_every_output_is_the_publishers": (
            "*native",
            "timm/*",
            "hf/*",
            "dino/large",
            "dinov2/registers_large",
            "dinov3/mlp_large",
        ),
    },
    "pretrained/test_round_trip.py": {
        "test_what_is_left_out_changes_no_output": (
            "dinov2/registers_native-timm",
            "dinov3/mlp_native-timm",
            "dinov3/mlp_native-huggingface",
            "hf/dinov3-publisher",
        ),
        "test_the_file_itself_comes_back": (
            "dino/native-publisher",
            "dinov2/layerscale_native-publisher",
            "dinov3/mlp_native-publisher",
            "timm/beit-timm",
            "timm/deit_distilled-publisher",
            "timm/mae_gap-publisher",
            "timm/qknorm_registers-timm",
            "timm/supervised_cls-timm",
            "mae_pretrain/normpix_0-timm",
        ),
        "test_other_names_load_as_the_same_network": (
            "dino/native-huggingface",
            "dino/native-big_vision",
            "dinov2/swiglu_native-huggingface",
            "timm/deit_distilled-huggingface",
            "timm/siglip_map-big_vision",
            "timm/supervised_cls-big_vision",
            "hf/beit-timm",
            "hf/clip-timm",
            "hf/deit-timm",
            "hf/dinov2-huggingface",
            "hf/dinov3-huggingface",
            "hf/siglip-big_vision",
            "hf/vit-huggingface",
            "hf/vit_mae-publisher",
        ),
    },
    "pretrained/test_transformers.py": {
        "test_equals_transformers": ("*native*",),
        "test_masked_autoencoder": ("True",),
        "test_masked_patches": ("beit_shared", "dinov2_registers"),
        "test_smaller_images": ("dinov2*",),
        "test_a_classifier_that_leaves_the_map_head_out": (),
        "test_transformers_takes_it_back": (
            "vit",
            "deit",
            "beit_shared",
            "dinov2_registers",
            "clip_vision",
            "siglip",
        ),
    },
    "pretrained/test_warm_start.py": {
        "test_a_network_starts_from_its_own_kind_whole": ("vision transformer", "FilterViT"),
        "test_what_other_fields_ask_for_starts_afresh": (
            "model0-fields0-fresh0",
            "model2-fields2-fresh2",
        ),
    },
    "storage/test_checkpoints.py": {
        "test_damaged_checkpoint_is_named_and_not_replaced_silently": (
            "truncated data",
            "empty data",
            "no manifest",
            "no state",
        ),
    },
    "storage/test_written_by_0_1.py": {
        "test_a_stopped_run_goes_on_as_it_would_have": ("attention_distill*",),
    },
    "tasks/test_feature_upsampling.py": {
        "test_loss_is_lift_loss_of_descriptors_of_three_sizes": ("resize-l1",),
        "test_loss_falls_and_the_result_goes_back_with_its_backbone": (),
        "test_errors": (
            "fields0-shape0-task.backbone: none given; pass --config.task.backbone=",
            "fields2-shape2-task.loss: 'huber' is none of cosine, l1, l2",
            "fields5-shape5-task.facet: 'keys' is none of key",
            "fields7-shape7-model.patch_size: 4, and the backbone has 2",
        ),
    },
    "tasks/test_filter_runs.py": {
        "test_a_stopped_run_ends_like_the_straight_one": (),
    },
    "tasks/test_stopped_teacher.py": {
        "test_blocks_after_the_last_one_that_is_needed_are_not_run": (
            "attention_distill-False",
            "attention_copy-True",
        ),
    },
    "tasks/test_student_like.py": {
        "test_an_ensemble_of_students_like_their_teachers": (),
        "test_a_run_with_a_student_like_its_teacher": (),
    },
    "tasks/test_task_runs.py": {
        "test_config_runs_to_its_end": (
            "convex*",
            "dropout*",
            "filter_vit",
            "attention_copy",
            "finetune",
            "scratch",
            "masked_pretraining",
            "ensemble",
        ),
        "test_a_run_goes_on_from_a_finished_model_bit_for_bit": (),
        "test_finetuning_starts_from_the_pretrained_weights": (),
        "test_unlabelled_images_reach_only_the_teachers_loss": (),
        "test_average_is_evaluated_and_saved_too": (),
    },
    "tasks/test_teacher_type.py": {
        "test_a_teacher_in_bfloat16_teaches_nearly_the_same_in_float32": ("attention_distill",),
    },
    "tasks/test_teaching.py": {
        "test_a_scanned_students_step_is_as_long_for_any_depth": ("attention_distill",),
    },
    "test_convert.py": {
        "test_back_in_a_publishers_names": ("publisher",),
    },
    "test_dense_features.py": {
        "test_images_beyond_whole_patches_are_lifted_again": ("size1*",),
        "test_twice": (),
        "test_gradients_reach_all_of_lift_and_no_feature": ("c48_p8",),
        "test_the_authors_losses": ("c48_p8-cosine", "c48_p16-cosine"),
    },
    "test_local_launch.py": {
        "test_sigterm_stops_all_saved": (),
    },
    "train/test_collectives.py": {
        "test_data_parallel_reduces_each_gradient_once_and_moves_nothing_else": (
            "attention_distill",
            "attention_copy",
        ),
        "test_fsdp_gathers_parameters_and_never_a_batch": ("attention_distill-*", "scratch-True"),
        "test_moments_stay_split": ("attention_distill",),
        "test_evaluation_of_a_split_state_gathers_parameters_and_never_a_batch": (
            "scratch-False",
            "attention_distill-True",
        ),
        "test_evaluation_of_a_whole_state_exchanges_sums_alone": ("attention_copy",),
        "test_a_part_of_a_batch_needs_what_a_batch_needs": ("scratch",),
    },
    "train/test_dense_benchmarks.py": {
        "test_figures_of_doubled_features_are_metrics": (),
    },
    "train/test_devices.py": {
        "test_eight_devices_give_the_numbers_of_one": (
            "attention_copy-fsdp=8",
            "attention_distill-data=4 tensor=2",
        ),
        "test_a_run_that_goes_on_ends_with_the_same_bits": (),
        "test_a_run_goes_on_on_another_mesh": ("attention_distill-*",),
        "test_evaluation_hangs_neither_on_the_batch_nor_on_the_devices": ("scratch",),
    },
    "train/test_kept_checkpoints.py": {
        "test_every_field_of_the_section_is_heard": ("fields0-expected0", "fields3-expected3"),
    },
    "train/test_mixing.py": {
        "test_mixing_is_the_same_on_any_mesh": ("distillation",),
    },
    "train/test_process_runs.py": {
        "test_two_processes_equal_one_device": (),
        "test_two_processes_go_on_to_the_same_bits": (),
        "test_one_process_goes_on_where_two_stopped": (),
    },
    "train/test_processes.py": {
        "test_mesh_and_flags_that_do_not_go_with_the_processes": (),
        "test_a_single_process_goes_on_from_the_checkpoint_of_two": (),
    },
    "train/test_rescue.py": {
        # test_kept_checkpoints.py has an error in an evaluation.
        "test_an_error_costs_no_step_and_the_run_goes_on_to_the_same_bits": ("batch",),
        "test_a_run_that_met_a_bad_batch_goes_on_without_it_and_counts_across_a_resume": (),
        "test_a_state_that_is_not_finite_replaces_none": ("4",),
    },
    "train/test_resume.py": {
        "test_resumes_on_another_number_of_devices": (),
        "test_kill_at_a_random_moment_and_restart": (),
        "test_resumes_on_another_mesh_and_with_another_cadence": (),
        "test_a_checkpoint_of_another_model_is_refused": (),
        "test_a_finished_run_again_changes_no_figure": (),
    },
    "train/test_run_plan.py": {
        "test_a_teacher_in_bfloat16_takes_two_bytes_a_number": (),
        "test_products_are_a_forward_pass_times_what_is_computed": ("none*",),
        "test_plan_of_a_run_with_a_teacher": (),
        "test_command_plans_for_devices_that_are_not_there": (),
    },
    "train/test_slices.py": {
        "test_a_run_started_without_slices_goes_on_across_them": (),
    },
    "train/test_state.py": {
        "test_parts_of_a_batch_make_the_whole": ("2",),
    },
    "train/test_wiring.py": {
        "test_a_field_changes_what_a_run_does": (
            "seed",
            "init_*",
            "steps",
            "epochs",
            "batch_size",
            "data.*",
            "unlabeled.*",
            "eval.*",
            "optim.*",
            "mesh.*",
            "log.*",
            "checkpoint.*",
            "model.name",
            "model.num_classes",
            "model.parts",
            "model.drop_path",
            "model.dtype",
            "model.scan",
            "model.attention",
            "mae.decoder_width",
            "lift.width",
            "attention_transfer.*",
            "classification.*",
            "masked_pretraining.*",
            "feature_upsampling.*",
            "logit_distillation.temperature",
            "logit_distillation.weight",
            "feature_distillation.normalize",
            "feature_distillation.layers",
            "ensemble.*",
        ),
    },
    "transfer/test_attention_losses.py": {
        "test_value_and_gradients_equal_the_map_form": ("plain-4",),
    },
    "transfer/test_biased_losses.py": {
        "test_value_and_gradients_equal_the_map_form": (
            "both biased",
            "teacher biased",
            "mean of all",
        ),
    },
    "transfer/test_common_tokens.py": {
        "test_distilled_tensors_are_those_of_the_common_tokens": (
            "everything-q",
            "equal registers-k",
            "teacher without-v",
        ),
        "test_distilled_maps_are_those_of_the_common_tokens": (
            "both distil-False",
            "registers-False",
            "*-True",
        ),
    },
    "transfer/test_in_step.py": {
        "test_values_and_gradients_are_those_of_networks_that_are_not_scanned": (
            "values of the last",
            "copy",
        ),
    },
    "transfer/test_matching.py": {
        "test_distilled_heads": ("*-None", "group of 2-heads1", "repeat-heads1"),
        "test_copied_heads": ("*-None-None-False", "group of 2-*", "repeat-*"),
        "test_other_depths": ("distill-even", "distill-how3", "distill_v-even", "copy-even"),
    },
    "transfer/test_native_parts.py": {
        "test_a_bias_on_either_side": ("distill-*-block_bias", "copy-*-shared_bias"),
        "test_no_gradient_reaches_a_biased_teacher": ("shared_bias",),
    },
    "transfer/test_transfer_invariants.py": {
        "test_copying_from_oneself_changes_nothing": ("copy-*", "copy_v-*"),
        "test_copying_from_another_changes_the_logits": ("copy", "copy_q"),
        "test_no_gradient_reaches_the_teacher": ("options0", "options1", "options5"),
        "test_a_student_equal_to_its_teacher_has_nothing_to_learn": ("distill-False", "distill_v*"),
    },
}


def is_slow(item: pytest.Item) -> bool:
    """Whether a collected test is of the second tier."""
    file = str(item.path).rpartition("/tests/")[2]
    name, _, case = item.name.partition("[")
    quick = SLOW.get(file, {}).get(name)
    return quick is not None and not any(fnmatch.fnmatch(case[:-1], one) for one in quick)

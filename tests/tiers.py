"""Two tiers of tests: `make test` runs the quick one, `make test-all` everything (docs/testing.md).

Of a product of cases, those stay in the quick tier that run every code path once.
"""

import fnmatch

import pytest

# file: {test: patterns of its cases' ids that are quick; () = none}. All other tests are quick.
SLOW: dict[str, dict[str, tuple[str, ...]]] = {
    "benchmarks/test_filter_benchmarks.py": {
        # The networks themselves are compared with their authors' outputs in models/filter.
        "test_pytorchs_network_is_ours": (),
        "test_pytorch_learns_as_ours_does": (),
        "test_cost_falls_with_the_tokens_kept": (),
    },
    "benchmarks/test_lift_benchmark.py": {
        "test_pytorchs_outputs_are_ours": ("8-1",),
        "test_pytorch_learns_as_ours_does": (),
    },
    "benchmarks/test_step_benchmark.py": {
        "test_contenders_take_the_same_steps": ("distill",),
        "test_fused_attention_gives_the_scores_loss": (),
        "test_the_command": (),
        "test_long_steps_are_only_compiled": (),
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
    "explain/test_bright_object.py": {  # trains a network until it finds something
        "test_kept_cells_lie_on_the_object": (),
        "test_the_command_marks_the_object": (),
    },
    "fuzz/test_fixed_cases.py": {
        "test_bad_files_are_one_line": ("[!p]*", "pi*", "pr*"),  # not pth: it imports PyTorch
    },
    "models/filter/test_attention_patterns.py": {
        "test_any_map_keeps_its_shape": ("*-grid0", "*-grid3"),
        "test_every_hashed_pixel_hears_64": ("100",),
    },
    "models/filter/test_filter_training.py": {
        "test_maps_of_one_pixel_and_odd_ones": ("score-size0", "random-size1"),
        "test_a_cpu_that_runs_a_batch_in_parts_gives_the_same": ("score",),
        "test_two_blocks_of_one_size_draw_apart": (),
    },
    "models/filter/test_published_networks.py": {
        "test_the_authors_outputs": ("xxs", "dropout_xs"),
        "test_any_image_size": ("size1",),
    },
    "models/test_collections.py": {
        "test_given_values_are_used_where_they_are_given": (
            "names0-False-None",
            "names0-True-heads3",
            "names1-False-heads1",
            "names2-True-None",
        ),
    },
    "models/test_lift.py": {
        "test_equals_pytorch": ("patch8", "patch16_beyond", "patch14_beyond", "patch4"),
        "test_training_equals_pytorch": ("patch16_beyond",),
        "test_every_size_from_one_patch_on": ("1", "7", "8", "16"),
        "test_the_authors_outputs": ("c48_p8", "c48_p16"),
    },
    "models/test_published_sizes.py": {  # one size of each family, and all that differ otherwise
        "test_the_publishers_file_is_read_as_the_network_of_its_name": (
            "*_tiny_*",
            "*_small_*",
            "*_base_patch16*",
            "vit_giant_*dinov2",
            "vit_7b_*",
            "vit_so400m_patch14_siglip",
            "eva02_large_patch14*",
        ),
    },
    "pretrained/test_published_teachers.py": {
        name: (
            "*native",
            "timm/*",
            "hf/*",
            "dino/large",
            "dinov2/registers_large",
            "dinov3/mlp_large",
        )
        for name in ("test_the_family_is_told", "test_every_output_is_the_publishers")
    },
    "pretrained/test_round_trip.py": {
        "test_what_is_left_out_changes_no_output": (
            "dinov2/registers_native-timm",
            "dinov3/mlp_native-timm",
            "dinov3/mlp_native-huggingface",
            "hf/dinov3-publisher",
        ),
    },
    "pretrained/test_transformers.py": {
        # Larger images are compared here, smaller ones in a test of their own.
        "test_equals_transformers": ("*native*",),
        "test_masked_autoencoder": ("True",),
        "test_masked_patches": ("beit_shared", "dinov2_registers"),
    },
    "tasks/test_feature_upsampling.py": {
        "test_loss_is_lift_loss_of_descriptors_of_three_sizes": ("pick-cosine", "resize-l1"),
        "test_loss_falls_and_the_result_goes_back_with_its_backbone": (),
    },
    "tasks/test_task_runs.py": {
        # test_filter_runs.py runs the first; the others run the code of filter_vit, lift,
        # attention_distill with other settings.
        "test_config_runs_to_its_end": ("[!cdf]*", "feature_distill", "attention_*", "finetune"),
        # LiFT has batch statistics too, and its run is there.
        "test_a_run_goes_on_from_a_finished_model_bit_for_bit": ("lift",),
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
    },
    "train/test_devices.py": {
        # Each run once, and each mesh; a run that goes on on another mesh begins with the same.
        "test_eight_devices_give_the_numbers_of_one": (
            "scratch-data=8",
            "attention_copy-fsdp=8",
            "attention_distill-data=4 tensor=2",
            "lift-*",
        ),
        "test_a_run_that_goes_on_ends_with_the_same_bits": (
            "scratch-data=8",
            "attention_copy-fsdp=8",
            "attention_distill-data=4 tensor=2",
        ),
        "test_a_run_goes_on_on_another_mesh": ("attention_distill-*",),
        "test_evaluation_hangs_neither_on_the_batch_nor_on_the_devices": ("scratch",),
    },
    "train/test_process_runs.py": {  # train/test_processes.py has a distillation of two processes
        "test_two_processes_equal_one_device": (),
        "test_two_processes_go_on_to_the_same_bits": (),
        "test_one_process_goes_on_where_two_stopped": (),
    },
    "train/test_processes.py": {"test_mesh_and_flags_that_do_not_go_with_the_processes": ()},
    "train/test_rescue.py": {
        "test_an_error_costs_no_step_and_the_run_goes_on_to_the_same_bits": ("batch", "evaluator"),
        "test_a_state_that_is_not_finite_replaces_none": ("4",),
    },
    "train/test_wiring.py": {
        # Every section and task; of the networks' fields a few, which all go one way to the model.
        "test_a_field_changes_what_a_run_does": (
            "seed",
            "init_*",
            "steps",
            "epochs",
            "batch_size",
            *(f"{section}.*" for section in ("data", "unlabeled", "eval", "optim", "mesh", "log")),
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
    "transfer/test_common_tokens.py": {
        "test_distilled_tensors_are_those_of_the_common_tokens": (
            "everything-q",
            "equal registers-k",
            "teacher without-v",
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

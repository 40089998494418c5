"""Where modules went that had another name in version 0.1: old imports work, and say so."""

import importlib
import importlib.abc
import importlib.machinery
import sys
import types
import warnings
from collections.abc import Sequence

_PACKAGE = __name__.rpartition(".")[0]

# Old name → new name, both below the package.
MOVED: dict[str, str] = {
    "quickstart_report": "compare.arm_report",
    "models.block": "models.transformer.block",
    "models.design": "models.transformer.block_design",
    "models.stack": "models.transformer.stack",
    "models.mlp": "models.transformer.mlp",
    "models.drop_path": "models.transformer.drop_path",
    "models.patches": "models.transformer.patches",
    "models.positions": "models.transformer.positions",
    "models.rotary": "models.transformer.rotary",
    "models.relative": "models.transformer.relative_positions",
    "models.placement": "models.transformer.token_positions",
    "models.pooling": "models.transformer.pooling",
    "models.rows": "models.transformer.batch_axes",
    "models.kernels": "models.attention.kernels",
    "models.kernel_choice": "models.attention.kernel_choice",
    "models.splash": "models.attention.splash",
    "models.per_device": "models.attention.per_device",
    "models.lift": "models.lifting.lift",
    "models.convex_lift": "models.lifting.convex_lift",
    "models.joint_bilateral": "models.lifting.joint_bilateral",
    "models.bilinear": "models.lifting.bilinear",
    "models.neighbours": "models.lifting.neighbours",
    "models.lift_inputs": "models.lifting.lift_inputs",
    "models.lift_loss": "models.lifting.lift_loss",
    "models.feature_source": "models.lifting.feature_source",
    "models.filter.blocks": "models.filter.filter_blocks",
    "models.torch_init": "models.pytorch_init",
    "data.registry": "data.operations",
    "data.rows": "data.row_maker",
    "data.layout": "data.batch_layout",
    "data.sources.base": "data.sources.source",
    "evaluate.index_picture": "data.sources.index_picture",
    "evaluate.checks": "arguments.array_checks",
    "evaluate.array_checks": "arguments.array_checks",
    "evaluate.correspondence.benchmark": "evaluate.correspondence.correspondence_benchmark",
    "evaluate.correspondence.pair": "evaluate.correspondence.keypoint_pair",
    "evaluate.correspondence.layouts": "evaluate.correspondence.keypoint_layouts",
    "evaluate.correspondence.matching": "evaluate.correspondence.keypoint_matching",
    "evaluate.objects.benchmark": "evaluate.objects.object_benchmark",
    "evaluate.objects.layouts": "evaluate.objects.box_layouts",
    "evaluate.segmentation.benchmark": "evaluate.segmentation.segmentation_benchmark",
    "evaluate.segmentation.layouts": "evaluate.segmentation.mask_layouts",
    "evaluate.segmentation.metrics": "evaluate.segmentation.segmentation_metrics",
    "evaluate.videos.benchmark": "evaluate.videos.video_benchmark",
    "evaluate.videos.layouts": "evaluate.videos.video_layouts",
    "features.way": "features.feature_extractor",
    "features.load": "features.open_extractors",
    "features.image_features": "features.feature_files",
    "explain.masks": "explain.kept_tokens",
    "explain.view": "explain.network_view",
    "pretrained.common": "pretrained.rename",
    "pretrained.damage": "pretrained.weight_files",
    "pretrained.dialect": "pretrained.rename",
    "pretrained.dialects": "pretrained.rename",
    "pretrained.directories": "pretrained.weight_files",
    "pretrained.evidence": "pretrained.family_entry",
    "pretrained.family": "pretrained.family_entry",
    "pretrained.fields": "pretrained.family_entry",
    "pretrained.files": "pretrained.read_files",
    "pretrained.filter_vit": "pretrained.families.filter_vit_weights",
    "pretrained.flax_names": "pretrained.families.flax_names",
    "pretrained.hugging_face": "pretrained.families.hugging_face_names",
    "pretrained.layout": "pretrained.parameter_rules",
    "pretrained.lazy": "pretrained.lazy_arrays",
    "pretrained.lift": "pretrained.families.lift_weights",
    "pretrained.load": "pretrained.file_to_model",
    "pretrained.names": "pretrained.parameter_rules",
    "pretrained.overview": "convert",
    "pretrained.own": "pretrained.saved_models",
    "pretrained.reading": "pretrained.fields_from_shapes",
    "pretrained.readers": "pretrained.weight_files",
    "pretrained.recognise": "pretrained.file_to_model",
    "pretrained.wrappers": "pretrained.networks_in_file",
    "tasks.base": "tasks.task",
    "tasks.view": "tasks.teacher_view",
    "tasks.classification": "tasks.supervised",
    "tasks.stand_in": "tasks.placeholder_teacher",
    "pretrained.start": "pretrained.warm_start",
    "train.checks": "train.run_checks",
    "train.benchmarks": "train.dense_benchmarks",
    "train.planning": "train.run_plan",
    "train.start": "train.initial_state",
    "train.overview": "train.run_overview",
    "forms": "experiments.variants",
    "recipes": "experiments.recipes",
    "dense_recipes": "experiments.dense_recipes",
    "filter_recipes": "experiments.filter_recipes",
    "variants": "experiments.variants",
    "own_images": "experiments.own_images",
    "run_length": "experiments.run_length",
    "config_files": "experiments.config_files",
    "models.number_ranges": "arguments.number_ranges",
    "models.declared_types": "arguments.declared_types",
    "models.meant_names": "arguments.meant_names",
    "given_arrays": "arguments.given_arrays",
    "jax_values": "arguments.jax_values",
    "listed_values": "arguments.listed_values",
    "whole_numbers": "arguments.whole_numbers",
    "command_parser": "command_line.command_parser",
    "flag_errors": "command_line.flag_errors",
}

# What is called otherwise inside of them: old module → its old name → the new one.
RENAMED: dict[str, dict[str, str]] = {
    "models.placement": {"Placement": "TokenPositions"},
    "data.layout": {"Layout": "BatchLayout"},
    "evaluate.correspondence.pair": {"Pair": "KeypointPair"},
    "explain.masks": {"Masks": "KeptTokens"},
    "train.benchmarks": {"Benchmarks": "DenseBenchmarks"},
    "features.way": {"Way": "FeatureExtractor"},
    "features.load": {"WAYS": "UNTRAINED", "make_ways": "make_extractors"},
    "tasks.stand_in": {"stand_in_loader": "placeholder_loader"},
    "forms": {
        "Form": "Variant",
        "FORMS": "VARIANTS",
        "use_form": "use_variant",
        "use_filter_form": "use_filter_variant",
        "use_upsampling_form": "use_upsampling_variant",
    },
}


class MovedModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a module by its old name where Python found none, and gives the very module of now."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package != _PACKAGE or name not in MOVED:
            return None
        return importlib.machinery.ModuleSpec(fullname, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        old = module.__name__.partition(".")[2]
        new = importlib.import_module(f"{_PACKAGE}.{MOVED[old]}")
        said = f"{module.__name__} is now {new.__name__}"
        for before, now in RENAMED.get(old, {}).items():
            setattr(new, before, getattr(new, now))
            said += f", {before} is {now}"
        # Shown to users, whose configs import it; Python hides a DeprecationWarning from there.
        warnings.warn(said, FutureWarning, stacklevel=2)
        sys.modules[module.__name__] = new


def install() -> None:
    """Makes old names importable; asked only for modules that Python finds nowhere else."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())

"""Faults put into the code on purpose: does the quick tier notice? (docs/testing.md)

python -m tests.mutants [WORD…]   all of them, or those with a word in their names

Each is one replacement in a copy of the tree, where the tests beside it must then fail. The tree
itself is never touched. Exit status 1 where one is not noticed.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = "vit_jax_xfer"
LEFT_OUT = (".git", ".venv", ".cache", "__pycache__", "runs", "*.egg-info", ".pytest_cache")


class Mutant(NamedTuple):
    """In `file` of the package `old`, which stands there once, becomes `new`.

    tests: arguments of pytest below tests/, at least one of which must fail.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str


WIRING = "train/test_wiring.py -k "
MUTANTS = [
    # --- from configs ---
    Mutant(
        "clip_norm ignored",
        "train/optimizer.py",
        "clip_norm=optim.clip_norm",
        "clip_norm=0.0",
        WIRING + "optim.clip_norm",
    ),
    Mutant("b2 ignored", "train/optimizer.py", "b2=optim.b2", "b2=0.999", WIRING + "optim.b2"),
    Mutant("b1 ignored", "train/optimizer.py", "b1=optim.b1", "b1=0.9", WIRING + "optim.b1"),
    Mutant(
        "weight_decay ignored",
        "train/optimizer.py",
        "weight_decay=optim.weight_decay",
        "weight_decay=0.05",
        WIRING + "optim.weight_decay",
    ),
    Mutant(
        "decay_rules ignored",
        "train/optimizer.py",
        "decay_rules=optim.decay_rules",
        "decay_rules=()",
        WIRING + "optim.decay_rules",
    ),
    Mutant(
        "ema ignored",
        "train/compile.py",
        "ema_decay=config.optim.ema",
        "ema_decay=0.0",
        WIRING + "optim.ema",
    ),
    Mutant(
        "seed of the step ignored",
        "train/compile.py",
        "        seed=config.seed,",
        "        seed=0,",
        WIRING + "the_seed_is",
    ),
    Mutant(
        "keep_best ignored",
        "train/loop.py",
        "keep_best=config.checkpoint.keep_best",
        "keep_best=1",
        WIRING + "checkpoint.keep_best",
    ),
    Mutant(
        "share_drop_path ignored",
        "tasks/attention_transfer.py",
        "share_drop_path=self.settings.share_drop_path",
        "share_drop_path=False",
        WIRING + "share_drop_path",
    ),
    Mutant(
        "unlabeled_weight ignored",
        "tasks/teaching.py",
        "self.settings.unlabeled_weight)",
        "1.0)",
        WIRING + "attention_transfer.unlabeled_weight",
    ),
    Mutant(
        "end_lr scaled with the batch",
        "train/schedule.py",
        "return optim.lr * scale, optim.end_lr",
        "return optim.lr * scale, optim.end_lr * scale",
        "test_configs.py",
    ),
    Mutant(
        "repeats ignored",
        "train/inputs.py",
        "repeats=c.data.repeats",
        "repeats=1",
        WIRING + "data.repeats",
    ),
    Mutant(
        "copies of an image are mixed together",
        "data/repeated_order.py",
        "place * self._parts + part",
        "row",
        "data/test_repeated_order.py",
    ),
    Mutant(
        "the rate moves with every step",
        "train/learning_rate.py",
        "moves=optim.moves",
        'moves="step"',
        WIRING + "optim.moves",
    ),
    Mutant(
        "averages begin at once",
        "train/compile.py",
        "ema_start=config.optim.ema_start",
        'ema_start="fixed"',
        WIRING + "optim.ema_start",
    ),
    Mutant(
        "one trust ratio for a whole stack",
        "train/trust_ratio.py",
        "(jax.vmap(scaled) if stacked else scaled)(update, param)",
        "scaled(update, param)",
        "train/test_trust_ratio.py",
    ),
    # --- losses ---
    Mutant(
        "weighted mean → mean",
        "tasks/teaching.py",
        "(losses * self.weights).sum() / self.weights.sum()",
        "losses.mean()",
        "tasks/test_teaching.py -k weighted_mean",
    ),
    Mutant(
        "temperature² left out",
        "tasks/distillation.py",
        ".sum(axis=-1) * temperature**2",
        ".sum(axis=-1)",
        "tasks/test_teaching.py",
    ),
    Mutant(
        "the teacher does not take the student's kernel",
        "tasks/teachers.py",
        "        attention=student.attention,\n",
        "",
        "tasks/test_teaching.py tasks/test_teachers.py",
    ),
    Mutant(
        "no drop path in teaching tasks",
        "tasks/teaching.py",
        "images, True, rngs)",
        "images, False, None)",
        WIRING + "share_drop_path",
    ),
    Mutant(
        "the maximum not subtracted",
        "transfer/map_free.py",
        "highest = scores.max(axis=-1, keepdims=True)",
        "highest = jnp.zeros_like(scores[..., :1])",
        "transfer/test_attention_losses.py",
    ),
    Mutant(
        "map-free products in the inputs' type",
        "transfer/map_free.py",
        "product = partial(jnp.einsum, preferred_element_type=wide)",
        "product = partial(jnp.einsum, preferred_element_type=dtype)",
        "transfer/test_attention_losses.py",
    ),
    Mutant(
        "a mean over groups of heads is a sum",
        "transfer/averaging.py",
        "*maps.shape[2:]).mean(axis=2)",
        "*maps.shape[2:]).sum(axis=2)",
        "transfer/test_matching.py",
    ),
    Mutant(
        "the teacher gets gradients of features",
        "transfer/losses.py",
        "jax.lax.stop_gradient(teacher).astype(wide)",
        "teacher.astype(wide)",
        "transfer/test_attention_losses.py",
    ),
    # --- steps ---
    Mutant(
        "batch statistics dropped when accumulating",
        "train/state.py",
        "return loss, Aux(metrics, collections), grads",
        "return loss, Aux(metrics), grads",
        "train/test_state.py",
    ),
    Mutant(
        "one key for all parts of a batch",
        "train/state.py",
        "part_key = jax.random.fold_in(key, index)",
        "part_key = key",
        "train/test_state.py",
    ),
    Mutant(
        "the step is not counted",
        "train/state.py",
        "state.step + 1, params",
        "state.step, params",
        "train/test_state.py",
    ),
    Mutant(
        "frozen parameters learn",
        "train/state.py",
        "jax.lax.stop_gradient(param) if still else param",
        "param",
        "train/test_state.py",
    ),
    Mutant(
        "the second stream in the first's order",
        "train/inputs.py",
        "c.seed + 1_000_003 * stream",
        "c.seed",
        "train/test_loop_order.py",
    ),
    Mutant(
        "metrics read at once",
        "train/step_log.py",
        "        self.flush()\n        self._pending = (step, metrics)",
        "        self._pending = (step, metrics)\n        self.flush()",
        "train/test_loop_order.py train/test_step_log.py",
    ),
    Mutant(
        "no flush before a checkpoint",
        "train/loop.py",
        "                log.flush()\n",
        "                pass\n",
        "train/test_loop_order.py train/test_rescue.py",
    ),
    Mutant(
        "benchmarks on fresh weights",
        "train/dense_benchmarks.py",
        "whole_on_host(variables), whole_on_host(frozen)",
        "whole_on_host(self._task.init(jax.random.key(0))), whole_on_host(frozen)",
        "train/test_loop_order.py train/test_dense_benchmarks.py",
    ),
    # --- networks and figures ---
    Mutant(
        "overlapping cells taken as side by side",
        "models/cell_places.py",
        "CellAxis(1 + (n - patch) // step, n / step, patch / (2 * step))",
        "even_axis(1 + (n - patch) // step)",
        "models/test_cell_places.py",
    ),
    Mutant(
        "objects up to the largest number",
        "evaluate/videos/davis.py",
        "    objects = labels_of(truth[0])\n",
        "    objects = np.arange(1, labels_of(truth[0]).max(initial=0) + 1)\n",
        "evaluate/videos/test_davis.py",
    ),
    Mutant(
        "photographs as they are stored",
        "data/sources/upright_photo.py",
        "upright(decode_image(path, str(path)), orientation(path))",
        "decode_image(path, str(path))",
        "data/sources/test_upright_photo.py",
    ),
    Mutant(
        "a list's first line is always a header",
        "evaluate/correspondence/keypoint_layouts.py",
        "enumerate(rows, start=1)",
        "enumerate(rows[1:], start=2)",
        "evaluate/correspondence/test_keypoint_layouts.py",
    ),
    Mutant(
        "one class is scored",
        "evaluate/open_benchmark.py",
        "    benchmark.check_classes()\n",
        "",
        "evaluate/segmentation/test_probe.py -k one_class",
    ),
    Mutant(
        "sine and cosine exchanged",
        "models/transformer/positions.py",
        "halves += [np.sin(angles), np.cos(angles)]",
        "halves += [np.cos(angles), np.sin(angles)]",
        "models/test_positions.py models/test_masked_autoencoder.py",
    ),
    Mutant(
        "visible patches count in the loss",
        "models/mae.py",
        "return (error * mask).sum() / mask.sum(), prediction, mask",
        "return error.mean(), prediction, mask",
        "models/test_masked_autoencoder.py",
    ),
    Mutant(
        "NaN is kept first",
        "models/filter/selection.py",
        "jnp.where(jnp.isnan(scores), -jnp.inf, scores)",
        "jnp.where(jnp.isnan(scores), jnp.inf, scores)",
        "models/filter/test_selection.py",
    ),
    Mutant(
        "kept tokens in the order of their scores",
        "models/filter/selection.py",
        "jnp.sort(find(scores, number)[1], axis=-1).astype(jnp.int32)",
        "find(scores, number)[1].astype(jnp.int32)",
        "models/filter/test_selection.py",
    ),
    Mutant(
        "the same images of every class for any seed",
        "data/sources/source.py",
        "np.random.default_rng((seed, label))",
        "np.random.default_rng((0, label))",
        WIRING + "subset_seed",
    ),
    Mutant(
        "scores of maps without their scale",
        "models/attention/kernels.py",
        "as fast\n    scores = scale * ",
        "as fast\n    scores = ",
        "models/test_kernels.py models/test_collections.py",
    ),
    Mutant(
        "label smoothing ignored",
        "tasks/supervised.py",
        "smoothing = self.settings.label_smoothing",
        "smoothing = 0.0",
        WIRING + "classification.label_smoothing",
    ),
    Mutant(
        "a tie is a hit",
        "evaluate/classification/hit_counts.py",
        "not_below = ~true & ~(logits < own)",
        "not_below = ~true & (logits > own)",
        "evaluate/classification/test_hit_counts.py",
    ),
    Mutant(
        "padding counts",
        "evaluate/classification/hit_counts.py",
        'return {**sums, "count": mask.sum()}',
        'return {**sums, "count": mask.size}',
        "evaluate/classification/test_hit_counts.py train/test_devices.py",
    ),
    # --- published sets ---
    Mutant(
        "suite: categories sorted as text",
        "data/sources/inaturalist.py",
        "for number in sorted(numbers)",
        "for number in sorted(numbers, key=str)",
        "data/sources/test_inaturalist.py",
    ),
    Mutant(
        "suite: V2's folders in the order of their names",
        "suites/imagenet_suites.py",
        "tuple(synsets()[int(one)] for one in source.class_names)",
        "synsets()[: source.num_classes]",
        "suites/test_known_suites.py",
    ),
    Mutant(
        "suite: the development kit's numbers are taken for outputs",
        "suites/validation_list.py",
        "entries = _of_the_kit(name, found, entries)",
        "pass",
        "suites/test_known_suites.py",
    ),
    Mutant(
        "suite: all outputs of A can be predicted",
        "suites/imagenet_suites.py",
        "dataclasses.replace(one, scored=synsets_of(suite.name))",
        "one",
        "suites/test_known_suites.py evaluate/classification/test_suites.py",
    ),
    Mutant(
        "suite: ImageNet-C is resized",
        "suites/imagenet_suites.py",
        "open_one, crop_only=True",
        "open_one, crop_only=False",
        "evaluate/classification/test_suites.py",
    ),
    Mutant(
        "suite: padding is scored in a run",
        "train/suite_evaluation.py",
        'np.where(rows["mask"][:, None], right, -1)',
        "right",
        "train/test_suite_evaluation.py",
    ),
    Mutant(
        "suite: at every evaluation",
        "train/suite_evaluation.py",
        "if not last and (not self._every or step % self._every):",
        "if False:",
        "train/test_suite_evaluation.py -k when",
    ),
    # --- analysis and faithfulness ---
    Mutant(
        "analysis: distances by the grid turned around",
        "analysis/attention_statistics.py",
        "jnp.indices(grid)",
        "jnp.indices(grid[::-1])",
        "analysis/test_attention_statistics.py",
    ),
    Mutant(
        "analysis: rows not made to sum to 1 again",
        "analysis/attention_statistics.py",
        "    if renormalize:",
        "    if False:",
        "analysis/test_attention_statistics.py",
    ),
    Mutant(
        "analysis: divergence in bits",
        "analysis/head_matching.py",
        "jnp.moveaxis(bits, 0, 1) * math.log(2)",
        "jnp.moveaxis(bits, 0, 1)",
        "analysis/test_head_matching.py",
    ),
    Mutant(
        "analysis: nearest heads for matched ones",
        "analysis/head_matching.py",
        'match_heads(mean) if how == "hungarian" else',
        'mean.argmin(1) if how == "hungarian" else',
        "analysis/test_head_matching.py",
    ),
    Mutant(
        "analysis: ratios of batches averaged",
        "analysis/layer_similarity.py",
        "    batches = list(terms)\n    if not",
        "    batches = list(terms)[:1]\n    if not",
        "analysis/test_layer_similarity.py",
    ),
    Mutant(
        "analysis: gaussians of all distances' median",
        "evaluate/similarity/cka.py",
        ".ravel())[n:]",
        ".ravel())",
        "analysis/test_layer_similarity.py",
    ),
    Mutant(
        "averaging: filled rows count",
        "tasks/attention_transfer.py",
        'False, None, batch["mask"])',
        "False, None)",
        "transfer/test_averaging.py",
    ),
    Mutant(
        "averaging: images for queries",
        "transfer/averaging.py",
        'if over == "queries"',
        'if over == "images"',
        "transfer/test_averaging.py",
    ),
    Mutant(
        "averaging: heads ignored",
        "transfer/spec.py",
        '"average" if self.average == "heads" else self.match_heads',
        "self.match_heads",
        "transfer/test_averaging.py",
    ),
    Mutant(
        "perturbation: ties from the last",
        "evaluate/faithfulness/perturbation.py",
        'axis=1, kind="stable")\n',
        'axis=1, kind="stable")[:, ::-1]\n',
        "evaluate/faithfulness/test_perturbation.py",
    ),
    Mutant(
        "perturbation: area without its ends halved",
        "evaluate/faithfulness/perturbation.py",
        "(curve.sum(-1) - (curve[..., 0] + curve[..., -1]) / 2)",
        "(curve.sum(-1) - curve[..., 0])",
        "evaluate/faithfulness/test_perturbation.py",
    ),
    Mutant(
        "perturbation: SaCo by less effect",
        "evaluate/faithfulness/perturbation.py",
        "effect[:, first] >= effect[:, second]",
        "effect[:, first] <= effect[:, second]",
        "evaluate/faithfulness/test_perturbation.py",
    ),
    Mutant(
        "localisation: ties one by one",
        "evaluate/faithfulness/localisation.py",
        "np.append(np.nonzero(np.diff(ranked))[0], len(ranked) - 1)",
        "np.arange(len(ranked))",
        "evaluate/faithfulness/test_localisation.py",
    ),
    Mutant(
        "localisation: ignored pixels count",
        "evaluate/faithfulness/localisation.py",
        "    counts = mask != IGNORED",
        "    counts = mask != 5",
        "evaluate/faithfulness/test_localisation.py",
    ),
    Mutant(
        "masks: stuff is an object",
        "evaluate/faithfulness/object_masks.py",
        "(ids > 0) & (ids <= _LAST_THING)",
        "ids > 0",
        "evaluate/faithfulness/test_object_masks.py",
    ),
    Mutant(
        "unread tokens: a token of a head is left out",
        "explain/methods/unread_tokens.py",
        'rows = f"blocks_{model.depth - 1}", model.prefix_tokens',
        'rows = f"blocks_{model.depth - 1}", 1',
        "explain/methods/test_unread_tokens.py",
    ),
    # --- boxes, masks and their figures ---
    Mutant(
        "targets: a mirror off by one pixel",
        "data/frame.py",
        "0.0, float(width), height, width)",
        "0.0, float(width - 1), height, width)",
        "data/test_frame.py",
    ),
    Mutant(
        "targets: masks not mirrored",
        "data/target_arrays.py",
        "return mask[:, ::-1] if frame.move.scale_x < 0 else mask",
        "return mask",
        "data/test_target_arrays.py",
    ),
    Mutant(
        "targets: crowds learned",
        "data/target_arrays.py",
        "objects = objects.targets",
        "objects = objects",
        "data/test_target_arrays.py",
    ),
    Mutant(
        "targets: the smallest objects kept",
        "data/target_arrays.py",
        'np.argsort(-areas[rows], kind="stable")',
        'np.argsort(areas[rows], kind="stable")',
        "data/test_target_arrays.py",
    ),
    Mutant(
        "targets: padding has class 0",
        "data/target_arrays.py",
        '"box_labels": -1, ',
        '"box_labels": 0, ',
        "data/test_target_arrays.py data/sources/test_coco_instances.py",
    ),
    Mutant(
        "targets: two draws place a jittered box",
        "data/scaling.py",
        "* place) for side, most",
        "* rng.random()) for side, most",
        "data/test_scaling.py",
    ),
    Mutant(
        "targets: boxes without a part in the image kept",
        "data/objects.py",
        "finite & ~nothing",
        "finite",
        "data/sources/test_coco_instances.py",
    ),
    Mutant(
        "targets: VOC's boxes from 1",
        "data/sources/voc_layout.py",
        "return [x0 - 1, y0 - 1, x1, y1]",
        "return [x0, y0, x1, y1]",
        "data/sources/test_voc_objects.py",
    ),
    Mutant(
        "targets: YOLO's boxes twice as large",
        "data/sources/yolo_labels.py",
        "values[3:] * sides / 2",
        "values[3:] * sides",
        "data/sources/test_yolo_labels.py",
    ),
    Mutant(
        "targets: unlabeled is a class",
        "data/sources/label_map_source.py",
        "classes = {number: name for number, name in classes.items() if number not in unnamed}",
        "unnamed = set()",
        "data/sources/test_label_map_source.py",
    ),
    Mutant(
        "targets: crowds count as missed",
        "evaluate/detection/coco_metrics.py",
        "int(objects.crowd[row] or objects.hard[row])",
        "0",
        "evaluate/detection/test_coco_metrics.py",
    ),
    Mutant(
        "targets: sizes of masks by their boxes",
        "evaluate/detection/coco_metrics.py",
        "float(area(one.outlines[row]))",
        "box[2] * box[3]",
        "evaluate/detection/test_coco_metrics.py",
    ),
    Mutant(
        "targets: hard objects count",
        "evaluate/detection/voc_metrics.py",
        "if true.hard[best]:",
        "if False:",
        "evaluate/detection/test_voc_metrics.py",
    ),
    Mutant(
        "targets: boxes scaled by the other side",
        "evaluate/detection/found_objects.py",
        "(width / content[1], height / content[0])",
        "(height / content[0], width / content[1])",
        "test_detect.py -k program",
    ),
]


def main(words: list[str]) -> int:
    """Runs the mutants, a line each."""
    chosen = [one for one in MUTANTS if not words or any(word in one.name for word in words)]
    for one in chosen:
        check(one)
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*LEFT_OUT))
        if (ROOT.parent / "shared").exists():
            (tree.parent / "shared").symlink_to(ROOT.parent / "shared")
        missed = [one.name for one in chosen if not noticed(one, tree)]
    print(f"{len(chosen) - len(missed)} of {len(chosen)} noticed")
    return 1 if missed else 0


def check(one: Mutant) -> None:
    """ValueError for a mutant that is no longer one, because the code has changed."""
    count = (ROOT / PACKAGE / one.file).read_text().count(one.old)
    if count != 1:
        raise ValueError(f"{one.name}: {one.old!r} stands {count} times in {one.file}, not once")


def noticed(one: Mutant, tree: pathlib.Path) -> bool:
    """Whether the mutant's tests fail on it."""
    path = tree / PACKAGE / one.file
    text = path.read_text()
    path.write_text(text.replace(one.old, one.new))
    begun = time.monotonic()
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache/jax"))
    environment = {**os.environ, "PYTHONPATH": str(tree), "JAX_COMPILATION_CACHE_DIR": cache}
    files, _, case = one.tests.partition(" -k ")
    arguments = [f"tests/{name}" for name in files.split()] + (["-k", case] if case else [])
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", *arguments],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
    )
    path.write_text(text)
    if ended.returncode not in (0, 1):  # pytest's own: 1 = a test failed
        raise RuntimeError(f"{one.name}: pytest could not run\n{ended.stdout}{ended.stderr}")
    failed = [line for line in ended.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    said = failed[0].split(" - ")[0] if failed else "NOT NOTICED"
    print(f"{time.monotonic() - begun:5.0f} s  {one.name}: {said}", flush=True)
    return ended.returncode == 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

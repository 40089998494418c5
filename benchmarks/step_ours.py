"""A step of ours as the training loop takes it, built and run in a process of its own."""

import time
from typing import Any

import jax
import numpy as np
import optax

from benchmarks.step_case import (
    CLASSES,
    LEARNING_RATE,
    SAVERS,
    WEIGHT,
    WEIGHT_DECAY,
    Case,
    Contender,
)
from vit_jax_xfer import compiler_options, create_model
from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.pretrained.parameter_rules import stack_blocks
from vit_jax_xfer.tasks.attention_transfer import AttentionTransfer, AttentionTransferSettings
from vit_jax_xfer.tasks.supervised import Classification, ClassificationSettings
from vit_jax_xfer.tasks.task import Task
from vit_jax_xfer.train.state import make_train_step, new_state, step_key
from vit_jax_xfer.transfer.spec import Transfer


def network(case: Case, **fields: Any) -> VisionTransformer:
    """The network of a case."""
    return create_model(case.model, image_size=case.size, num_classes=CLASSES, **fields)


def fresh(model: VisionTransformer, seed: int) -> Any:
    """Its variables, the same for every contender. seed: 0 for the student, 1 for the teacher."""
    images = np.zeros((1, model.image_size, model.image_size, 3), np.float32)
    variables = jax.jit(model.clone(scan=False).init)(jax.random.key(seed), images)
    return {"params": stack_blocks(variables["params"])} if model.scan else variables


def batch_of(case: Case) -> dict[str, np.ndarray]:
    """Images (B, H, W, 3) float32 and labels (B,) int32 of a case: random, for time is the same."""
    random = np.random.default_rng(0)
    shape = (case.batch, case.size, case.size, 3)
    images = random.standard_normal(shape, np.float32)
    return {"image": images, "label": random.integers(0, CLASSES, case.batch, np.int32)}


class OurStep:
    """A compiled step; `about` has what the compiler tells."""

    def __init__(self, case: Case, contender: Contender) -> None:
        jax.config.update("jax_enable_compilation_cache", False)  # so that compile_s is true
        # As PyTorch's default: float32 products are not rounded to TF32.
        jax.config.update("jax_default_matmul_precision", "highest")
        if contender.multiplies_in == "bfloat16":
            jax.config.update("jax_default_matmul_precision", "default")
        self._case = case
        fields = dict(SAVERS[contender.saver])
        if contender.small_products:
            fields["product_dtype"] = jax.numpy.dtype("bfloat16")
        if contender.kernel not in ("", "fused"):
            fields["attention"] = contender.kernel
        self._loss_kernel = "fused" if contender.kernel == "fused" else "auto"
        model = network(case, dtype=jax.numpy.dtype(contender.dtype), **fields)
        build = self._inference if case.what == "inference" else self._training
        traced = build(model, contender.maps)
        lowered = traced.lower()
        begin = time.perf_counter()
        options = {}
        if contender.saver != "defaults":
            options = compiler_options(program=traced, library=contender.library or None)
        self._program = lowered.compile(options)
        analysis = self._program.memory_analysis()
        self.about = {
            "compile_s": round(time.perf_counter() - begin, 1),
            "temporary_MiB": round(analysis.temp_size_in_bytes / 2**20) if analysis else None,
            "device": jax.devices()[0].device_kind,
            "version": jax.__version__,
        }

    def _inference(self, model: VisionTransformer, maps: bool) -> jax.stages.Traced:
        self._arguments = jax.device_put((fresh(model, 0), batch_of(self._case)["image"]))
        return jax.jit(model.apply).trace(*self._arguments)

    def _training(self, model: VisionTransformer, maps: bool) -> jax.stages.Traced:
        task: Task = Classification(model, ClassificationSettings())
        if self._case.what != "scratch":
            kernel = self._loss_kernel
            transfer = Transfer(self._case.what, materialize=maps, loss_kernel=kernel)
            settings = AttentionTransferSettings(transfer=transfer, weight=WEIGHT)
            teacher = model.clone(remat="none")
            task = AttentionTransfer(model, settings, teacher, fresh(teacher, 1))
        variables = fresh(model, 0)
        optimizer = optax.adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        state = jax.jit(lambda variables: new_state(variables, optimizer, False))(variables)
        learns = jax.tree.map(lambda _: False, variables["params"])
        step = make_train_step(task, optimizer, learns, ema_decay=0.0, accumulate=1)
        given = (task.frozen, batch_of(self._case), step_key(0))
        self._arguments = (state, *jax.device_put(given))
        return jax.jit(step, donate_argnums=0).trace(*self._arguments)

    def program_text(self) -> str:
        """The compiled program, as XLA writes it down."""
        return self._program.as_text()

    def bytes_needed(self) -> int:
        """Arguments and temporaries of a step."""
        analysis = self._program.memory_analysis()
        return analysis.temp_size_in_bytes + analysis.argument_size_in_bytes

    def __call__(self) -> float:
        """Takes a step and waits for it: the loss, or the logits' root mean square."""
        if self._case.what == "inference":
            logits = jax.block_until_ready(self._program(*self._arguments))
            return float(np.sqrt(np.square(np.asarray(logits)).mean()))
        state, metrics = self._program(*self._arguments)
        self._arguments = (state, *self._arguments[1:])
        jax.block_until_ready(state)
        return float(metrics["loss"])

    def peak_bytes(self) -> int | None:
        """The device's own count; None where it keeps none."""
        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")

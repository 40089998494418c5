"""Inference of our network by ONNX Runtime and OpenVINO, built and run in a process of its own."""

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.step_case import Case, Contender, Skipped
from benchmarks.step_ours import batch_of, fresh, network
from vit_jax_xfer.pretrained.onnx_export import INPUT, export_onnx

Run = Callable[[np.ndarray], np.ndarray]


class RuntimeStep:
    """Logits of our network as an ONNX file with a fixed batch, made once for all runtimes."""

    def __init__(self, case: Case, contender: Contender, threads: int, folder: Path) -> None:
        name = contender.framework
        if importlib.util.find_spec(name) is None:
            raise Skipped(f"{name} is not installed: pip install 'vit_jax_xfer[runtimes]'")
        path = folder / f"{case.model}_{case.size}_{case.batch}.onnx"
        if not path.exists():
            model = network(case)
            try:
                export_onnx(path, model, fresh(model, 0), batch_size=case.batch)
            except ImportError as error:
                raise Skipped(str(error)) from None
        begin = time.perf_counter()
        open_file = {"onnxruntime": _onnxruntime, "openvino": _openvino}[name]
        self._run, version = open_file(path, contender.dtype, threads)
        self._images = batch_of(case)["image"]
        compiled = round(time.perf_counter() - begin, 1)
        self.about = {"device": "cpu", "version": version, "compile_s": compiled}

    def __call__(self) -> float:
        """The logits' root mean square."""
        return float(np.sqrt(np.square(self._run(self._images)).mean()))


def _onnxruntime(path: Path, dtype: str, threads: int) -> tuple[Run, str]:
    import onnxruntime

    if dtype != "float32":
        raise Skipped("ONNX Runtime has no switch to bfloat16 for a float32 file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors alone
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {INPUT: images})[0], onnxruntime.__version__


def _openvino(path: Path, dtype: str, threads: int) -> tuple[Run, str]:
    import openvino

    # Left to itself it multiplies in bfloat16 wherever the processor can.
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[dtype],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
    }
    core = openvino.Core()
    request = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()
    version = openvino.__version__.partition("-")[0]  # without its build
    return lambda images: request.infer([images], share_inputs=True)[0], version
